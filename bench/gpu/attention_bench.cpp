// SPDX-License-Identifier: Apache-2.0
// Sparse MLA over random indices: ic_attention_run, prefill over bf16 KV and decode over 656-byte fp8 KV in pages
// of 64.
#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "device.h"
#include "fill.h"
#include "full_layer.h"
#include "library.h"
#include "measure.h"

namespace bench {
namespace {

constexpr int32_t kLatent = 512;
constexpr int32_t kRope = 64;
constexpr int32_t kPageTokens = 64;

struct AttentionShape {
  int32_t rows;  // prefill: of one sequence; decode: one per request
  int32_t heads;
  int32_t context;
  bool decode;

  int64_t sequences() const { return decode ? rows : 1; }
  int64_t token_bytes() const { return decode ? 656 : 2 * (kLatent + kRope); }
};

class SparseAttention {
 public:
  SparseAttention(const AttentionShape &shape, int32_t num_sets)
      : shape_(shape),
        q_(int64_t{num_sets} * shape.rows * shape.heads * (kLatent + kRope)),
        kv_(num_sets * shape.sequences() * shape.context * shape.token_bytes()),
        indices_(int64_t{num_sets} * shape.rows * kTopK),
        lengths_(std::vector<int32_t>(static_cast<size_t>(shape.rows), kTopK)),
        key_end_(std::vector<int32_t>(static_cast<size_t>(shape.rows), shape.context)),
        out_(int64_t{shape.rows} * shape.heads * kLatent) {
    fill_normal(q_.data(), IC_DTYPE_BF16, q_.size(), 6);
    const int64_t tokens = num_sets * shape.sequences() * shape.context;
    if (shape.decode) {
      fill_kv_fp8(kv_.data(), tokens, 7);
    } else {
      fill_normal(kv_.data(), IC_DTYPE_BF16, tokens * (kLatent + kRope), 7);
    }
    fill_indices(indices_.data(), int64_t{num_sets} * shape.rows, kTopK, shape.context, 8);
    std::vector<int32_t> row_seq(static_cast<size_t>(shape.rows), 0);
    if (shape.decode) std::iota(row_seq.begin(), row_seq.end(), 0);
    row_seq_ = DeviceArray<int32_t>(row_seq);
    std::vector<int32_t> pages(static_cast<size_t>(tokens / kPageTokens));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(9));
    pages_ = DeviceArray<int32_t>(pages);

    ic_attention_desc desc = IC_ATTENTION_DESC_INIT;
    desc.num_heads = shape.heads;
    desc.d_latent = kLatent;
    desc.d_rope = kRope;
    desc.kv_dtype = shape.decode ? IC_DTYPE_E4M3 : IC_DTYPE_BF16;
    desc.q_dtype = IC_DTYPE_BF16;
    desc.softmax_scale = 1.0f / 24.0f;
    ic_attention *handle = nullptr;
    check(ic_attention_create(context(), &desc, &handle));
    attention_.reset(handle);
    check(ic_attention_workspace_size(handle, shape.rows, kTopK, &workspace_size_));
    workspace_ = DeviceArray<uint8_t>(static_cast<int64_t>(workspace_size_));
  }

  void run(int32_t set, ic_stream stream) {
    const int64_t first_token = set * shape_.sequences() * shape_.context;
    ic_block_table table = IC_BLOCK_TABLE_INIT;
    table.pages = pages_.at(first_token / kPageTokens);
    table.num_blocks = shape_.context / kPageTokens;
    table.page_tokens = kPageTokens;
    ic_batch batch = IC_BATCH_INIT;
    batch.num_rows = shape_.rows;
    batch.num_seqs = static_cast<int32_t>(shape_.sequences());
    batch.max_key_end = shape_.context;
    batch.row_seq = row_seq_.data();
    batch.key_end = key_end_.data();
    ic_pool kv = IC_POOL_INIT;
    if (shape_.decode) {
      batch.block_tables = &table;
      batch.num_block_tables = 1;
      kv.layout = IC_LAYOUT_PAGED;
      kv.data = kv_.data();
      kv.capacity = pages_.size();
    } else {
      kv.layout = IC_LAYOUT_CONTIGUOUS;
      kv.data = kv_.at(first_token * shape_.token_bytes());
      kv.capacity = shape_.context;
    }
    ic_index_view view = IC_INDEX_VIEW_INIT;
    view.indices = indices_.at(int64_t{set} * shape_.rows * kTopK);
    view.lengths = lengths_.data();
    view.row_stride = kTopK;
    view.num_rows = shape_.rows;
    view.k = kTopK;
    view.kind = IC_INDEX_LOGICAL;
    ic_attention_args args = IC_ATTENTION_ARGS_INIT;
    args.q = q_.at(int64_t{set} * shape_.rows * shape_.heads * (kLatent + kRope));
    args.kv = &kv;
    args.out = out_.data();
    check(ic_attention_run(attention_.get(), &batch, 0, &view, &args, workspace_.data(), workspace_size_, stream));
  }

 private:
  AttentionShape shape_;
  Owner<ic_attention> attention_;
  DeviceArray<uint16_t> q_;  // bf16, as the output
  DeviceArray<uint8_t> kv_;
  DeviceArray<int32_t> indices_;
  DeviceArray<int32_t> lengths_;
  DeviceArray<int32_t> key_end_;
  DeviceArray<uint16_t> out_;
  DeviceArray<int32_t> row_seq_;
  DeviceArray<int32_t> pages_;
  size_t workspace_size_ = 0;
  DeviceArray<uint8_t> workspace_;
};

void add_attention(const AttentionShape &shape) {
  const std::string name = std::string(shape.decode ? "mla_decode/requests:" : "mla_prefill/rows:") +
                           std::to_string(shape.rows) + "/heads:" + std::to_string(shape.heads) +
                           "/context:" + std::to_string(shape.context / 1024) + "K";
  add(name, shape.decode ? benchmark::kMicrosecond : benchmark::kMillisecond, [=](benchmark::State &state) {
    const int64_t touched = int64_t{shape.rows} * kTopK * shape.token_bytes();
    const int32_t sets = shape.decode ? std::min(3, sets_past_l2(touched) + 1) : 1;
    SparseAttention attention(shape, sets);
    measure(state, sets, shape.decode ? Figure::kMedian : Figure::kSustained,
            [&](int32_t set, uint64_t, ic_stream stream) { attention.run(set, stream); });
    const double flops = 2.0 * shape.rows * shape.heads * kTopK * (2.0 * kLatent + kRope);
    state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  });
}

const bool kRegistered = [] {
  for (const int32_t heads : {128, 64})
    for (const int32_t context : {32768, 131072}) add_attention({4096, heads, context, false});
  add_attention({128, 128, 32768, true});
  add_attention({64, 64, 32768, true});
  return true;
}();

}  // namespace
}  // namespace bench

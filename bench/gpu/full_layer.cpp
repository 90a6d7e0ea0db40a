// SPDX-License-Identifier: Apache-2.0
// Inputs and calls of a Full layer.
#include "full_layer.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>

#include "fill.h"

namespace bench {

FullLayer::FullLayer(const LayerShape &shape, int32_t num_sets, int32_t max_part)
    : shape_(shape),
      max_part_(max_part),
      indexer_(make_indexer(shape.num_heads, kIndexDim, IC_DTYPE_E4M3)),
      topk_(make_topk(kTopK)),
      cache_(make_cache(indexer_.get(), topk_.get(), max_part)) {
  const int64_t heads = int64_t{num_sets} * shape.rows() * shape.num_heads;
  q_ = DeviceArray<uint8_t>(heads * kIndexDim);
  fill_index_queries(q_.data(), heads, kIndexDim, 1);
  w_ = DeviceArray<float>(heads);
  fill_weights(w_.data(), heads, 0.01f, 2);

  const int64_t set_keys = int64_t{shape.requests} * shape.context;
  const int64_t keys = num_sets * set_keys;
  IndexKeys places{nullptr, nullptr, nullptr, shape.page_tokens, keys, shape.context, kIndexDim};
  if (shape.page_tokens > 0) {  // pages as an allocator leaves them: in no order
    blocks_ = shape.context / shape.page_tokens;
    std::vector<int32_t> pages(static_cast<size_t>(keys / shape.page_tokens));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(3));
    pages_ = DeviceArray<int32_t>(pages);
    keys_ = DeviceArray<uint8_t>(keys * (kIndexDim + 4));
    places.pages = pages_.data();
  } else {
    keys_ = DeviceArray<uint8_t>(keys * kIndexDim);
    key_scales_ = DeviceArray<float>(keys);
  }
  places.data = keys_.data();
  places.scales = key_scales_.data();
  fill_index_keys(places, 4);

  std::vector<int32_t> row_seq;
  std::vector<int32_t> key_end;
  for (int32_t request = 0; request < shape.requests; ++request) {
    for (int32_t row = 0; row < shape.rows_per_request; ++row) {
      row_seq.push_back(request);
      key_end.push_back(shape.context - shape.rows_per_request + row + 1);
    }
  }
  row_seq_ = DeviceArray<int32_t>(row_seq);
  key_end_ = DeviceArray<int32_t>(key_end);

  size_t forward_size = 0;
  size_t scores_size = 0;
  check(ic_forward_workspace_size(cache_.get(), max_part, shape.context, &forward_size));
  check(ic_indexer_scores_workspace_size(indexer_.get(), max_part, shape.context, &scores_size));
  workspace_size_ = std::max({forward_size, scores_size, size_t{256}});
  workspace_ = DeviceArray<uint8_t>(static_cast<int64_t>(workspace_size_));
}

const ic_batch &FullLayer::batch_of(int32_t set, int32_t begin, int32_t count) {
  batch_.num_rows = count;
  batch_.num_seqs = shape_.requests;
  batch_.row_seq = row_seq_.at(begin);
  batch_.key_end = key_end_.at(begin);
  batch_.max_key_end = shape_.requests == 1 ? shape_.context - shape_.rows_per_request + begin + count : shape_.context;
  if (shape_.page_tokens > 0) {
    table_.pages = pages_.at(set * shape_.requests * blocks_);
    table_.num_blocks = static_cast<int32_t>(blocks_);
    table_.page_tokens = shape_.page_tokens;
    batch_.block_tables = &table_;
    batch_.num_block_tables = 1;
  }
  return batch_;
}

ic_queries FullLayer::queries_of(int32_t set, int32_t begin) const {
  const int64_t head = (int64_t{set} * shape_.rows() + begin) * shape_.num_heads;
  ic_queries queries = IC_QUERIES_INIT;
  queries.q = q_.at(head * kIndexDim);
  queries.w = w_.at(head);
  return queries;
}

ic_pool FullLayer::keys_of(int32_t set) const {
  ic_pool pool = IC_POOL_INIT;
  if (shape_.page_tokens > 0) {
    pool.layout = IC_LAYOUT_PAGED;
    pool.data = keys_.data();
    pool.capacity = pages_.size();
  } else {
    const int64_t first = int64_t{set} * shape_.requests * shape_.context;
    pool.layout = IC_LAYOUT_CONTIGUOUS;
    pool.data = keys_.at(first * kIndexDim);
    pool.scales = key_scales_.at(first);
    pool.capacity = shape_.context;
  }
  return pool;
}

ic_index_view FullLayer::forward(int32_t set, int32_t begin, int32_t count, uint64_t capture, ic_stream stream) {
  ic_batch batch = batch_of(set, begin, count);
  batch.capture_id = capture;
  check(ic_cache_begin(cache_.get(), &batch));
  const ic_queries queries = queries_of(set, begin);
  const ic_pool keys = keys_of(set);
  ic_forward_args args = IC_FORWARD_ARGS_INIT;
  args.layer = 0;
  args.row_count = IC_ALL_ROWS;
  args.queries = &queries;
  args.keys = &keys;
  args.workspace = workspace_.data();
  args.workspace_size = workspace_size_;
  ic_index_view view = IC_INDEX_VIEW_INIT;
  check(ic_forward(cache_.get(), &args, &view, stream));
  return view;
}

void FullLayer::scores(int32_t set, int32_t begin, int32_t count, float *out, uint32_t flags, ic_stream stream) {
  const ic_batch batch = batch_of(set, begin, count);
  const ic_queries queries = queries_of(set, begin);
  const ic_pool keys = keys_of(set);
  ic_scores_args args = IC_SCORES_ARGS_INIT;
  args.row_count = IC_ALL_ROWS;
  args.num_columns = shape_.context;
  args.queries = &queries;
  args.keys = &keys;
  args.scores = out;
  args.workspace = workspace_.data();
  args.workspace_size = workspace_size_;
  args.flags = flags;
  check(ic_indexer_scores(indexer_.get(), &batch, &args, stream));
}

void FullLayer::verify() {
  const int32_t count = std::min(max_part_, 64);
  const int32_t begin = shape_.rows() - count;  // long rows
  const DeviceArray<float> matrix(int64_t{count} * shape_.context);
  const ic_index_view view = forward(0, begin, count, 0, nullptr);
  scores(0, begin, count, matrix.data(), IC_SCORES_CLEAN, nullptr);
  BENCH_CUDA(cudaDeviceSynchronize());
  const int64_t wrong =
      count_wrong_rows(matrix.data(), count, shape_.context, view.indices, view.row_stride, view.lengths, kTopK);
  if (wrong > 0) {
    throw std::runtime_error(std::to_string(wrong) + " of " + std::to_string(count) + " rows are not the exact top-k");
  }
}

}  // namespace bench

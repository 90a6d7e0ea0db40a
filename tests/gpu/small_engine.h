// SPDX-License-Identifier: Apache-2.0
// A small engine over the C interface whose arrays lie where its backend wants them: the same calls on the CPU and on
// CUDA, every operation of the library once.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "indexcache.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

inline std::string last_error() {
  char text[768];
  ic_last_error(text, sizeof text);
  return text;
}

#define EXPECT_IC_OK(call) EXPECT_EQ((call), IC_OK) << ::ic::test::last_error()
#define ASSERT_IC_OK(call) ASSERT_EQ((call), IC_OK) << ::ic::test::last_error()

/// Arrays in device memory, which is host memory on the CPU backend.
class Memory {
 public:
  explicit Memory(bool cuda) : cuda_(cuda) {}
  template <class T>
  T *put(const std::vector<T> &values) {
    T *at;
    if (cuda_) {
      auto array = std::make_shared<DeviceArray<T>>(values);
      at = array->data();
      arrays_.push_back(std::move(array));
    } else {
      auto array = std::make_shared<std::vector<T>>(values);
      at = array->data();
      arrays_.push_back(std::move(array));
    }
    return at;
  }
  template <class T>
  void set(T *at, const std::vector<T> &values) const {
    if (cuda_) {
      upload(at, values.data(), values.size() * sizeof(T));
    } else {
      std::memcpy(at, values.data(), values.size() * sizeof(T));
    }
  }
  template <class T>
  std::vector<T> get(const T *at, size_t count) const {
    std::vector<T> values(count);
    if (cuda_) {
      IC_REQUIRE_CUDA(cudaDeviceSynchronize());
      IC_REQUIRE_CUDA(cudaMemcpy(values.data(), at, count * sizeof(T), cudaMemcpyDefault));
    } else {
      std::memcpy(values.data(), at, count * sizeof(T));
    }
    return values;
  }
  void *workspace(size_t bytes) {
    if (cuda_) return put(std::vector<uint8_t>(bytes + 1, 0xff));
    auto *at = put(std::vector<uint8_t>(bytes + 256, 0xff));
    return at + (256 - reinterpret_cast<uintptr_t>(at) % 256) % 256;
  }

 private:
  const bool cuda_;
  std::vector<std::shared_ptr<void>> arrays_;
};

/// Two sequences of 90 and 70 keys, six rows; layer 0 is Full, layer 1 Shared, layer 2 Full.
class SmallEngine {
 public:
  static constexpr int32_t kRows = 6, kSeqs = 2, kHeads = 4, kDim = 64, kK = 16, kPadded = 128, kMaxKeyEnd = 90;
  static constexpr int32_t kPageTokens = 16, kBlocks = 6, kPages = 14, kPositions = 90;
  static constexpr int32_t kAttentionHeads = 2, kLatent = 32, kRope = 16;

  SmallEngine(int32_t backend, int32_t dtype, uint32_t context_flags, uint32_t seed)
      : cuda(backend == IC_BACKEND_CUDA), memory(cuda) {
    ic_context_desc context_desc = IC_CONTEXT_DESC_INIT;
    context_desc.backend = backend;
    context_desc.flags = context_flags;
    EXPECT_IC_OK(ic_context_create(&context_desc, &context));
    ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
    schedule_desc.num_layers = 3;
    schedule_desc.pattern = "FSF";
    EXPECT_IC_OK(ic_schedule_create(&schedule_desc, &schedule));
    ic_indexer_desc indexer_desc = IC_INDEXER_DESC_INIT;
    indexer_desc.num_heads = kHeads;
    indexer_desc.head_dim = kDim;
    indexer_desc.dtype = dtype;
    EXPECT_IC_OK(ic_indexer_create(context, &indexer_desc, &indexer));
    ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
    topk_desc.k = kK;
    EXPECT_IC_OK(ic_topk_create(context, &topk_desc, &topk));
    ic_attention_desc attention_desc = IC_ATTENTION_DESC_INIT;
    attention_desc.num_heads = kAttentionHeads;
    attention_desc.d_latent = kLatent;
    attention_desc.d_rope = kRope;
    attention_desc.kv_dtype = IC_DTYPE_F32;
    attention_desc.q_dtype = IC_DTYPE_F32;
    attention_desc.softmax_scale = 0.3f;
    EXPECT_IC_OK(ic_attention_create(context, &attention_desc, &attention));
    ic_cache_desc cache_desc = IC_CACHE_DESC_INIT;
    cache_desc.schedule = schedule;
    cache_desc.indexer = indexer;
    cache_desc.topk = topk;
    cache_desc.attention = attention;
    cache_desc.max_rows = kRows;
    cache_desc.num_slots = 2;
    cache_desc.flags = IC_CACHE_SCORES;
    EXPECT_IC_OK(ic_cache_create(context, &cache_desc, &cache));

    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto floats = [&](int64_t count) {
      std::vector<float> values(static_cast<size_t>(count));
      for (float &v : values) v = normal(random);
      return values;
    };
    x = memory.put(floats(kRows * kHeads * kDim));
    key_x = memory.put(floats(kPages * kPageTokens * kDim));
    w = memory.put(floats(kRows * kHeads));
    tables = memory.put(floats(kPositions * 16));
    norm = memory.put(floats(kDim));
    kv = memory.put(floats(kPages * kPageTokens * (kLatent + kRope)));
    attention_q = memory.put(floats(kRows * kAttentionHeads * (kLatent + kRope)));
    const size_t element = dtype == IC_DTYPE_F32 ? 4 : dtype == IC_DTYPE_E4M3 ? 1 : 2;
    q = memory.put(std::vector<uint8_t>(kRows * kHeads * kDim * element));
    q_scale = dtype == IC_DTYPE_E4M3 ? memory.put(std::vector<float>(kRows * kHeads)) : nullptr;
    keys = memory.put(std::vector<uint8_t>(kPages * kPageTokens * (kDim * element + (q_scale == nullptr ? 0 : 4))));
    row_seq = memory.put(std::vector<int32_t>{0, 0, 0, 1, 1, 1});
    key_end = memory.put(std::vector<int32_t>{90, 89, 12, 70, 69, 0});
    pages = memory.put(std::vector<int32_t>{3, 0, 7, 9, 1, 5, 2, 4, 6, 8, 10, 13});
    std::vector<int32_t> key_positions;
    std::vector<int64_t> key_slots;
    for (int32_t slot = 0; slot < kPages * kPageTokens; ++slot) {
      key_positions.push_back(slot % kPositions);
      key_slots.push_back(slot);
    }
    positions = memory.put(key_positions);
    slots = memory.put(key_slots);
    scores = memory.put(std::vector<float>(kRows * kMaxKeyEnd, -7.0f));
    out = memory.put(std::vector<float>(kRows * kAttentionHeads * kLatent, -7.0f));
    lse = memory.put(std::vector<float>(kRows * kAttentionHeads, -7.0f));
    selected = memory.put(std::vector<int32_t>(kRows * kPadded, -7));
    selected_lengths = memory.put(std::vector<int32_t>(kRows, -7));
    remapped = memory.put(std::vector<int32_t>(kRows * kPadded, -7));
    remapped_lengths = memory.put(std::vector<int32_t>(kRows, -7));
    moved_rows = memory.put(std::vector<int32_t>{5, 0, -1, 3, 1, 1});
    ratios = memory.put(std::vector<float>(2 * kRows, -7.0f));
    common = memory.put(std::vector<int32_t>(kRows, -7));
    masses = memory.put(std::vector<float>(kRows * kK, -7.0f));
    mass_recall = memory.put(std::vector<float>(kRows, -7.0f));
    size_t size = 0;
    EXPECT_IC_OK(ic_forward_workspace_size(cache, kRows, kMaxKeyEnd, &size));
    workspace_size = size;
    EXPECT_IC_OK(ic_indexer_scores_workspace_size(indexer, kRows, kMaxKeyEnd, &size));
    workspace_size = std::max(workspace_size, size);
    EXPECT_IC_OK(ic_topk_select_workspace_size(topk, kRows, kMaxKeyEnd, &size));
    workspace_size = std::max(workspace_size, size);
    EXPECT_IC_OK(ic_topk_merge_workspace_size(topk, kRows, 1, &size));
    workspace_size = std::max(workspace_size, size);
    EXPECT_IC_OK(ic_attention_workspace_size(attention, kRows, kPadded, &size));
    workspace_size = std::max(workspace_size, size);
    EXPECT_IC_OK(ic_attention_mass_workspace_size(attention, kRows, kPadded, &size));
    workspace_size = std::max(workspace_size, size);
    EXPECT_IC_OK(ic_cache_compact_workspace_size(cache, kRows, &size));
    workspace_size = std::max(workspace_size, size);
    workspace = memory.workspace(workspace_size);
    EXPECT_IC_OK(ic_cache_export_size(cache, kRows, IC_EXPORT_SCORES, &block_size));
  }
  ~SmallEngine() {
    if (cuda) (void)cudaDeviceSynchronize();
    ic_cache_destroy(cache);
    ic_attention_destroy(attention);
    ic_topk_destroy(topk);
    ic_indexer_destroy(indexer);
    ic_schedule_destroy(schedule);
    ic_context_destroy(context);
  }
  SmallEngine(const SmallEngine &) = delete;
  SmallEngine &operator=(const SmallEngine &) = delete;

  ic_batch batch(uint64_t capture_id = 0, uint32_t flags = 0) {
    table = {pages, 0, kBlocks, kPageTokens};
    ic_batch batch = IC_BATCH_INIT;
    batch.num_rows = kRows;
    batch.num_seqs = kSeqs;
    batch.max_key_end = kMaxKeyEnd;
    batch.row_seq = row_seq;
    batch.key_end = key_end;
    batch.num_block_tables = 1;
    batch.block_tables = &table;
    batch.capture_id = capture_id;
    batch.flags = flags;
    return batch;
  }
  ic_status begin(uint64_t capture_id = 0, uint32_t flags = 0) {
    const ic_batch rows = batch(capture_id, flags);
    return ic_cache_begin(cache, &rows);
  }
  ic_pool key_pool() const {
    ic_pool pool = IC_POOL_INIT;
    pool.data = keys;
    pool.capacity = kPages;
    pool.layout = IC_LAYOUT_PAGED;
    return pool;
  }
  ic_pool kv_pool() const {
    ic_pool pool = key_pool();
    pool.data = kv;
    return pool;
  }
  ic_prepare_args prepare_args(int64_t count) const {
    ic_prepare_args args = IC_PREPARE_ARGS_INIT;
    args.count = count;
    args.x_dtype = IC_DTYPE_F32;
    args.flags = IC_PREPARE_HADAMARD;
    args.positions = positions;
    args.cos_table = tables;
    args.sin_table = tables;
    args.num_positions = kPositions;
    args.rope_dim = 32;
    return args;
  }
  ic_status prepare_queries(ic_stream stream) {
    ic_prepare_args args = prepare_args(kRows);
    args.x = x;
    args.q_out = q;
    args.q_scale_out = q_scale;
    return ic_indexer_prepare_queries(indexer, &args, stream);
  }
  ic_status prepare_keys(ic_stream stream) {
    ic_prepare_args args = prepare_args(kPages * kPageTokens);
    const ic_pool pool = key_pool();
    args.x = key_x;
    args.norm_weight = norm;
    args.norm_eps = 1e-6f;
    args.pool = &pool;
    args.slots = slots;
    args.page_tokens = kPageTokens;
    return ic_indexer_prepare_keys(indexer, &args, stream);
  }
  ic_queries queries() const {
    ic_queries queries = IC_QUERIES_INIT;
    queries.q = q;
    queries.w = w;
    queries.q_scale = q_scale;
    return queries;
  }
  ic_attention_args attention_args(const ic_pool *pool) const {
    ic_attention_args args = IC_ATTENTION_ARGS_INIT;
    args.q = attention_q;
    args.kv = pool;
    args.out = out;
    args.lse = lse;
    return args;
  }
  /// new_keys: writes some, those of the first query heads, into the first slots.
  ic_status forward(int32_t layer, ic_stream stream, ic_index_view *view = nullptr, bool new_keys = false) {
    const ic_queries full = queries();
    const ic_pool pool = key_pool(), kv_memory = kv_pool();
    const ic_attention_args attention_in = attention_args(&kv_memory);
    ic_forward_args args = IC_FORWARD_ARGS_INIT;
    args.layer = layer;
    args.row_count = IC_ALL_ROWS;
    args.queries = &full;
    args.keys = &pool;
    args.attention = &attention_in;
    ic_new_keys ready = IC_NEW_KEYS_INIT;
    ready.keys = q;
    ready.scales = q_scale;
    ready.slots = slots;
    ready.count = 20;
    args.new_keys = new_keys ? &ready : nullptr;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    return ic_forward(cache, &args, view, stream);
  }
  ic_status run_attention(const ic_index_view &view, ic_stream stream) {
    const ic_pool kv_memory = kv_pool();
    const ic_attention_args args = attention_args(&kv_memory);
    const ic_batch rows = batch();
    return ic_attention_run(attention, &rows, 0, &view, &args, workspace, workspace_size, stream);
  }
  ic_status run_mass(const ic_index_view &view, ic_stream stream) {
    const ic_pool kv_memory = kv_pool();
    const ic_batch rows = batch();
    ic_mass_args args = IC_MASS_ARGS_INIT;
    args.q = attention_q;
    args.kv = &kv_memory;
    args.mass = masses;
    return ic_attention_mass(attention, &rows, 0, &view, &args, workspace, workspace_size, stream);
  }
  ic_status score(ic_stream stream) {
    const ic_queries all = queries();
    const ic_pool pool = key_pool();
    const ic_batch rows = batch();
    ic_scores_args args = IC_SCORES_ARGS_INIT;
    args.row_count = IC_ALL_ROWS;
    args.queries = &all;
    args.keys = &pool;
    args.scores = scores;
    args.flags = IC_SCORES_CLEAN;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    return ic_indexer_scores(indexer, &rows, &args, stream);
  }
  ic_status select(ic_stream stream) {
    ic_select_args args = IC_SELECT_ARGS_INIT;
    args.scores = scores;
    args.end = key_end;
    args.num_rows = kRows;
    args.max_end = kMaxKeyEnd;
    args.indices = selected;
    args.lengths = selected_lengths;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    return ic_topk_select(topk, &args, stream);
  }
  ic_status merge(const ic_index_view &part, ic_stream stream) {
    ic_merge_args args = IC_MERGE_ARGS_INIT;
    args.in_indices = part.indices;
    args.in_scores = part.scores;
    args.in_lengths = part.lengths;
    args.num_parts = 1;
    args.num_rows = kRows;
    args.indices = selected;
    args.lengths = selected_lengths;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    return ic_topk_merge(topk, &args, stream);
  }
  ic_status remap(int32_t layer, int32_t layout, ic_stream stream) {
    ic_remap_args args = IC_REMAP_ARGS_INIT;
    args.source_layer = layer;
    args.layout = layout;
    args.slots = remapped;
    args.lengths = remapped_lengths;
    return ic_cache_remap(cache, &args, nullptr, stream);
  }
  ic_status compact(int32_t layer, ic_stream stream) {
    ic_compact_args args = IC_COMPACT_ARGS_INIT;
    args.source_layer = layer;
    args.publish_layer = layer;
    args.rows = moved_rows;
    args.num_rows = kRows;
    args.workspace = workspace;
    args.workspace_size = workspace_size;
    return ic_cache_compact(cache, &args, stream);
  }
  ic_status overlap(const ic_index_view &a, const ic_index_view &b, ic_stream stream) {
    ic_overlap_args args = IC_OVERLAP_ARGS_INIT;
    args.intersection = common;
    args.recall = ratios;
    args.jaccard = ratios + kRows;
    args.mass = masses;
    args.mass_recall = mass_recall;
    return ic_index_overlap(context, &a, &b, &args, stream);
  }
  ic_status export_to(int32_t layer, int32_t location, void *block, ic_stream stream) {
    return ic_cache_export(cache, layer, IC_EXPORT_SCORES, location, block, block_size, stream);
  }
  ic_status import_from(const void *block, ic_stream stream) {
    return ic_cache_import(cache, -1, 0, block, block_size, nullptr, stream);
  }
  uint32_t faults() {
    uint32_t bits = 0;
    EXPECT_IC_OK(ic_cache_faults(cache, 1, &bits, nullptr));
    return bits;
  }

  /// Every operation once, in the order of an engine; block: host memory that the context's device can reach.
  void run_everything(void *block, uint64_t capture_id, ic_stream stream) {
    ic_index_view first = IC_INDEX_VIEW_INIT, last = IC_INDEX_VIEW_INIT;
    ASSERT_IC_OK(prepare_keys(stream));
    ASSERT_IC_OK(prepare_queries(stream));
    ASSERT_IC_OK(score(stream));
    ASSERT_IC_OK(select(stream));
    ASSERT_IC_OK(begin(capture_id));
    ASSERT_IC_OK(forward(0, stream, &first));
    ASSERT_IC_OK(forward(1, stream, nullptr, true));
    ASSERT_IC_OK(forward(2, stream, &last));
    ASSERT_IC_OK(merge(last, stream));
    ASSERT_IC_OK(run_mass(first, stream));
    ASSERT_IC_OK(overlap(first, last, stream));
    ASSERT_IC_OK(remap(0, IC_LAYOUT_PAGED, stream));
    ASSERT_IC_OK(compact(2, stream));
    ASSERT_IC_OK(run_attention(first, stream));
    ASSERT_IC_OK(export_to(0, IC_MEMORY_HOST, block, stream));
  }

  const bool cuda;
  Memory memory;
  ic_context *context = nullptr;
  ic_schedule *schedule = nullptr;
  ic_indexer *indexer = nullptr;
  ic_topk *topk = nullptr;
  ic_attention *attention = nullptr;
  ic_cache *cache = nullptr;
  ic_block_table table{};
  float *x, *key_x, *w, *tables, *norm, *kv, *attention_q, *q_scale, *scores, *out, *lse, *ratios, *masses,
      *mass_recall;
  uint8_t *q, *keys;
  int32_t *row_seq, *key_end, *pages, *positions, *selected, *selected_lengths, *remapped, *remapped_lengths,
      *moved_rows, *common;
  int64_t *slots;
  void *workspace = nullptr;
  size_t workspace_size = 0;
  size_t block_size = 0;
};

}  // namespace ic::test

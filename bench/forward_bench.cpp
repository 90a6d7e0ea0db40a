// SPDX-License-Identifier: Apache-2.0
// ic_forward on the CPU backend through the C API: what a Shared layer costs, and a Full layer in prefill and decode.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "indexcache.h"

namespace {

/// The tiny model's shape or a published one; one sequence, causal rows at its end.
struct Shape {
  const char *name;
  int32_t num_heads, head_dim, dtype, k, rows, keys;
};

constexpr Shape kShapes[] = {
    {"tiny_prefill_2048", 4, 32, IC_DTYPE_F32, 64, 2048, 2048},
    {"tiny_decode_1x2048", 4, 32, IC_DTYPE_F32, 64, 1, 2048},
    {"glm_bf16_decode_1x32K", 32, 128, IC_DTYPE_BF16, 2048, 1, 32768},
    {"glm_bf16_prefill_64x32K", 32, 128, IC_DTYPE_BF16, 2048, 64, 32768},
};

void check(ic_status status) {
  if (status == IC_OK) return;
  char message[512];
  ic_last_error(message, sizeof message);
  std::abort();
}

class Problem {
 public:
  Problem(const Shape &shape, int32_t threads) : shape_(shape) {
    ic_context_desc context_desc = IC_CONTEXT_DESC_INIT;
    context_desc.backend = IC_BACKEND_CPU;
    context_desc.num_threads = threads;
    check(ic_context_create(&context_desc, &context_));
    ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
    schedule_desc.num_layers = 2;
    schedule_desc.pattern = "FS";
    check(ic_schedule_create(&schedule_desc, &schedule_));
    ic_indexer_desc indexer_desc = IC_INDEXER_DESC_INIT;
    indexer_desc.num_heads = shape.num_heads;
    indexer_desc.head_dim = shape.head_dim;
    indexer_desc.dtype = shape.dtype;
    check(ic_indexer_create(context_, &indexer_desc, &indexer_));
    ic_topk_desc topk_desc = IC_TOPK_DESC_INIT;
    topk_desc.k = shape.k;
    check(ic_topk_create(context_, &topk_desc, &topk_));
    ic_cache_desc cache_desc = IC_CACHE_DESC_INIT;
    cache_desc.schedule = schedule_;
    cache_desc.indexer = indexer_;
    cache_desc.topk = topk_;
    cache_desc.max_rows = shape.rows;
    check(ic_cache_create(context_, &cache_desc, &cache_));

    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float> &values, size_t count) {
      values.resize(count);
      for (float &value : values) value = normal(random);
    };
    const auto width = static_cast<size_t>(shape.num_heads) * static_cast<size_t>(shape.head_dim);
    fill(q_, static_cast<size_t>(shape.rows) * width);
    fill(w_, static_cast<size_t>(shape.rows * shape.num_heads));
    fill(k_, static_cast<size_t>(shape.keys) * static_cast<size_t>(shape.head_dim));
    if (shape.dtype == IC_DTYPE_BF16) {  // the upper halves are bf16 numbers
      narrow(q_);
      narrow(k_);
    }
    for (int32_t row = 0; row < shape.rows; ++row) key_end_.push_back(shape.keys - shape.rows + row + 1);

    batch_.num_rows = shape.rows;
    batch_.num_seqs = 1;
    batch_.max_key_end = shape.keys;
    batch_.key_end = key_end_.data();
    queries_.q = q_.data();
    queries_.w = w_.data();
    keys_.layout = IC_LAYOUT_CONTIGUOUS;
    keys_.data = k_.data();
    keys_.capacity = shape.keys;
    args_.row_count = IC_ALL_ROWS;
    args_.queries = &queries_;
    args_.keys = &keys_;
    check(ic_forward_workspace_size(cache_, shape.rows, shape.keys, &args_.workspace_size));
    workspace_ = std::aligned_alloc(256, (args_.workspace_size + 255) / 256 * 256);
    args_.workspace = workspace_;
  }
  Problem(const Problem &) = delete;
  Problem &operator=(const Problem &) = delete;
  ~Problem() {
    std::free(workspace_);
    ic_cache_destroy(cache_);
    ic_topk_destroy(topk_);
    ic_indexer_destroy(indexer_);
    ic_schedule_destroy(schedule_);
    ic_context_destroy(context_);
  }

  void begin() { check(ic_cache_begin(cache_, &batch_)); }
  void forward(int32_t layer) {
    args_.layer = layer;
    ic_index_view view = IC_INDEX_VIEW_INIT;
    check(ic_forward(cache_, &args_, &view, nullptr));
    benchmark::DoNotOptimize(view);
  }

  /// Multiply-adds of the scores, as 2 * visible keys * heads * dimensions.
  double flops() const {
    double keys = 0;
    for (const int32_t end : key_end_) keys += end;
    return 2 * keys * shape_.num_heads * shape_.head_dim;
  }

 private:
  static void narrow(std::vector<float> &values) {
    auto *halves = reinterpret_cast<uint16_t *>(values.data());
    for (size_t i = 0; i < values.size(); ++i) halves[i] = halves[2 * i + 1];
  }

  const Shape shape_;
  ic_context *context_ = nullptr;
  ic_schedule *schedule_ = nullptr;
  ic_indexer *indexer_ = nullptr;
  ic_topk *topk_ = nullptr;
  ic_cache *cache_ = nullptr;
  std::vector<float> q_, w_, k_;
  std::vector<int32_t> key_end_;
  ic_batch batch_ = IC_BATCH_INIT;
  ic_queries queries_ = IC_QUERIES_INIT;
  ic_pool keys_ = IC_POOL_INIT;
  ic_forward_args args_ = IC_FORWARD_ARGS_INIT;
  void *workspace_ = nullptr;
};

void shared_layer(benchmark::State &state) {
  Problem problem(kShapes[0], 1);
  problem.begin();
  problem.forward(0);
  for (auto _ : state) problem.forward(1);
}
BENCHMARK(shared_layer);

void full_layer(benchmark::State &state) {
  const Shape &shape = kShapes[state.range(0)];
  Problem problem(shape, static_cast<int32_t>(state.range(1)));
  for (auto _ : state) {
    problem.begin();
    problem.forward(0);
  }
  state.SetLabel(shape.name);
  state.counters["GFLOP/s"] =
      benchmark::Counter(problem.flops() * static_cast<double>(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}
BENCHMARK(full_layer)
    ->ArgNames({"shape", "threads"})
    ->ArgsProduct({{0, 1, 2, 3}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace

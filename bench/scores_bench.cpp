// SPDX-License-Identifier: Apache-2.0
// Index scores with their selection on one core, per instruction level: GFLOP/s (2 per multiply-add of the dot
// products) of scoring alone and of score + select. The difference of the two times is what selection costs. Slower
// levels get smaller shapes, so that the whole takes seconds: their rates are hardly others. Two threads are for the
// best.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/convert.h"
#include "cpu/executor.h"
#include "cpu/score_select.h"
#include "cpu/scores.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace {

using ic::cpu::Executor;
using ic::cpu::Isa;
using ic::cpu::Workers;

struct Shape {
  const char *kind;
  int32_t heads, dim, rows, keys, k;
  int32_t dtype;
  bool causal;  // row r sees keys - rows + r + 1 keys, else all

  std::string name() const { return std::string(kind) + "_" + std::to_string(rows) + "x" + std::to_string(keys); }
};

constexpr Shape kShapes[] = {
    {"tiny_prefill_f32", 4, 32, 2048, 2048, 64, IC_DTYPE_F32, true},
    {"prefill_fp8", 64, 128, 128, 32768, 2048, IC_DTYPE_E4M3, false},
    {"prefill_bf16", 32, 128, 32, 32768, 2048, IC_DTYPE_BF16, false},
    {"decode_fp8", 64, 128, 1, 131072, 2048, IC_DTYPE_E4M3, false},
};

Shape at_level(Shape shape, Isa isa) {
  if (shape.causal || isa == Isa::kAvx512) return shape;
  shape.rows = std::max(1, shape.rows / (isa == Isa::kAvx2 ? 4 : 128));
  if (isa == Isa::kPortable) shape.keys = std::min(shape.keys, 32768);
  return shape;
}

/// Random keys in pages of 64 and queries of one shape.
struct Problem {
  explicit Problem(const Shape &s) : shape(s) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const int64_t element = ic::cpu::dtype_bytes(s.dtype);
    const int64_t pages = (s.keys + 63) / 64;
    stride = 64 * (s.dim * element + (s.dtype == IC_DTYPE_E4M3 ? 4 : 0));
    pool.resize(static_cast<size_t>(pages * stride));
    q.resize(static_cast<size_t>(s.rows * s.heads * s.dim * element));
    const auto fill = [&](uint8_t *at, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        if (s.dtype == IC_DTYPE_E4M3) {
          at[i] = static_cast<uint8_t>((random() & 0x80u) | random() % 0x60u);
          continue;
        }
        const float x = normal(random);
        const uint16_t half = ic::cpu::bf16_from_f32(x);
        if (s.dtype == IC_DTYPE_F32) __builtin_memcpy(at + 4 * i, &x, 4);
        if (s.dtype == IC_DTYPE_BF16) __builtin_memcpy(at + 2 * i, &half, 2);
      }
    };
    for (int64_t p = 0; p < pages; ++p) {
      fill(pool.data() + p * stride, 64 * s.dim);
      if (s.dtype != IC_DTYPE_E4M3) continue;
      const float scale = 1.0f;
      for (int64_t t = 0; t < 64; ++t) __builtin_memcpy(pool.data() + p * stride + 64 * s.dim + 4 * t, &scale, 4);
    }
    fill(q.data(), int64_t{s.rows} * s.heads * s.dim);
    for (int32_t i = 0; i < s.rows * s.heads; ++i) w.push_back(normal(random));
    for (int32_t p = 0; p < pages; ++p) table.push_back(p);
    for (int32_t r = 0; r < s.rows; ++r) end.push_back(s.causal ? s.keys - s.rows + r + 1 : s.keys);
    for (const int32_t e : end) dots += int64_t{e} * s.heads * s.dim;
    k_padded = (s.k + 127) / 128 * 128;
    indices.resize(static_cast<size_t>(s.rows) * static_cast<size_t>(k_padded));
    lengths.resize(static_cast<size_t>(s.rows));
  }
  ic::RowsView rows() const { return {shape.rows, 1, shape.keys, nullptr, nullptr, end.data(), nullptr}; }
  ic::QueryView query() const {
    return {q.data(),    int64_t{shape.heads} * shape.dim,
            w.data(),    shape.heads,
            nullptr,     0,
            shape.heads, shape.dim,
            shape.dtype, 0};
  }
  ic::PoolView keys() {
    const auto pages = static_cast<int32_t>(table.size());
    return {pool.data(), nullptr, stride, pages, 64, pages, table.data(), pages, nullptr};
  }
  Shape shape;
  int64_t stride = 0, dots = 0;
  int32_t k_padded = 0;
  std::vector<uint8_t> pool, q;
  std::vector<float> w;
  std::vector<int32_t> table, end, indices, lengths;
};

/// Made once: a benchmark's function is called again for every repetition.
Problem &problem_of(const Shape &shape) {
  static std::map<std::string, std::unique_ptr<Problem>> problems;
  std::unique_ptr<Problem> &problem = problems[shape.name()];
  if (!problem) problem = std::make_unique<Problem>(shape);
  return *problem;
}

struct Aligned {
  explicit Aligned(size_t size) : data(std::aligned_alloc(256, size)) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned &) = delete;
  Aligned &operator=(const Aligned &) = delete;
  void *data;
};

void report(benchmark::State &state, const Problem &problem) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(problem.dots), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["rows/s"] = benchmark::Counter(problem.shape.rows, benchmark::Counter::kIsIterationInvariantRate);
}

void scores_only(benchmark::State &state, const Shape &shape, Isa isa, int32_t threads) {
  Problem &problem = problem_of(shape);
  Workers workers(threads);
  const Executor executor{isa, &workers};
  const size_t size = ic::cpu::scores_workspace_size(executor, shape.heads, shape.dim);
  const Aligned workspace(size);
  std::vector<float> out(static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.keys));
  ic::ScoresParams params{};
  params.rows = problem.rows();
  params.query = problem.query();
  params.keys = problem.keys();
  params.scores = out.data();
  params.score_stride = shape.keys;
  params.num_columns = shape.keys;
  params.workspace = workspace.data;
  params.workspace_size = size;
  for (auto _ : state) ic::cpu::scores(executor, params);
  report(state, problem);
}

void score_and_select(benchmark::State &state, const Shape &shape, Isa isa, int32_t threads) {
  Problem &problem = problem_of(shape);
  Workers workers(threads);
  const Executor executor{isa, &workers};
  const size_t size =
      ic::cpu::score_select_workspace_size(executor, shape.rows, shape.keys, shape.heads, shape.dim, shape.k);
  const Aligned workspace(size);
  std::vector<float> selected(problem.indices.size());  // asked for, so that short rows are scored as well
  const ic::SelectionOut out{problem.indices.data(),
                             problem.lengths.data(),
                             selected.data(),
                             problem.k_padded,
                             shape.k,
                             problem.k_padded,
                             IC_ORDER_POSITION,
                             0};
  const ic::ScoreSelectParams params{problem.rows(), problem.query(), problem.keys(), out, workspace.data, size};
  for (auto _ : state) ic::cpu::score_select(executor, params);
  report(state, problem);
}

const bool kRegistered = [] {
  bool best = true;
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kPortable}) {
    if (!ic::cpu::isa_available(isa)) continue;
    for (const Shape &whole : kShapes) {
      const Shape shape = at_level(whole, isa);
      for (const int32_t threads : {1, 2}) {
        if (threads > 1 && !best) continue;
        const std::string suffix =
            "/" + shape.name() + "/" + ic::cpu::isa_name(isa) + "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(("scores" + suffix).c_str(), scores_only, shape, isa, threads)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
        benchmark::RegisterBenchmark(("score_select" + suffix).c_str(), score_and_select, shape, isa, threads)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
    best = false;
  }
  return true;
}();

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// Score and select in one call on the GPU. fp32 has the CPU backend's bits; every type has the set that its own scores
// give.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/backend.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/scores_problem.h"
#include "tests/gpu/selection.h"

namespace ic::test {
namespace {

constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};
constexpr int32_t kDtypes[] = {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3};

ScoreLimits limits_of(const ScoreSelectParams &p) {
  return {p.rows.count, p.rows.max_key_end, p.query.num_heads, p.query.head_dim, p.query.dtype, p.out.k};
}

ScoreSelectParams select_params(const ScoresParams &p, const SelectionOut &out, int32_t max_key_end) {
  ScoreSelectParams params{p.rows, p.query, p.keys, out, nullptr, 0};
  if (max_key_end > 0) params.rows.max_key_end = max_key_end;
  return params;
}

struct Outcome {
  Selection selection;
  uint32_t fault = 0;
};

Outcome run_on_cpu(ScoresProblem *problem, const Wanted &wanted, int32_t max_key_end) {
  Outcome outcome;
  Selection &s = outcome.selection = poisoned_selection(wanted, problem->shape().num_rows);
  const ScoresParams host =
      problem->params({problem->q.data(), problem->w.data(), problem->q_scale.data(), problem->keys.data(),
                       problem->scales.data(), problem->table.data(), problem->seq.data(), problem->begin.data(),
                       problem->end.data(), problem->offsets.data(), &outcome.fault, nullptr});
  ScoreSelectParams p =
      select_params(host, selection_out(wanted, s.indices.data(), s.lengths.data(), s.scores.data()), max_key_end);
  HostWorkspace workspace(cpu_backend().score_select_workspace_size(limits_of(p)));
  p.workspace = workspace.data();
  p.workspace_size = workspace.size();
  cpu_backend().score_select(p, nullptr);
  return outcome;
}

/// The selection from our own scores of every visible key.
Outcome select_from_scores(const ScoresProblem &problem, const DeviceScores &device, const Wanted &wanted) {
  const int32_t rows = problem.shape().num_rows;
  const int64_t columns = problem.shape().max_keys;
  const DeviceArray<float> matrix(std::vector<float>(static_cast<size_t>(rows * columns), 1e30f));
  ScoresParams p = device.params();
  p.scores = matrix.data();
  p.score_stride = columns;
  p.first_column = 0;
  p.num_columns = static_cast<int32_t>(columns);
  p.others = OtherColumns::kKeep;
  cuda_backend().scores(p, nullptr);
  Outcome outcome{poisoned_selection(wanted, rows), device.read().fault};
  const std::vector<float> scores = matrix.read();
  const auto stride = static_cast<size_t>(IC_K_PADDED(wanted.k) + wanted.index_pad);
  for (int32_t r = 0; r < rows; ++r) {
    const ScoresProblem::Range range = problem.range(r);
    std::vector<std::pair<float, int32_t>> keys;
    for (int32_t s = range.begin; s < range.end; ++s) {
      if (problem.key(range.seq, s).vector != nullptr) {
        keys.emplace_back(scores[static_cast<size_t>(r * columns + s)], s);
      }
    }
    std::sort(keys.begin(), keys.end(), [](const auto &a, const auto &b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    keys.resize(std::min(keys.size(), static_cast<size_t>(wanted.k)));
    if (wanted.order != IC_ORDER_SCORE) {
      std::sort(keys.begin(), keys.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
    }
    const size_t at = static_cast<size_t>(r) * stride;
    for (size_t i = 0; i < static_cast<size_t>(IC_K_PADDED(wanted.k)); ++i) {
      outcome.selection.indices[at + i] = i < keys.size() ? keys[i].second : -1;
      if (wanted.scores) {
        outcome.selection.scores[at + i] = i < keys.size() ? keys[i].first : -std::numeric_limits<float>::infinity();
      }
    }
    outcome.selection.lengths[static_cast<size_t>(r)] = static_cast<int32_t>(keys.size());
  }
  return outcome;
}

void compare(const ScoresShape &shape, const Wanted &wanted, uint32_t seed, int32_t max_key_end = 0,
             Backend &backend = cuda_backend()) {
  SCOPED_TRACE(describe(shape) + ", k " + std::to_string(wanted.k) + ", order " + std::to_string(wanted.order) +
               ", max_key_end " + std::to_string(max_key_end) + ", seed " + std::to_string(seed));
  ScoresProblem problem(shape, seed);
  DeviceScores device(problem);
  const DeviceSelection selection(wanted, shape.num_rows);
  ScoreSelectParams p = select_params(device.params(), selection.out(), max_key_end);
  const PoisonedWorkspace workspace(backend.score_select_workspace_size(limits_of(p)));
  p.workspace = workspace.data();
  p.workspace_size = workspace.size();
  backend.score_select(p, nullptr);
  const Selection got = selection.read();
  const uint32_t fault = device.read().fault;
  device.reset_outputs();
  const Outcome own = select_from_scores(problem, device, wanted);
  EXPECT_EQ(fault, own.fault);
  expect_same(got, own.selection, wanted);
  if (shape.dtype != IC_DTYPE_F32) return;
  const Outcome cpu = run_on_cpu(&problem, wanted, max_key_end);
  EXPECT_EQ(fault, cpu.fault);
  expect_same(got, cpu.selection, wanted);
}

TEST(ScoreSelect, EveryLayoutAndType) {
  uint32_t seed = run_seed();
  for (const int32_t dtype : kDtypes) {
    for (const int32_t page_tokens : kPageTokens) {
      for (const int32_t k : {1, 40, 2048}) {
        compare({.dtype = dtype, .num_heads = 8, .head_dim = 128, .page_tokens = page_tokens, .max_keys = 700},
                {.k = k, .order = static_cast<int32_t>(seed % 3), .scores = seed % 2 == 0}, seed);
        ++seed;
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ScoreSelect, IllegalValues) {
  for (uint32_t i = 0; i < 24; ++i) {
    compare({.dtype = kDtypes[i % 4],
             .head_dim = 64,
             .page_tokens = kPageTokens[i / 4],
             .num_seqs = 4,
             .num_rows = 33,
             .illegal = true},
            {.k = 60}, run_seed() + i);
  }
}

TEST(ScoreSelect, SpecialValuesAndStrides) {
  for (uint32_t i = 0; i < 12; ++i) {
    compare({.num_heads = 5, .page_tokens = kPageTokens[i % 6], .special = true, .unaligned = true},
            {.k = 100, .index_pad = 3}, run_seed() + i);
  }
}

/// Few rows of many keys: segments of columns, and pages that are not there in the midst of them.
TEST(ScoreSelect, LongRowsLong) {
  for (const int32_t dtype : kDtypes) {
    for (const int32_t page_tokens : {0, 1, 64}) {
      compare({.dtype = dtype, .head_dim = 128, .page_tokens = page_tokens, .num_rows = 4, .max_keys = 40000},
              {.k = 2048}, run_seed());
    }
  }
}

/// max_key_end decides the chunks: with 2^24 four rows at a time.
TEST(ScoreSelect, ManyChunksLong) {
  for (const int32_t dtype : kDtypes) {
    for (const int32_t page_tokens : {0, 64}) {
      compare({.dtype = dtype, .head_dim = 128, .page_tokens = page_tokens, .num_rows = 18, .max_keys = 3000},
              {.k = 300, .index_pad = 5}, run_seed(), 1 << 24);
      compare({.dtype = dtype, .head_dim = 32, .page_tokens = page_tokens, .num_rows = 600, .max_keys = 900},
              {.k = 100, .scores = false}, run_seed(), 200000);
    }
  }
}

TEST(ScoreSelect, MaxCtasChangesNoBit) {
  const std::unique_ptr<Backend> limited = make_cuda_backend({0, 3, {}});
  compare({.num_heads = 16, .page_tokens = 16, .num_rows = 20}, {.k = 100}, run_seed(), 0, *limited);
  compare({.num_heads = 2, .page_tokens = 16, .num_rows = 2, .max_keys = 30000}, {.k = 100}, run_seed(), 0, *limited);
}

TEST(ScoreSelect, CapturedAndReplayedWithOtherContents) {
  for (uint32_t i = 0; i < 8; ++i) {
    const ScoresShape shape{.dtype = kDtypes[i % 4],
                            .head_dim = 128,
                            .page_tokens = kPageTokens[i % 6],
                            .num_seqs = 3,
                            .num_rows = 12,
                            .max_keys = i < 4 ? 1200 : 26000,
                            .illegal = i % 2 == 1};
    const Wanted wanted{.k = 250};
    SCOPED_TRACE(describe(shape));
    ScoresProblem problem(shape, run_seed() + i);
    DeviceScores device(problem);
    DeviceSelection selection(wanted, shape.num_rows);
    ScoreSelectParams p = select_params(device.params(), selection.out(), 0);
    PoisonedWorkspace workspace(cuda_backend().score_select_workspace_size(limits_of(p)));
    p.workspace = workspace.data();
    p.workspace_size = workspace.size();
    CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().score_select(p, stream); });
    for (const int32_t length : selection.read().lengths) ASSERT_EQ(length, kPoison) << "ran in the capture";
    for (int replay = 0; replay < 3; ++replay) {
      graph.replay();
      const Selection got = selection.read();
      const uint32_t fault = device.read().fault;
      device.reset_outputs();
      const Outcome own = select_from_scores(problem, device, wanted);
      EXPECT_EQ(fault, own.fault);
      expect_same(got, own.selection, wanted);
      if (HasFatalFailure()) return;
      problem.redraw();
      device.upload();
      selection.poison();
      workspace.poison();
    }
  }
}

TEST(ScoreSelect, ReplaysAreIdentical) {
  const Wanted wanted{.k = 512};
  ScoresProblem problem({.num_heads = 4, .page_tokens = 64, .num_rows = 6, .max_keys = 26000}, run_seed());
  DeviceScores device(problem);
  DeviceSelection selection(wanted, 6);
  ScoreSelectParams p = select_params(device.params(), selection.out(), 0);
  const PoisonedWorkspace workspace(cuda_backend().score_select_workspace_size(limits_of(p)));
  p.workspace = workspace.data();
  p.workspace_size = workspace.size();
  CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().score_select(p, stream); });
  graph.replay();
  const Selection first = selection.read();
  for (int i = 0; i < 25; ++i) {
    selection.poison();
    graph.replay();
    expect_same(selection.read(), first, wanted);
    if (HasFatalFailure()) return;
  }
}

/// A batch without any key still reports the row that asks for one.
TEST(ScoreSelect, NoKeys) {
  ScoresProblem problem({.num_rows = 3, .max_keys = 10}, run_seed());
  DeviceScores device(problem);
  const Wanted wanted{.k = 5};
  const DeviceSelection selection(wanted, 3);
  const DeviceArray<int32_t> ends(std::vector<int32_t>{0, -4, 1});
  ScoreSelectParams p = select_params(device.params(), selection.out(), 0);
  p.rows.max_key_end = 0;
  p.rows.key_begin = nullptr;
  p.rows.key_end = ends.data();
  const PoisonedWorkspace workspace(cuda_backend().score_select_workspace_size(limits_of(p)));
  p.workspace = workspace.data();
  p.workspace_size = workspace.size();
  cuda_backend().score_select(p, nullptr);
  EXPECT_EQ(selection.read().lengths, (std::vector<int32_t>{0, 0, 0}));
  EXPECT_EQ(device.read().fault, static_cast<uint32_t>(IC_FAULT_KEY_END));
}

TEST(ScoreSelect, WorkspaceIsBoundedAndMonotone) {
  const Backend &backend = cuda_backend();
  const auto size = [&](int32_t rows, int32_t keys) {
    return backend.score_select_workspace_size({rows, keys, 64, 128, IC_DTYPE_E4M3, 2048});
  };
  EXPECT_LE(size(8192, 1 << 20), size_t{512} << 20);
  EXPECT_LE(size(1, 1 << 24), size_t{128} << 20);
  for (int32_t rows = 1; rows < 10000; rows = rows * 5 / 3 + 1) {
    for (int32_t keys = 1; keys < 1 << 24; keys = keys * 3 / 2 + 1) {
      ASSERT_LE(size(rows, keys), size(rows + 1, keys));
      ASSERT_LE(size(rows, keys), size(rows, keys + 1));
    }
  }
}

}  // namespace
}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// fp32 scores on the GPU: the CPU backend's bits, in every layout, plain and captured.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/failure.h"
#include "tests/cpu/sparse_memory.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/scores_check.h"
#include "tests/gpu/scores_problem.h"

namespace ic::test {
namespace {

void compare(const ScoresShape &shape, uint32_t seed, Backend &backend = cuda_backend()) {
  SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
  ScoresProblem problem(shape, seed);
  ScoresCheck check(problem);
  DeviceScores device(problem);
  backend.scores(device.params(), nullptr);
  check.expect(device.read());
}

constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};
constexpr int32_t kHeads[] = {1, 4, 7, 32, 33, 64, 100, 128};

TEST(ScoresF32, EveryLayoutAndGeometry) {
  uint32_t seed = run_seed();
  for (const int32_t head_dim : {32, 64, 128}) {
    for (const int32_t heads : kHeads) {
      for (const int32_t page_tokens : kPageTokens) {
        compare({.num_heads = heads, .head_dim = head_dim, .page_tokens = page_tokens}, seed++);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ScoresF32, UnalignedPointersAndStrides) {
  uint32_t seed = run_seed();
  for (const int32_t head_dim : {32, 64, 128}) {
    for (const int32_t page_tokens : kPageTokens) {
      compare({.num_heads = 5, .head_dim = head_dim, .page_tokens = page_tokens, .unaligned = true}, seed++);
    }
  }
}

TEST(ScoresF32, SpecialValues) {
  for (uint32_t i = 0; i < 12; ++i) {
    compare({.num_heads = kHeads[i % 8], .head_dim = 32 << i % 3, .page_tokens = kPageTokens[i % 6], .special = true},
            run_seed() + i);
  }
}

TEST(ScoresF32, IllegalValuesAreAbsentAndReported) {
  uint32_t seen = 0;
  for (uint32_t i = 0; i < 24; ++i) {
    const ScoresShape shape{.page_tokens = kPageTokens[i % 6], .num_seqs = 4, .num_rows = 33, .illegal = true};
    compare(shape, run_seed() + i);
    ScoresProblem problem(shape, run_seed() + i);
    seen |= problem.run_on_cpu().fault;
  }
  EXPECT_EQ(seen, IC_FAULT_KEY_END | IC_FAULT_SEQUENCE | IC_FAULT_PAGE) << "the test has not met every fault";
}

TEST(ScoresF32, NothingToDo) {
  ScoresProblem problem({.num_rows = 3, .max_keys = 70}, run_seed());
  DeviceScores device(problem);
  ScoresParams none = device.params();
  none.rows.count = 0;
  cuda_backend().scores(none, nullptr);
  none = device.params();
  none.num_columns = 0;
  cuda_backend().scores(none, nullptr);
  for (const float score : device.read().scores) ASSERT_EQ(score, ScoresProblem::kUntouched);
}

TEST(ScoresF32, MaxCtasChangesNoBit) {
  const ScoresShape shape{.num_heads = 32, .page_tokens = 64, .num_rows = 40, .max_keys = 3000};
  for (const int32_t max_ctas : {1, 2, 7, 500}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    compare(shape, run_seed(), *limited);
  }
}

TEST(ScoresF32, PrefillLong) {
  for (const int32_t page_tokens : {0, 64}) {
    compare({.num_heads = 64,
             .head_dim = 128,
             .page_tokens = page_tokens,
             .num_seqs = 2,
             .num_rows = 300,
             .max_keys = 5000,
             .causal = true},
            run_seed());
  }
}

TEST(ScoresF32, DecodeLong) {
  for (const int32_t page_tokens : {1, 64}) {
    compare({.num_heads = 32,
             .head_dim = 128,
             .page_tokens = page_tokens,
             .num_seqs = 16,
             .num_rows = 48,
             .max_keys = 40000,
             .causal = true},
            run_seed());
  }
}

TEST(ScoresF32, RandomShapesLong) {
  std::mt19937 random(run_seed());
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  for (int i = 0; i < 250; ++i) {
    ScoresShape shape;
    shape.num_heads = draw(0, 2) == 0 ? kHeads[draw(0, 7)] : draw(1, 128);
    shape.head_dim = 32 << draw(0, 2);
    shape.page_tokens = kPageTokens[draw(0, 5)];
    shape.num_seqs = draw(1, 9);
    shape.num_rows = draw(1, 90);
    shape.max_keys = draw(0, 3) == 0 ? draw(1, 300) : draw(1, 6000);
    shape.causal = draw(0, 2) == 0;
    shape.illegal = draw(0, 3) == 0;
    shape.special = draw(0, 3) == 0;
    shape.unaligned = draw(0, 3) == 0;
    compare(shape, static_cast<uint32_t>(draw(0, INT32_MAX)));
    if (HasFatalFailure()) return;
  }
}

TEST(ScoresF32, CapturedAndReplayedWithOtherContents) {
  for (uint32_t i = 0; i < 12; ++i) {
    const ScoresShape shape{.num_heads = kHeads[i % 8],
                            .head_dim = 32 << i % 3,
                            .page_tokens = kPageTokens[i % 6],
                            .num_seqs = 5,
                            .num_rows = 30,
                            .max_keys = 900,
                            .illegal = i % 2 == 1};
    SCOPED_TRACE(describe(shape));
    ScoresProblem problem(shape, run_seed() + i);
    DeviceScores device(problem);
    const ScoresParams params = device.params();
    CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().scores(params, stream); });
    for (const float score : device.read().scores) ASSERT_EQ(score, ScoresProblem::kUntouched) << "ran in the capture";
    for (int replay = 0; replay < 4; ++replay) {
      graph.replay();
      ScoresCheck(problem).expect(device.read());
      if (HasFatalFailure()) return;
      problem.redraw();  // lengths, sequences, tables, offsets, queries and keys
      device.upload();
    }
  }
}

TEST(ScoresF32, ReplaysAreIdentical) {
  ScoresProblem problem({.num_heads = 64, .head_dim = 128, .page_tokens = 64, .num_rows = 33, .max_keys = 2500},
                        run_seed());
  DeviceScores device(problem);
  CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().scores(device.params(), stream); });
  graph.replay();
  const ScoresResult first = device.read();
  for (int i = 0; i < 25; ++i) {
    device.reset_outputs();
    graph.replay();
    expect_same(device.read(), first, problem.score_stride());
    if (HasFatalFailure()) return;
  }
}

TEST(ScoresF32, EightThreadsOnOneBackend) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      ScoresProblem problem({.num_heads = 16, .page_tokens = kPageTokens[t % 6], .num_rows = 20, .max_keys = 1500},
                            run_seed() + t);
      ScoresCheck check(problem);
      DeviceScores device(problem);
      const TestStream stream;
      for (int i = 0; i < 20; ++i) {
        device.reset_outputs();
        cuda_backend().scores(device.params(), stream.get());
        stream.wait();
        check.expect(device.read());
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
}

/// Keys and scores beyond 2^32 bytes and 2^31 elements. The host side is address space: only what is read exists.
TEST(ScoresF32, OffsetsBeyond32BitsLong) {
  constexpr int32_t kRows = 3, kHeadCount = 2, kDim = 32, kKeys = 100;
  constexpr int64_t kVector = kDim * 4, kCapacity = (int64_t{5} << 30) / kVector;
  constexpr int64_t kScoreStride = int64_t{1} << 30;
  constexpr int64_t kOffset = kCapacity - kKeys;
  const size_t pool_bytes = static_cast<size_t>(kCapacity * kVector);
  const size_t score_bytes = static_cast<size_t>((kRows - 1) * kScoreStride + kKeys) * 4;

  std::mt19937 random(run_seed());
  std::normal_distribution<float> normal;
  cpu::SparseMemory host_pool(pool_bytes), host_scores(score_bytes);
  auto *host_keys = reinterpret_cast<float *>(host_pool.bytes() + kOffset * kVector);
  for (int32_t i = 0; i < kKeys * kDim; ++i) host_keys[i] = normal(random);
  std::vector<float> q(kRows * kHeadCount * kDim), w(kRows * kHeadCount);
  for (float &x : q) x = normal(random);
  for (float &x : w) x = normal(random);
  const std::vector<int32_t> end{kKeys, kKeys - 7, 1};
  const std::vector<int64_t> offsets{kOffset};

  auto *pool = static_cast<uint8_t *>(device_malloc(pool_bytes));
  auto *scores = static_cast<float *>(device_malloc(score_bytes));
  upload(pool + kOffset * kVector, host_keys, kKeys * kVector);
  const DeviceArray<float> device_q(q), device_w(w);
  const DeviceArray<int32_t> device_end(end);
  const DeviceArray<int64_t> device_offsets(offsets);

  ScoresParams p{};
  p.rows = {kRows, 1, kKeys, nullptr, nullptr, device_end.data(), nullptr};
  p.query = {
      device_q.data(), kHeadCount * kDim, device_w.data(), kHeadCount, nullptr, 0, kHeadCount, kDim, IC_DTYPE_F32, 0};
  p.keys = {pool, nullptr, kVector, kCapacity, 0, 0, nullptr, 0, device_offsets.data()};
  p.scores = scores;
  p.score_stride = kScoreStride;
  p.num_columns = kKeys;
  p.others = OtherColumns::kClean;
  cuda_backend().scores(p, nullptr);
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());

  ScoresParams on_host = p;
  on_host.rows.key_end = end.data();
  on_host.query.q = q.data();
  on_host.query.w = w.data();
  on_host.keys.data = host_pool.bytes();
  on_host.keys.key_offsets = offsets.data();
  on_host.scores = host_scores.as<float>();
  const size_t needed = cpu_backend().scores_workspace_size({kRows, kKeys, kHeadCount, kDim, IC_DTYPE_F32, 0});
  cpu::SparseMemory workspace(needed + 1);
  on_host.workspace = workspace.bytes();
  on_host.workspace_size = needed;
  cpu_backend().scores(on_host, nullptr);

  for (int64_t r = 0; r < kRows; ++r) {
    std::vector<float> row(kKeys);
    IC_REQUIRE_CUDA(cudaMemcpy(row.data(), scores + r * kScoreStride, kKeys * 4, cudaMemcpyDeviceToHost));
    EXPECT_EQ(std::memcmp(row.data(), on_host.scores + r * kScoreStride, kKeys * 4), 0) << "row " << r;
  }
  cudaFree(scores);
  cudaFree(pool);
}

}  // namespace
}  // namespace ic::test

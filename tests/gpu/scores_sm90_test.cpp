// SPDX-License-Identifier: Apache-2.0
// e4m3 scores by wgmma: within the bound of fp64, and bits that nothing but q, k, w and the key's scale changes.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/gpu/captured.h"
#include "tests/gpu/device_limits.h"
#include "tests/gpu/every_lane_arrives.h"
#include "tests/gpu/late_input.h"
#include "tests/gpu/scores_check.h"
#include "tests/gpu/scores_problem.h"

namespace ic::test {
namespace {

constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};
constexpr int32_t kHeads[] = {32, 64};

ScoresShape shape_of(int32_t heads, int32_t page_tokens) {
  return {.dtype = IC_DTYPE_E4M3, .num_heads = heads, .head_dim = 128, .page_tokens = page_tokens};
}

class ScoresSm90 : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_backend().numerics_id(64, 128, IC_DTYPE_E4M3) != wgmma_id(IC_DTYPE_E4M3)) {
      GTEST_SKIP() << "device 0 has no compute capability 9.0";
    }
  }
};

void compare(const ScoresShape &shape, uint32_t seed, Backend &backend = cuda_backend()) {
  SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
  ScoresProblem problem(shape, seed);
  ScoresCheck check(problem);
  DeviceScores device(problem);
  backend.scores(device.params(), nullptr);
  check.expect(device.read());
}

/// Few rows of many sequences (one row has a tile of keys) and many of few (they share it).
template <class Change>
void compare_layouts(uint32_t seed, Change &&change) {
  for (const int32_t heads : kHeads) {
    for (const int32_t page_tokens : kPageTokens) {
      for (const bool many : {false, true}) {
        ScoresShape shape = shape_of(heads, page_tokens);
        shape.num_seqs = many ? 2 : 7;
        shape.num_rows = many ? 45 : 11;
        shape.max_keys = many ? 700 : 900;
        change(shape, seed);
        compare(shape, seed++);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(ScoresSm90, EveryLayout) {
  compare_layouts(run_seed(), [](ScoresShape &shape, uint32_t seed) { shape.causal = seed % 3 == 0; });
}

/// Sums of few units of one size are exact in any order: the bits of the fma chain.
TEST_F(ScoresSm90, IntegersGiveTheBitsOfEveryPath) {
  compare_layouts(run_seed(), [](ScoresShape &shape, uint32_t) { shape.integers = true; });
}

TEST_F(ScoresSm90, UnalignedPointersAndStrides) {
  compare_layouts(run_seed(), [](ScoresShape &shape, uint32_t seed) {
    shape.unaligned = true;
    shape.integers = seed % 2 == 0;
  });
}

TEST_F(ScoresSm90, SpecialValues) {
  compare_layouts(run_seed(), [](ScoresShape &shape, uint32_t) {
    shape.special = true;
    shape.max_keys = 300;
  });
}

TEST_F(ScoresSm90, IllegalValuesAreAbsentAndReported) {
  uint32_t seen = 0;
  compare_layouts(run_seed(), [&](ScoresShape &shape, uint32_t seed) {
    shape.illegal = true;
    shape.integers = true;
    ScoresProblem problem(shape, seed);
    seen |= problem.run_on_cpu().fault;
  });
  EXPECT_EQ(seen, IC_FAULT_KEY_END | IC_FAULT_SEQUENCE | IC_FAULT_PAGE) << "the test has not met every fault";
}

TEST_F(ScoresSm90, NothingToDo) {
  ScoresProblem problem(shape_of(64, 64), run_seed());
  DeviceScores device(problem);
  ScoresParams none = device.params();
  none.rows.count = 0;
  cuda_backend().scores(none, nullptr);
  none = device.params();
  none.num_columns = 0;
  cuda_backend().scores(none, nullptr);
  for (const float score : device.read().scores) ASSERT_EQ(score, ScoresProblem::kUntouched);
}

/// The score of every position that a row sees, whatever window it was asked in.
class SeenScores {
 public:
  explicit SeenScores(const ScoresProblem &problem) : problem_(problem), width_(problem.shape().max_keys) {}

  /// Rows [first, first + count) over the columns [begin, end). num_seqs decides the layout, nothing else.
  void run(const DeviceScores &device, int32_t first, int32_t count, int32_t begin, int32_t end,
           Backend &backend = cuda_backend(), int32_t more_seqs = 0) {
    ScoresParams p = device.params();
    const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(count * (end - begin)), 7.0f));
    p.rows.count = count;
    p.rows.num_seqs += more_seqs;
    p.rows.seq = p.rows.seq == nullptr ? nullptr : p.rows.seq + first;
    p.rows.key_begin = p.rows.key_begin == nullptr ? nullptr : p.rows.key_begin + first;
    p.rows.key_end += first;
    p.query.q = static_cast<const uint8_t *>(p.query.q) + first * p.query.q_row_stride * problem_.element();
    p.query.w += first * p.query.w_row_stride;
    if (p.query.q_scale != nullptr) p.query.q_scale += first * p.query.q_scale_row_stride;
    p.scores = out.data();
    p.score_stride = end - begin;
    p.first_column = begin;
    p.num_columns = end - begin;
    p.others = OtherColumns::kClean;
    backend.scores(p, nullptr);
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    const std::vector<float> got = out.read();
    scores.resize(static_cast<size_t>(problem_.shape().num_rows) * static_cast<size_t>(width_), 7.0f);
    for (int32_t r = 0; r < count; ++r) {
      std::copy_n(got.begin() + r * (end - begin), end - begin, scores.begin() + (first + r) * width_ + begin);
    }
  }
  void run_all(const DeviceScores &device, Backend &backend = cuda_backend(), int32_t more_seqs = 0) {
    run(device, 0, problem_.shape().num_rows, 0, width_, backend, more_seqs);
  }

  std::vector<float> scores;  // [rows, max_keys]

 private:
  const ScoresProblem &problem_;
  int32_t width_;
};

void expect_same_bits(const SeenScores &a, const SeenScores &b, const std::string &what) {
  ASSERT_EQ(a.scores.size(), b.scores.size());
  for (size_t i = 0; i < a.scores.size(); ++i) {
    ASSERT_EQ(std::memcmp(&a.scores[i], &b.scores[i], 4), 0)
        << what << ", element " << i << ": " << a.scores[i] << " and " << b.scores[i];
  }
}

/// Contiguous and every page size, rows that share keys and rows that do not, windows, few thread blocks and many.
TEST_F(ScoresSm90, BitsDependOnNothingButTheOperands) {
  uint32_t seed = run_seed();
  for (const int32_t heads : kHeads) {
    for (const bool causal : {false, true}) {
      ScoresShape shape = shape_of(heads, 0);
      shape.num_seqs = 3;
      shape.num_rows = 64;
      shape.max_keys = 1100;
      shape.causal = causal;
      SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
      const ScoresProblem problem(shape, seed++);
      const DeviceScores device(problem);
      SeenScores all(problem);
      all.run_all(device);
      const auto numbers = std::count_if(all.scores.begin(), all.scores.end(), [](float x) { return x > -1e38f; });
      EXPECT_GT(numbers, 5000) << "the test compares nothing";
      SeenScores few(problem);
      few.run_all(device, cuda_backend(), 1000);
      expect_same_bits(all, few, "each row by itself");
      for (const int32_t page_tokens : kPageTokens) {
        const ScoresProblem paged = problem.laid_out(page_tokens);
        const DeviceScores there(paged);
        for (const int32_t more_seqs : {0, 1000}) {
          SeenScores other(paged);
          other.run_all(there, cuda_backend(), more_seqs);
          expect_same_bits(all, other, "page_tokens " + std::to_string(page_tokens));
        }
      }
      SeenScores alone(problem);
      for (int32_t r = 0; r < shape.num_rows; ++r) alone.run(device, r, 1, 0, shape.max_keys);
      expect_same_bits(all, alone, "rows alone");
      SeenScores blocks(problem);
      for (int32_t r = 0; r < shape.num_rows; r += 11) {
        blocks.run(device, r, std::min(11, shape.num_rows - r), 0, shape.max_keys);
      }
      expect_same_bits(all, blocks, "eleven rows each");
      SeenScores windows(problem);
      for (int32_t c = 0; c < shape.max_keys; c += 93) {
        windows.run(device, 0, shape.num_rows, c, std::min(c + 93, shape.max_keys));
      }
      expect_same_bits(all, windows, "windows");
      for (const int32_t max_ctas : {1, 7}) {
        const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
        for (const int32_t more_seqs : {0, 1000}) {
          SeenScores limited_scores(problem);
          limited_scores.run_all(device, *limited, more_seqs);
          expect_same_bits(all, limited_scores, "max_ctas " + std::to_string(max_ctas));
        }
      }
      if (HasFatalFailure()) return;
    }
  }
}

/// Products whose sums the accumulators cut off as badly as they can; how much of the bound that takes is printed.
TEST_F(ScoresSm90, ErrorBoundHoldsForHardSums) {
  std::mt19937 random(run_seed());
  const auto uniform = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); };
  for (const int32_t heads : kHeads) {
    const double bound = cuda_backend().error_bound(heads, 128, IC_DTYPE_E4M3);
    for (int kind = 0; kind < 7; ++kind) {
      double worst = 0.0;
      ScoresShape shape = shape_of(heads, 0);
      shape.num_seqs = 1;
      shape.num_rows = 3;
      shape.max_keys = 128;
      shape.causal = true;
      ScoresProblem problem(shape, run_seed());
      const auto number = [&](size_t d, bool of_key) {
        switch (kind) {
          case 0:  // truncated addends of one sign
            return uniform(1.0f, 2.0f);
          case 1:  // one large product, then small ones below its last bit
            return d == 0 ? 16.0f : uniform(0.004f, 0.03f);
          case 2:  // large products that cancel later
            return d < 2 || d >= 126 ? (of_key && d > 1 ? -14.0f : 14.0f) : uniform(-1.0f, 1.0f);
          case 3:  // small products just below 2^-13, 2^-12 and 2^-11 of the large one
            return d == 0 ? 16.0f : 0.171875f;
          case 4:
            return d == 0 ? 16.0f : of_key ? 0.171875f : 0.34375f;
          case 5:
            return d == 0 ? 16.0f : 0.34375f;
          default:
            return uniform(-1.0f, 1.0f);
        }
      };
      for (size_t i = 0; i < problem.q.size(); ++i) {
        encode(number(i % static_cast<size_t>(problem.q_row_stride()) % 128, false), IC_DTYPE_E4M3, &problem.q[i]);
      }
      for (int32_t position = 0; position < shape.max_keys; ++position) {
        auto *vector = const_cast<uint8_t *>(problem.key(0, position).vector);
        for (size_t d = 0; d < 128; ++d) encode(number(d, true), IC_DTYPE_E4M3, vector + d);
      }
      if (kind != 6) {
        for (float &w : problem.w) w = std::fabs(w);
      }
      const DeviceScores device(problem);
      SeenScores seen(problem);
      seen.run_all(device);
      for (int32_t r = 0; r < shape.num_rows; ++r) {
        const ScoresProblem::Range range = problem.range(r);
        for (int32_t s = range.begin; s < range.end; s += 3) {
          const ExactScore exact = exact_score(problem, r, problem.key(range.seq, s));
          const float score = seen.scores[static_cast<size_t>(r * shape.max_keys + s)];
          const double error = std::fabs(score - exact.value) / exact.magnitude;
          worst = std::max(worst, error);
          EXPECT_LE(error, bound) << "kind " << kind << ", position " << s;
          if (HasFailure()) return;
        }
      }
      std::printf("H %2d, kind %d: largest error %7.2f units of 2^-13, bound %7.2f\n", heads, kind, worst * 8192,
                  bound * 8192);
    }
  }
}

TEST_F(ScoresSm90, MaxCtasIsKept) {
  for (const int32_t max_ctas : {1, 2, 7, 500}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    for (const int32_t seqs : {2, 30}) {
      ScoresShape shape = shape_of(max_ctas % 2 == 0 ? 32 : 64, 64);
      shape.num_seqs = seqs;
      shape.num_rows = 40;
      shape.max_keys = 3000;
      compare(shape, run_seed(), *limited);
    }
  }
}

/// Decode with more segments than the rings hold, most of them one stage or two: the warps of a thread block are many
/// segments apart.
TEST_F(ScoresSm90, ShortRowsOfManySequences) {
  uint32_t seed = run_seed();
  for (const int32_t max_ctas : {1, 3}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    for (const int32_t max_keys : {130, 500}) {
      for (const int32_t page_tokens : kPageTokens) {
        ScoresShape shape = shape_of(seed % 2 == 0 ? 32 : 64, page_tokens);
        shape.num_seqs = 90;
        shape.num_rows = 150;
        shape.max_keys = max_keys;
        shape.illegal = max_ctas == 3;
        compare(shape, seed++, *limited);
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// One thread block that goes round its rings more than once, by boxes, pages and copies: small enough for racecheck.
TEST_F(ScoresSm90, RacecheckRings) {
  const cuda::LaunchLimits limits = device_limits(1);
  ASSERT_EQ(cuda::load_scores_every_lane(limits), cudaSuccess);
  uint32_t seed = run_seed();
  for (const int32_t heads : kHeads) {
    for (const bool many : {false, true}) {
      for (const int32_t page_tokens : {0, 1, 64, 256}) {
        for (const bool unaligned : {false, true}) {
          ScoresShape shape = shape_of(heads, page_tokens);
          shape.num_seqs = many ? 3 : 25;
          shape.num_rows = many ? 15 * 512 / heads : 60;  // 15 groups of up to three runs
          shape.max_keys = 300;
          shape.unaligned = unaligned;
          SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
          ScoresProblem problem(shape, seed++);
          DeviceScores device(problem);
          ASSERT_EQ(cuda::launch_scores_every_lane(device.params(), limits, nullptr), cudaSuccess);
          ScoresCheck(problem).expect(device.read());
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

/// A kernel that may start before the one in front has ended reads what that one writes last; and what is behind it
/// sees that, too, although no row has a key.
TEST_F(ScoresSm90, WaitsForTheKernelInFront) {
  uint32_t seed = run_seed();
  for (const int32_t rows : {20, 40, 90}) {  // loaders count the rows, all warps do, rows share keys
    for (const int32_t page_tokens : {0, 1, 64}) {
      for (const bool empty : {false, true}) {
        ScoresShape shape = shape_of(64, page_tokens);
        shape.num_seqs = 20;
        shape.num_rows = rows;
        shape.max_keys = 900;
        shape.causal = true;
        ScoresProblem problem(shape, seed++);
        if (empty) std::fill(problem.end.begin(), problem.end.end(), 0);
        ScoresCheck check(problem);
        for (const Front front : kFronts) {
          SCOPED_TRACE(describe(shape) + ", front " + std::to_string(static_cast<int>(front)));
          const DeviceScores device(problem);
          ScoresParams p = device.params();
          LateInputs late;
          p.query.q = late.add(static_cast<const uint8_t *>(p.query.q), problem.q.size(), 0x7f);  // NaN
          p.query.w = late.add(p.query.w, problem.w.size(), 0xff);
          p.keys.data = const_cast<uint8_t *>(late.add(p.keys.data, problem.keys.size(), 0x7f));
          p.keys.scales = const_cast<float *>(late.add(p.keys.scales, problem.scales.size(), 0xff));
          p.keys.block_table = late.add(p.keys.block_table, problem.table.size(), 0xff);
          p.keys.key_offsets = late.add(p.keys.key_offsets, problem.offsets.size(), 0xff);
          p.rows.seq = late.add(p.rows.seq, problem.seq.size(), 0xff);
          p.rows.key_end = late.add(p.rows.key_end, problem.end.size(), 0);
          const DeviceArray<int32_t> end_behind(problem.end.size());
          const Copy next = {end_behind.data(), p.rows.key_end, problem.end.size() * 4};
          run_behind(late.copies(), front, [&](cudaStream_t stream) { cuda_backend().scores(p, stream); }, next);
          check.expect(device.read());
          EXPECT_EQ(end_behind.read(), problem.end);
          if (HasFailure()) return;
        }
      }
    }
  }
}

/// Decode with a segment of more pages than a loader asks for at once.
TEST_F(ScoresSm90, OneBlockForAllRowsLong) {
  const std::unique_ptr<Backend> limited = make_cuda_backend({0, 1, {}});
  uint32_t seed = run_seed();
  for (const int32_t page_tokens : kPageTokens) {
    ScoresShape shape = shape_of(seed % 2 == 0 ? 32 : 64, page_tokens);
    shape.num_seqs = 2;
    shape.num_rows = 3;
    shape.max_keys = 40000;
    shape.illegal = page_tokens == 32;
    compare(shape, seed++, *limited);
    if (HasFatalFailure()) return;
  }
}

/// Speculative decoding: a group of rows holds several sequences, so that a warpgroup may have none of a run's rows.
TEST_F(ScoresSm90, FewRowsPerSequence) {
  uint32_t seed = run_seed();
  for (const int32_t heads : kHeads) {
    for (const int32_t page_tokens : {0, 1, 64}) {
      for (const int32_t per_sequence : {2, 3, 4, 8}) {
        ScoresShape shape = shape_of(heads, page_tokens);
        shape.num_seqs = 7;
        shape.num_rows = 7 * per_sequence - seed % 2;
        shape.max_keys = 1500;
        shape.causal = true;
        shape.integers = seed % 3 == 0;
        compare(shape, seed++);
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// Pages that no box fits, aligned to 16 bytes (4, 256 and 512 tokens) and not.
TEST_F(ScoresSm90, OtherPageSizes) {
  uint32_t seed = run_seed();
  for (const int32_t page_tokens : {2, 4, 8, 256, 512}) {
    for (const bool many : {false, true}) {
      for (const int32_t heads : kHeads) {
        ScoresShape shape = shape_of(heads, page_tokens);
        shape.num_seqs = many ? 2 : 20;
        shape.num_rows = 20;
        shape.max_keys = 1800;
        shape.causal = seed % 2 == 0;
        shape.illegal = seed % 3 == 0;
        shape.integers = seed % 2 == 0;
        compare(shape, seed++);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(ScoresSm90, PrefillLong) {
  for (const int32_t heads : kHeads) {
    for (const int32_t page_tokens : {0, 64}) {
      ScoresShape shape = shape_of(heads, page_tokens);
      shape.num_rows = 300;
      shape.max_keys = 5000;
      shape.causal = true;
      shape.integers = page_tokens == 0;
      compare(shape, run_seed());
    }
  }
}

TEST_F(ScoresSm90, DecodeLong) {
  for (const int32_t heads : kHeads) {
    for (const int32_t page_tokens : {1, 64}) {
      ScoresShape shape = shape_of(heads, page_tokens);
      shape.num_seqs = 16;
      shape.num_rows = 24;
      shape.max_keys = 20000;
      shape.causal = true;
      compare(shape, run_seed());
    }
  }
}

/// More rows than chunks of 32, most of them empty.
TEST_F(ScoresSm90, ManyRowsLong) {
  for (const int32_t seqs : {3, 40000}) {
    ScoresShape shape = shape_of(32, 16);
    shape.num_seqs = 3;
    shape.num_rows = 70000;
    shape.max_keys = 40;
    shape.integers = true;
    ScoresProblem problem(shape, run_seed());
    ScoresCheck check(problem);
    DeviceScores device(problem);
    ScoresParams p = device.params();
    p.rows.num_seqs = std::max(p.rows.num_seqs, seqs);  // decides the layout; no row has such a sequence
    cuda_backend().scores(p, nullptr);
    check.expect(device.read());
  }
}

TEST_F(ScoresSm90, RandomShapesLong) {
  std::mt19937 random(run_seed());
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  for (int i = 0; i < 150; ++i) {
    ScoresShape shape = shape_of(kHeads[draw(0, 1)], kPageTokens[draw(0, 5)]);
    shape.num_seqs = draw(1, 9);
    shape.num_rows = draw(1, 90);
    shape.max_keys = draw(0, 3) == 0 ? draw(1, 300) : draw(1, 3000);
    shape.causal = draw(0, 2) == 0;
    shape.illegal = draw(0, 3) == 0;
    shape.special = draw(0, 3) == 0;
    shape.unaligned = draw(0, 3) == 0;
    shape.integers = draw(0, 1) == 0 && !shape.special;
    compare(shape, static_cast<uint32_t>(draw(0, INT32_MAX)));
    if (HasFatalFailure()) return;
  }
}

TEST_F(ScoresSm90, CapturedAndReplayedWithOtherContents) {
  for (uint32_t i = 0; i < 24; ++i) {
    ScoresShape shape = shape_of(kHeads[i / 12], kPageTokens[i % 6]);
    shape.num_seqs = i % 12 < 6 ? 5 : 25;
    shape.num_rows = 30;
    shape.max_keys = 900;
    shape.illegal = i % 2 == 1;
    SCOPED_TRACE(describe(shape));
    ScoresProblem problem(shape, run_seed() + i);
    DeviceScores device(problem);
    const ScoresParams params = device.params();
    CapturedGraph graph([&](cudaStream_t stream) { cuda_backend().scores(params, stream); });
    for (const float score : device.read().scores) ASSERT_EQ(score, ScoresProblem::kUntouched) << "ran in the capture";
    for (int replay = 0; replay < 3; ++replay) {
      graph.replay();
      ScoresCheck(problem).expect(device.read());
      if (HasFatalFailure()) return;
      problem.redraw();  // lengths, sequences, tables, offsets, queries and keys
      device.upload();
    }
  }
}

TEST_F(ScoresSm90, ReplaysAreIdentical) {
  for (const int32_t seqs : {2, 30}) {
    ScoresShape shape = shape_of(64, 64);
    shape.num_seqs = seqs;
    shape.num_rows = 33;
    shape.max_keys = 2500;
    ScoresProblem problem(shape, run_seed());
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
}

TEST_F(ScoresSm90, EightThreadsOnOneBackend) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      ScoresShape shape = shape_of(kHeads[t % 2], kPageTokens[t % 6]);
      shape.num_rows = 20;
      shape.max_keys = 1500;
      shape.num_seqs = t < 4 ? 2 : 15;
      ScoresProblem problem(shape, run_seed() + t);
      ScoresCheck check(problem);
      DeviceScores device(problem);
      const TestStream stream;
      for (int i = 0; i < 6; ++i) {
        device.reset_outputs();
        cuda_backend().scores(device.params(), stream.get());
        stream.wait();
        check.expect(device.read());
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
}

/// Queries, keys, scales and scores beyond 2^32 bytes and 2^31 elements: the same bits as from small arrays.
TEST_F(ScoresSm90, OffsetsBeyond32BitsLong) {
  constexpr int64_t kFar = int64_t{1} << 31;
  for (const int32_t page_tokens : {0, 64}) {
    for (const int32_t more_seqs : {0, 1000}) {
      ScoresShape shape = shape_of(32, 0);
      shape.num_seqs = 1;
      shape.num_rows = 3;
      shape.max_keys = 128;
      shape.causal = true;
      const ScoresProblem problem = ScoresProblem(shape, run_seed()).laid_out(page_tokens);
      const DeviceScores device(problem);
      SeenScores near(problem);
      near.run_all(device);

      ScoresParams p = device.params();
      const int64_t q_bytes = 32 * 128;
      auto *q = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(2 * kFar + q_bytes)));
      for (int32_t r = 0; r < 3; ++r) {
        upload(q + r * kFar, problem.q.data() + r * problem.q_row_stride(), size_t(q_bytes));
      }
      p.query.q = q;
      p.query.q_row_stride = kFar;

      // The last pages or vectors of a pool of 5 GiB hold the keys, in order.
      const int64_t unit = page_tokens == 0 ? 128 : 64 * (128 + 4);
      const int64_t capacity = (int64_t{5} << 30) / unit;
      const int64_t units = page_tokens == 0 ? shape.max_keys : shape.max_keys / 64;
      auto *pool = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(capacity * unit)));
      float *scales =
          page_tokens == 0 ? static_cast<float *>(device_malloc(static_cast<size_t>(capacity) * 4)) : nullptr;
      std::vector<int32_t> table;
      for (int64_t i = 0; i < units; ++i) table.push_back(static_cast<int32_t>(capacity - units + i));
      for (int32_t s = 0; s < shape.max_keys; ++s) {
        const ScoresProblem::Key key = problem.key(0, s);
        const int64_t at = capacity - units + (page_tokens == 0 ? s : s / 64);
        const int64_t token = page_tokens == 0 ? 0 : s % 64;
        upload(pool + at * unit + token * 128, key.vector, 128);
        upload(page_tokens == 0 ? reinterpret_cast<uint8_t *>(scales + at) : pool + at * unit + 64 * 128 + token * 4,
               &key.scale, 4);
      }
      const DeviceArray<int32_t> device_table(table);
      const DeviceArray<int64_t> offsets(std::vector<int64_t>{capacity - units});
      p.keys.data = pool;
      p.keys.scales = scales;
      p.keys.stride_bytes = unit;
      p.keys.capacity = capacity;
      p.keys.block_table = page_tokens == 0 ? nullptr : device_table.data();
      p.keys.key_offsets = page_tokens == 0 ? offsets.data() : nullptr;
      p.rows.num_seqs += more_seqs;

      auto *scores = static_cast<float *>(device_malloc(static_cast<size_t>(2 * kFar + shape.max_keys) * 4));
      p.scores = scores;
      p.score_stride = kFar;
      p.first_column = 0;
      p.num_columns = shape.max_keys;
      p.others = OtherColumns::kClean;
      cuda_backend().scores(p, nullptr);
      IC_REQUIRE_CUDA(cudaDeviceSynchronize());
      std::vector<float> far(static_cast<size_t>(3 * shape.max_keys));
      for (int32_t r = 0; r < 3; ++r) {
        IC_REQUIRE_CUDA(cudaMemcpy(far.data() + r * shape.max_keys, scores + r * kFar,
                                   static_cast<size_t>(shape.max_keys) * 4, cudaMemcpyDeviceToHost));
      }
      EXPECT_EQ(std::memcmp(far.data(), near.scores.data(), far.size() * 4), 0) << "page_tokens " << page_tokens;
      for (void *memory : {static_cast<void *>(q), static_cast<void *>(pool), static_cast<void *>(scales),
                           static_cast<void *>(scores)}) {
        cudaFree(memory);
      }
    }
  }
}

/// Prints; what is expected stands in docs/kernels/scores_sm90.md. Replays of a graph, by the card's clock. 8192
/// rows, sustained: 0.3 s behind 0.2 s of the same; all others 0.04 s behind 0.02 s.
TEST_F(ScoresSm90, SpeedLong) {
  struct Case {
    int32_t heads, rows, seqs, keys, page_tokens;
  };
  constexpr Case kCases[] = {
      {64, 8192, 1, 131072, 0},  {64, 8192, 1, 131072, 64}, {32, 8192, 1, 131072, 0},  {32, 8192, 1, 131072, 64},
      {64, 1, 1, 32768, 64},     {64, 1, 1, 131072, 64},    {64, 1, 1, 204800, 64},    {64, 8, 8, 131072, 64},
      {64, 32, 32, 32768, 64},   {64, 64, 64, 131072, 64},  {64, 128, 128, 32768, 64}, {32, 64, 64, 131072, 64},
      {32, 128, 128, 32768, 64}, {64, 128, 64, 32768, 64},  {64, 256, 64, 32768, 64},  {64, 64, 64, 32768, 1},
      {64, 4096, 16, 16384, 16}, {64, 4096, 16, 16384, 1},
  };
  constexpr int32_t kDim = 128;
  const TestStream stream;
  cudaEvent_t start = nullptr, stop = nullptr;
  IC_REQUIRE_CUDA(cudaEventCreate(&start));
  IC_REQUIRE_CUDA(cudaEventCreate(&stop));
  std::mt19937 random(run_seed());
  std::normal_distribution<float> normal;
  std::vector<uint8_t> numbers(size_t{1} << 22);
  for (uint8_t &x : numbers) encode(normal(random) * 100.0f, IC_DTYPE_E4M3, &x);
  size_t free_bytes = 0, all_bytes = 0;
  IC_REQUIRE_CUDA(cudaMemGetInfo(&free_bytes, &all_bytes));
  for (const Case &c : kCases) {
    const int32_t tokens = c.page_tokens == 0 ? 1 : c.page_tokens;
    const int64_t unit = c.page_tokens == 0 ? kDim : tokens * (kDim + 4);
    const int32_t blocks = c.keys / tokens;
    // Small problems rotate over copies of the keys, past the second level cache.
    const int64_t copies =
        c.rows > 4096 ? 1 : std::clamp<int64_t>((int64_t{200} << 20) / (c.seqs * int64_t{blocks} * unit), 1, 10);
    const int64_t units = int64_t{c.seqs} * blocks * copies;
    auto *pool = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(units * unit)));
    auto *scales = static_cast<float *>(device_malloc(static_cast<size_t>(units) * 4));
    auto *scores = static_cast<float *>(device_malloc(static_cast<size_t>(c.rows) * static_cast<size_t>(c.keys) * 4));
    IC_REQUIRE_CUDA(cudaMemset(scales, 0x3c, static_cast<size_t>(units) * 4));
    upload(pool, numbers.data(), std::min(numbers.size(), static_cast<size_t>(units * unit)));
    for (int64_t at = static_cast<int64_t>(numbers.size()); at < units * unit; at *= 2) {
      IC_REQUIRE_CUDA(
          cudaMemcpy(pool + at, pool, static_cast<size_t>(std::min(at, units * unit - at)), cudaMemcpyDeviceToDevice));
    }
    std::vector<uint8_t> q(static_cast<size_t>(c.rows * c.heads) * kDim);
    for (size_t i = 0; i < q.size(); ++i) q[i] = numbers[i * 7 % numbers.size()];
    std::vector<float> w(static_cast<size_t>(c.rows * c.heads));
    for (float &x : w) x = normal(random);
    std::vector<int32_t> table(c.page_tokens == 0 ? 0 : static_cast<size_t>(units)), seq, end;
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
    std::shuffle(table.begin(), table.end(), random);
    double pairs = 0.0;
    const int32_t per_seq = c.rows / c.seqs;
    for (int32_t r = 0; r < c.rows; ++r) {
      seq.push_back(r / per_seq);
      end.push_back(c.keys - per_seq + r % per_seq + 1);
      pairs += end.back();
    }
    const DeviceArray<uint8_t> device_q(q);
    const DeviceArray<float> device_w(w);
    const DeviceArray<int32_t> device_table(table), device_seq(seq), device_end(end);
    std::vector<int64_t> first(static_cast<size_t>(c.seqs), 0);
    const DeviceArray<int64_t> offsets(first);
    ScoresParams p{};
    p.rows = {c.rows, c.seqs, c.keys, device_seq.data(), nullptr, device_end.data(), nullptr};
    p.query = {device_q.data(), c.heads * kDim, device_w.data(), c.heads, nullptr, 0, c.heads, kDim, IC_DTYPE_E4M3, 0};
    p.keys = {pool,
              c.page_tokens == 0 ? scales : nullptr,
              unit,
              units,
              c.page_tokens,
              c.page_tokens == 0 ? 0 : blocks,
              c.page_tokens == 0 ? nullptr : device_table.data(),
              blocks,
              nullptr};
    p.scores = scores;
    p.score_stride = c.keys;
    p.num_columns = c.keys;
    const int calls = c.rows > 4096 ? 1 : 10;
    CapturedGraph graph([&](cudaStream_t s) {
      for (int i = 0; i < calls; ++i) {
        ScoresParams part = p;
        if (c.page_tokens != 0) part.keys.block_table += i % copies * c.seqs * int64_t{blocks};
        cuda_backend().scores(part, s);
      }
    });
    const auto time = [&](int replays) {
      IC_REQUIRE_CUDA(cudaEventRecord(start, graph.stream()));
      for (int i = 0; i < replays; ++i) graph.launch();
      IC_REQUIRE_CUDA(cudaEventRecord(stop, graph.stream()));
      IC_REQUIRE_CUDA(cudaEventSynchronize(stop));
      float ms = 0.0f;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&ms, start, stop));
      return ms / static_cast<float>(replays);
    };
    const float once = std::max(time(1), 0.005f);
    const bool large = c.rows > 4096;
    const float burst = time(1);
    time(std::max(1, static_cast<int>((large ? 200.0f : 20.0f) / once)));
    const double seconds = time(std::max(1, static_cast<int>((large ? 300.0f : 40.0f) / once))) * 1e-3 / calls;
    const double key_bytes = static_cast<double>(c.seqs) * blocks * static_cast<double>(unit) + pairs * 4.0;
    std::printf(
        "H %3d, %4d rows of %3d seqs x %6d keys, page %3d: %9.1f us (second call %9.1f), %6.1f TFLOP/s, %7.1f GB/s\n",
        c.heads, c.rows, c.seqs, c.keys, c.page_tokens, seconds * 1e6, burst * 1e3 / calls,
        pairs * 2 * c.heads * kDim / seconds * 1e-12, key_bytes / seconds * 1e-9);
    std::fflush(stdout);
    cudaFree(scores);
    cudaFree(scales);
    cudaFree(pool);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
}

}  // namespace
}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// fp16, bf16 and e4m3 scores on the tensor cores: within the bound of fp64, and bits that nothing but q, k, w and the
// key's scale changes.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

#include "tests/gpu/captured.h"
#include "tests/gpu/scores_check.h"
#include "tests/gpu/scores_problem.h"

namespace ic::test {
namespace {

constexpr int32_t kDtypes[] = {IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3};
constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};
constexpr int32_t kHeads[] = {1, 4, 7, 32, 33, 64, 100, 128};

void compare(const ScoresShape &shape, uint32_t seed, Backend &backend = cuda_backend()) {
  SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
  ScoresProblem problem(shape, seed);
  ScoresCheck check(problem);
  DeviceScores device(problem);
  backend.scores(device.params(), nullptr);
  check.expect(device.read());
}

TEST(ScoresMma, EveryLayoutAndGeometry) {
  uint32_t seed = run_seed();
  for (const int32_t dtype : kDtypes) {
    for (const int32_t head_dim : {32, 64, 128}) {
      for (const int32_t heads : kHeads) {
        const int32_t page_tokens = kPageTokens[seed % 6];
        compare({.dtype = dtype, .num_heads = heads, .head_dim = head_dim, .page_tokens = page_tokens}, seed++);
        if (HasFatalFailure()) return;
      }
      for (const int32_t page_tokens : kPageTokens) {
        compare({.dtype = dtype, .num_heads = 16, .head_dim = head_dim, .page_tokens = page_tokens}, seed++);
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// Sums of few units of one size are exact in any order: the bits of the fma chain.
TEST(ScoresMma, IntegersGiveTheBitsOfEveryPath) {
  uint32_t seed = run_seed();
  for (const int32_t dtype : kDtypes) {
    for (const int32_t head_dim : {32, 64, 128}) {
      for (const int32_t page_tokens : kPageTokens) {
        compare({.dtype = dtype,
                 .num_heads = kHeads[seed % 8],
                 .head_dim = head_dim,
                 .page_tokens = page_tokens,
                 .num_rows = 20,
                 .integers = true},
                seed);
        ++seed;
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ScoresMma, UnalignedPointersAndStrides) {
  uint32_t seed = run_seed();
  for (const int32_t dtype : kDtypes) {
    for (const int32_t head_dim : {32, 64, 128}) {
      for (const int32_t page_tokens : kPageTokens) {
        compare({.dtype = dtype, .num_heads = 5, .head_dim = head_dim, .page_tokens = page_tokens, .unaligned = true},
                seed++);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ScoresMma, SpecialValues) {
  for (uint32_t i = 0; i < 36; ++i) {
    compare({.dtype = kDtypes[i % 3],
             .num_heads = kHeads[i / 3 % 8],
             .head_dim = 32 << i % 3,
             .page_tokens = kPageTokens[i % 6],
             .max_keys = 200,
             .special = true},
            run_seed() + i);
    if (HasFatalFailure()) return;
  }
}

TEST(ScoresMma, IllegalValuesAreAbsentAndReported) {
  uint32_t seen = 0;
  for (uint32_t i = 0; i < 36; ++i) {
    const ScoresShape shape{
        .dtype = kDtypes[i / 6 % 3], .page_tokens = kPageTokens[i % 6], .num_seqs = 4, .num_rows = 33, .illegal = true};
    compare(shape, run_seed() + i);
    if (HasFatalFailure()) return;
    ScoresProblem problem(shape, run_seed() + i);
    seen |= problem.run_on_cpu().fault;
  }
  EXPECT_EQ(seen, IC_FAULT_KEY_END | IC_FAULT_SEQUENCE | IC_FAULT_PAGE) << "the test has not met every fault";
}

TEST(ScoresMma, NothingToDo) {
  for (const int32_t dtype : kDtypes) {
    ScoresProblem problem({.dtype = dtype, .num_rows = 3, .max_keys = 70}, run_seed());
    DeviceScores device(problem);
    ScoresParams none = device.params();
    none.rows.count = 0;
    cuda_backend().scores(none, nullptr);
    none = device.params();
    none.num_columns = 0;
    cuda_backend().scores(none, nullptr);
    for (const float score : device.read().scores) ASSERT_EQ(score, ScoresProblem::kUntouched);
  }
}

/// The score of every position that a row sees, whatever window it was asked in.
class SeenScores {
 public:
  explicit SeenScores(const ScoresProblem &problem) : problem_(problem), width_(problem.shape().max_keys) {}

  /// Runs rows [first, first + count) over the columns [begin, end); results beside the ones before.
  void run(const DeviceScores &device, int32_t first, int32_t count, int32_t begin, int32_t end,
           Backend &backend = cuda_backend()) {
    ScoresParams p = device.params();
    const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(count * (end - begin)), 7.0f));
    p.rows.count = count;
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
  void run_all(const DeviceScores &device, Backend &backend = cuda_backend()) {
    run(device, 0, problem_.shape().num_rows, 0, width_, backend);
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

/// Contiguous and every page size, rows together and alone, one window and many, few thread blocks and many.
TEST(ScoresMma, BitsDependOnNothingButTheOperands) {
  uint32_t seed = run_seed();
  for (const int32_t dtype : kDtypes) {
    for (const int32_t head_dim : {32, 64, 128}) {
      const ScoresShape shape{.dtype = dtype,
                              .num_heads = kHeads[3 + seed % 5],
                              .head_dim = head_dim,
                              .num_seqs = 3,
                              .num_rows = 64,
                              .max_keys = 700,
                              .causal = seed % 2 == 0};
      SCOPED_TRACE(describe(shape) + ", seed " + std::to_string(seed));
      const ScoresProblem problem(shape, seed++);
      const DeviceScores device(problem);
      SeenScores all(problem);
      all.run_all(device);
      const auto numbers = std::count_if(all.scores.begin(), all.scores.end(), [](float x) { return x > -1e38f; });
      EXPECT_GT(numbers, 5000) << "the test compares nothing";
      for (const int32_t page_tokens : kPageTokens) {
        const ScoresProblem paged = problem.laid_out(page_tokens);
        const DeviceScores there(paged);
        SeenScores other(paged);
        other.run_all(there);
        expect_same_bits(all, other, "page_tokens " + std::to_string(page_tokens));
      }
      SeenScores alone(problem);
      for (int32_t r = 0; r < shape.num_rows; ++r) alone.run(device, r, 1, 0, shape.max_keys);
      expect_same_bits(all, alone, "rows alone");
      SeenScores blocks(problem);
      for (int32_t r = 0; r < shape.num_rows; r += 5) {
        blocks.run(device, r, std::min(5, shape.num_rows - r), 0, shape.max_keys);
      }
      expect_same_bits(all, blocks, "five rows each");
      SeenScores windows(problem);
      for (int32_t c = 0; c < shape.max_keys; c += 93) {
        windows.run(device, 0, shape.num_rows, c, std::min(c + 93, shape.max_keys));
      }
      expect_same_bits(all, windows, "windows");
      for (const int32_t max_ctas : {1, 7}) {
        const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
        SeenScores few(problem);
        few.run_all(device, *limited);
        expect_same_bits(all, few, "max_ctas " + std::to_string(max_ctas));
      }
      if (HasFatalFailure()) return;
    }
  }
}

/// Products whose sums a tensor core rounds as badly as it can; how much of the bound that takes is printed.
TEST(ScoresMma, ErrorBoundHoldsForHardSums) {
  std::mt19937 random(run_seed());
  const auto uniform = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); };
  for (const int32_t dtype : kDtypes) {
    for (const int32_t heads : {1, 8, 64, 128}) {
      for (const int32_t head_dim : {32, 64, 128}) {
        double worst = 0.0;
        for (int kind = 0; kind < 4; ++kind) {
          const ScoresShape shape{.dtype = dtype,
                                  .num_heads = heads,
                                  .head_dim = head_dim,
                                  .num_seqs = 1,
                                  .num_rows = 3,
                                  .max_keys = 128,
                                  .causal = true};
          ScoresProblem problem(shape, run_seed());
          const auto size = static_cast<size_t>(problem.element());
          const auto number = [&](size_t i, bool of_key) {
            const auto d = static_cast<int32_t>(i % static_cast<size_t>(head_dim));
            switch (kind) {
              case 0:  // truncated addends of one sign
                return uniform(1.0f, 2.0f);
              case 1:  // one large product, then small ones below its last bit
                return d == 0 ? 16.0f : uniform(0.004f, 0.03f);
              case 2:  // large products that cancel later
                return d < 2 || d >= head_dim - 2 ? (of_key && d > 1 ? -14.0f : 14.0f) : uniform(-1.0f, 1.0f);
              default:
                return uniform(-1.0f, 1.0f);
            }
          };
          for (size_t i = 0; i < problem.q.size() / size; ++i) {
            const auto head_element = i % static_cast<size_t>(problem.q_row_stride());
            encode(number(head_element, false), dtype, &problem.q[i * size]);
          }
          for (int32_t position = 0; position < shape.max_keys; ++position) {
            auto *vector = const_cast<uint8_t *>(problem.key(0, position).vector);
            for (int32_t d = 0; d < head_dim; ++d) {
              encode(number(static_cast<size_t>(d), true), dtype, vector + static_cast<size_t>(d) * size);
            }
          }
          if (kind != 3) {
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
              ASSERT_LE(error, score_error_bound(shape)) << describe(shape) << ", kind " << kind << ", position " << s;
            }
          }
        }
        std::printf("%-5s H %3d D %3d: largest error %6.2f units of 2^-24, bound %6.1f\n", dtype_name(dtype), heads,
                    head_dim, worst * (1 << 24),
                    score_error_bound({.dtype = dtype, .num_heads = heads, .head_dim = head_dim}) * (1 << 24));
      }
    }
  }
}

TEST(ScoresMma, MaxCtasIsKept) {
  for (const int32_t max_ctas : {1, 2, 7, 500}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    compare({.dtype = kDtypes[max_ctas % 3], .num_heads = 32, .page_tokens = 64, .num_rows = 40, .max_keys = 3000},
            run_seed(), *limited);
  }
}

TEST(ScoresMma, PrefillLong) {
  for (const int32_t dtype : kDtypes) {
    for (const int32_t page_tokens : {0, 64}) {
      compare({.dtype = dtype,
               .num_heads = 64,
               .head_dim = 128,
               .page_tokens = page_tokens,
               .num_seqs = 2,
               .num_rows = 300,
               .max_keys = 5000,
               .causal = true},
              run_seed());
    }
  }
}

TEST(ScoresMma, DecodeLong) {
  for (const int32_t dtype : kDtypes) {
    for (const int32_t page_tokens : {1, 64}) {
      compare({.dtype = dtype,
               .num_heads = 32,
               .head_dim = 128,
               .page_tokens = page_tokens,
               .num_seqs = 16,
               .num_rows = 24,
               .max_keys = 20000,
               .causal = true},
              run_seed());
    }
  }
}

TEST(ScoresMma, RandomShapesLong) {
  std::mt19937 random(run_seed());
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  for (int i = 0; i < 250; ++i) {
    ScoresShape shape;
    shape.dtype = kDtypes[draw(0, 2)];
    shape.num_heads = draw(0, 2) == 0 ? kHeads[draw(0, 7)] : draw(1, 128);
    shape.head_dim = 32 << draw(0, 2);
    shape.page_tokens = kPageTokens[draw(0, 5)];
    shape.num_seqs = draw(1, 9);
    shape.num_rows = draw(1, 90);
    shape.max_keys = draw(0, 3) == 0 ? draw(1, 300) : draw(1, 4000);
    shape.causal = draw(0, 2) == 0;
    shape.illegal = draw(0, 3) == 0;
    shape.special = draw(0, 3) == 0;
    shape.unaligned = draw(0, 3) == 0;
    shape.integers = draw(0, 3) == 0 && !shape.special;
    compare(shape, static_cast<uint32_t>(draw(0, INT32_MAX)));
    if (HasFatalFailure()) return;
  }
}

TEST(ScoresMma, CapturedAndReplayedWithOtherContents) {
  for (uint32_t i = 0; i < 18; ++i) {
    const ScoresShape shape{.dtype = kDtypes[i / 6 % 3],
                            .num_heads = kHeads[i % 8],
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
    for (int replay = 0; replay < 3; ++replay) {
      graph.replay();
      ScoresCheck(problem).expect(device.read());
      if (HasFatalFailure()) return;
      problem.redraw();  // lengths, sequences, tables, offsets, queries and keys
      device.upload();
    }
  }
}

TEST(ScoresMma, ReplaysAreIdentical) {
  for (const int32_t dtype : kDtypes) {
    ScoresProblem problem(
        {.dtype = dtype, .num_heads = 64, .head_dim = 128, .page_tokens = 64, .num_rows = 33, .max_keys = 2500},
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
}

TEST(ScoresMma, EightThreadsOnOneBackend) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      ScoresProblem problem({.dtype = kDtypes[t % 3],
                             .num_heads = 16,
                             .page_tokens = kPageTokens[t % 6],
                             .num_rows = 20,
                             .max_keys = 1500},
                            run_seed() + t);
      ScoresCheck check(problem);
      DeviceScores device(problem);
      const TestStream stream;
      for (int i = 0; i < 10; ++i) {
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
TEST(ScoresMma, OffsetsBeyond32BitsLong) {
  constexpr int64_t kFar = int64_t{1} << 31;
  for (const int32_t page_tokens : {0, 64}) {
    const ScoresShape shape{.dtype = IC_DTYPE_E4M3,
                            .num_heads = 8,
                            .head_dim = 32,
                            .num_seqs = 1,
                            .num_rows = 2,
                            .max_keys = 128,
                            .causal = true};
    const ScoresProblem problem = ScoresProblem(shape, run_seed()).laid_out(page_tokens);
    const DeviceScores device(problem);
    SeenScores near(problem);
    near.run_all(device);

    ScoresParams p = device.params();
    const int64_t q_bytes = int64_t{shape.num_heads} * shape.head_dim;
    auto *q = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(kFar + q_bytes)));
    for (int32_t r = 0; r < 2; ++r)
      upload(q + r * kFar, problem.q.data() + r * problem.q_row_stride(), size_t(q_bytes));
    p.query.q = q;
    p.query.q_row_stride = kFar;

    // The last pages or vectors of a pool of 5 GiB hold the keys, in order.
    const int64_t unit = page_tokens == 0 ? 32 : 64 * (32 + 4);
    const int64_t capacity = (int64_t{5} << 30) / unit;
    const int64_t units = page_tokens == 0 ? shape.max_keys : shape.max_keys / 64;
    auto *pool = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(capacity * unit)));
    float *scales = page_tokens == 0 ? static_cast<float *>(device_malloc(static_cast<size_t>(capacity) * 4)) : nullptr;
    std::vector<int32_t> table;
    for (int64_t i = 0; i < units; ++i) table.push_back(static_cast<int32_t>(capacity - units + i));
    for (int32_t s = 0; s < shape.max_keys; ++s) {
      const ScoresProblem::Key key = problem.key(0, s);
      const int64_t at = capacity - units + (page_tokens == 0 ? s : s / 64);
      const int64_t token = page_tokens == 0 ? 0 : s % 64;
      upload(pool + at * unit + token * 32, key.vector, 32);
      upload(page_tokens == 0 ? reinterpret_cast<uint8_t *>(scales + at) : pool + at * unit + 64 * 32 + token * 4,
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

    auto *scores = static_cast<float *>(device_malloc(static_cast<size_t>(kFar + shape.max_keys) * 4));
    p.scores = scores;
    p.score_stride = kFar;
    p.first_column = 0;
    p.num_columns = shape.max_keys;
    p.others = OtherColumns::kClean;
    cuda_backend().scores(p, nullptr);
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    std::vector<float> far(static_cast<size_t>(2 * shape.max_keys));
    for (int32_t r = 0; r < 2; ++r) {
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

/// Prints; what is expected stands in docs/kernels/scores.md.
TEST(ScoresMma, SpeedLong) {
  struct Case {
    const char *name;
    int32_t dtype, heads, rows, seqs, keys;
  };
  constexpr Case kCases[] = {
      {"prefill", IC_DTYPE_E4M3, 64, 8192, 1, 32768}, {"prefill", IC_DTYPE_BF16, 64, 8192, 1, 32768},
      {"prefill", IC_DTYPE_E4M3, 32, 8192, 1, 32768}, {"prefill", IC_DTYPE_BF16, 32, 8192, 1, 32768},
      {"decode", IC_DTYPE_E4M3, 64, 1, 1, 131072},    {"decode", IC_DTYPE_E4M3, 64, 64, 64, 131072},
      {"decode", IC_DTYPE_E4M3, 64, 128, 128, 32768}, {"decode", IC_DTYPE_E4M3, 32, 64, 64, 131072},
      {"decode", IC_DTYPE_BF16, 64, 64, 64, 131072},  {"decode, 4 each", IC_DTYPE_E4M3, 64, 256, 64, 32768},
  };
  constexpr int32_t kDim = 128, kTokens = 64;
  const TestStream stream;
  cudaEvent_t start = nullptr, stop = nullptr;
  IC_REQUIRE_CUDA(cudaEventCreate(&start));
  IC_REQUIRE_CUDA(cudaEventCreate(&stop));
  for (const Case &c : kCases) {
    const int64_t size = dtype_bytes(c.dtype);
    const int64_t page = kTokens * (kDim * size + (c.dtype == IC_DTYPE_E4M3 ? 4 : 0));
    const int32_t blocks = c.keys / kTokens;
    const int64_t pages = int64_t{c.seqs} * blocks;
    auto *pool = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(pages * page)));
    auto *scores = static_cast<float *>(device_malloc(static_cast<size_t>(c.rows) * static_cast<size_t>(c.keys) * 4));
    // Random numbers everywhere: the power that a multiplication draws depends on them.
    std::mt19937 random(run_seed());
    std::normal_distribution<float> normal;
    std::vector<uint8_t> numbers(size_t{1} << 20);
    for (size_t i = 0; i < numbers.size(); i += static_cast<size_t>(size)) encode(normal(random), c.dtype, &numbers[i]);
    for (int64_t at = 0; at < pages * page; at += static_cast<int64_t>(numbers.size())) {
      const auto bytes = std::min(pages * page - at, static_cast<int64_t>(numbers.size()));
      upload(pool + at, numbers.data(), static_cast<size_t>(bytes));
    }
    std::vector<uint8_t> q(static_cast<size_t>(c.rows * c.heads * kDim * size));
    for (size_t i = 0; i < q.size(); ++i) q[i] = numbers[i % numbers.size()];
    std::vector<float> w(static_cast<size_t>(c.rows * c.heads));
    for (float &x : w) x = normal(random);
    std::vector<int32_t> table(static_cast<size_t>(pages)), seq, end;
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
    ScoresParams p{};
    p.rows = {c.rows, c.seqs, c.keys, device_seq.data(), nullptr, device_end.data(), nullptr};
    p.query = {device_q.data(), c.heads * kDim, device_w.data(), c.heads, nullptr, 0, c.heads, kDim, c.dtype, 0};
    p.keys = {pool, nullptr, page, pages, kTokens, blocks, device_table.data(), blocks, nullptr};
    p.scores = scores;
    p.score_stride = c.keys;
    p.num_columns = c.keys;

    std::vector<float> times;
    for (int i = 0; i < 9; ++i) {
      IC_REQUIRE_CUDA(cudaEventRecord(start, stream.get()));
      cuda_backend().scores(p, stream.get());
      IC_REQUIRE_CUDA(cudaEventRecord(stop, stream.get()));
      stream.wait();
      float ms = 0.0f;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&ms, start, stop));
      if (i > 1) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    const double seconds = times[times.size() / 2] * 1e-3;
    const double key_bytes = static_cast<double>(pages * page) + pairs * 4.0;
    std::printf(
        "%-14s %-5s H %3d, %4d rows of %3d seqs x %6d keys: %9.1f us (%.1f to %.1f), %6.1f TFLOP/s, %7.1f GB/s\n",
        c.name, dtype_name(c.dtype), c.heads, c.rows, c.seqs, c.keys, seconds * 1e6, times.front() * 1e3,
        times.back() * 1e3, pairs * 2 * c.heads * kDim / seconds * 1e-12, key_bytes / seconds * 1e-9);
    std::fflush(stdout);
    cudaFree(scores);
    cudaFree(pool);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
}

}  // namespace
}  // namespace ic::test

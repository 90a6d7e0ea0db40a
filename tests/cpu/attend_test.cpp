// SPDX-License-Identifier: Apache-2.0
// Sparse attention against its definition in double, and its bits across everything that must not change them.
#include "cpu/attend.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/cpu/attend_problem.h"
#include "tests/cpu/levels.h"
#include "tests/cpu/sparse_memory.h"

namespace ic::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class Attend : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Levels, Attend, testing::ValuesIn(available_levels()), level_name);

uint64_t hash_bits(const std::vector<float> &values, uint64_t hash = 0xcbf29ce484222325u) {
  for (const float value : values) hash = (hash ^ bits_from_f32(value)) * 0x100000001b3u;
  return hash;
}

void expect_same_bits(const AttendResult &a, const AttendResult &b) {
  ASSERT_EQ(a.out.size(), b.out.size());
  for (size_t i = 0; i < a.out.size(); ++i) ASSERT_EQ(bits_from_f32(a.out[i]), bits_from_f32(b.out[i])) << "out " << i;
  for (size_t i = 0; i < a.lse.size(); ++i) ASSERT_EQ(bits_from_f32(a.lse[i]), bits_from_f32(b.lse[i])) << "lse " << i;
}

// tolerance: of values that are at most 1 in magnitude; bf16 adds its half unit.
void expect_near(const AttendProblem &problem, const AttendResult &result, float tolerance = 3e-6f) {
  const AttendResult expected = problem.reference();
  const float relative = problem.shape().out_dtype == IC_DTYPE_BF16 ? 0x1p-8f : 0.0f;
  ASSERT_EQ(result.out.size(), expected.out.size());
  for (size_t i = 0; i < expected.out.size(); ++i) {
    ASSERT_NEAR(result.out[i], expected.out[i], tolerance + relative * std::fabs(expected.out[i])) << "out " << i;
  }
  for (size_t i = 0; i < expected.lse.size(); ++i) {
    if (std::isinf(expected.lse[i])) {
      ASSERT_EQ(result.lse[i], -kInf) << "lse " << i;
    } else {
      ASSERT_NEAR(result.lse[i], expected.lse[i], 4 * tolerance * std::max(1.0f, std::fabs(expected.lse[i])))
          << "lse " << i;
    }
  }
}

TEST_P(Attend, MatchesTheDefinitionInEveryLayout) {
  for (const int32_t kv_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
    for (const int32_t page_tokens : {0, 1, 16, 32, 64, 128}) {
      for (const bool slots : {false, true}) {
        AttendShape shape;
        shape.kv_dtype = kv_dtype;
        shape.page_tokens = page_tokens;
        shape.slots = slots;
        SCOPED_TRACE(testing::Message() << "kv " << kv_dtype << " pages of " << page_tokens << " slots " << slots);
        const AttendProblem problem(shape);
        const AttendResult result = problem.run(GetParam());
        expect_near(problem, result);
        EXPECT_EQ(result.fault, 0u);
      }
    }
  }
}

TEST_P(Attend, MatchesTheDefinitionInEveryShape) {
  struct {
    int32_t heads, d_latent, d_rope;
  } const dims[] = {{1, 16, 0}, {3, 32, 16}, {7, 80, 32}, {13, 96, 0}, {25, 16, 16}, {2, 512, 64}, {1, 1024, 256}};
  for (const auto &dim : dims) {
    for (const int32_t q_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
      for (const int32_t out_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
        AttendShape shape;
        shape.num_heads = dim.heads;
        shape.d_latent = dim.d_latent;
        shape.d_rope = dim.d_rope;
        shape.q_dtype = q_dtype;
        shape.out_dtype = out_dtype;
        shape.num_indices = 70;
        shape.seq_tokens = 90;
        shape.scale = 0.3f;
        SCOPED_TRACE(testing::Message() << dim.heads << " heads, " << dim.d_latent << "+" << dim.d_rope << ", q "
                                        << q_dtype << ", out " << out_dtype);
        const AttendProblem problem(shape);
        expect_near(problem, problem.run(GetParam()), 1e-5f);
      }
    }
  }
}

AttendShape fp8_shape() {
  AttendShape shape;
  shape.num_heads = 5;
  shape.d_latent = 512;
  shape.d_rope = 64;
  shape.kv_dtype = IC_DTYPE_E4M3;
  shape.q_dtype = IC_DTYPE_BF16;
  shape.page_tokens = 64;
  shape.scale = 0.05f;
  shape.rows = 4;
  shape.num_indices = 130;
  shape.seq_tokens = 150;
  return shape;
}

TEST_P(Attend, MatchesTheDefinitionInFp8) {
  for (const int32_t page_tokens : {0, 1, 64}) {
    AttendShape shape = fp8_shape();
    shape.page_tokens = page_tokens;
    const AttendProblem problem(shape);
    expect_near(problem, problem.run(GetParam()));
  }
}

// With one key its weight is exactly 1, so the output is the dequantised token itself: code * scale, rounded once.
TEST_P(Attend, Fp8TokenIsDequantisedExactly) {
  AttendShape shape = fp8_shape();
  shape.page_tokens = 0;
  shape.rows = 1;
  AttendProblem problem(shape);
  problem.lengths[0] = 1;
  problem.indices[0] = 3;
  uint8_t *token =
      problem.pool.data() + (problem.key_offsets[static_cast<size_t>(problem.seq[0])] + 3) * problem.stride_bytes;
  const float scales[4] = {0.1f, 3.7e-5f, 1.0f, 123.456f};
  std::memcpy(token + 512, scales, sizeof scales);
  for (int d = 0; d < 512; ++d) {
    const int code = (d + (d >= 256 ? 128 : 0)) & 0xff;  // every code with two scales, NaN left out
    token[d] = static_cast<uint8_t>((code & 0x7f) == 0x7f ? 0x35 : code);
  }
  const AttendResult result = problem.run(GetParam());
  for (int d = 0; d < 512; ++d) {
    for (int h = 0; h < 5; ++h) {
      const float expected = f32_from_e4m3(token[d]) * scales[d / 128];
      ASSERT_EQ(result.out[static_cast<size_t>(h * 512 + d)], expected) << "dimension " << d;
    }
  }
}

// The same result from every ISA level on every machine: inputs from a specified generator, bits pinned once.
TEST_P(Attend, BitsArePinned) {
  AttendShape small;
  small.num_heads = 14;
  small.scale = 2.5f;
  const AttendProblem problem(small);
  const AttendResult result = problem.run(GetParam());
  EXPECT_EQ(hash_bits(result.lse, hash_bits(result.out)), 0x3c9a28e08edc0c96u);
  AttendShape fp8 = fp8_shape();
  fp8.out_dtype = IC_DTYPE_BF16;
  AttendProblem fp8_problem(fp8);
  fp8_problem.sink = {-1.0f, 0.0f, 2.0f, 5.0f, 90.0f};
  const AttendResult fp8_result = fp8_problem.run(GetParam());
  EXPECT_EQ(hash_bits(fp8_result.lse, hash_bits(fp8_result.out)), 0x8ea925cf2648ef83u);
}

TEST_P(Attend, LayoutChangesNoBit) {
  const AttendResult expected = AttendProblem(AttendShape{}).run(GetParam());
  for (const int32_t page_tokens : {0, 1, 16, 32, 64, 128}) {
    for (const bool slots : {false, true}) {
      AttendShape shape;
      shape.page_tokens = page_tokens;
      shape.slots = slots;
      expect_same_bits(AttendProblem(shape).run(GetParam()), expected);
    }
  }
}

TEST_P(Attend, SkippedEntriesChangeNoBit) {
  AttendShape shape;
  AttendProblem problem(shape);
  const AttendResult expected = problem.run(GetParam());
  for (int32_t row = 0; row < shape.rows; ++row) {  // front-packed instead of holes
    const std::vector<int32_t> &list = problem.lists[static_cast<size_t>(row)];
    int32_t *indices = &problem.indices[static_cast<size_t>(row * shape.num_indices)];
    std::fill_n(indices, shape.num_indices, -1);
    std::copy(list.begin(), list.end(), indices);
    problem.lengths[static_cast<size_t>(row)] = static_cast<int32_t>(list.size());
  }
  expect_same_bits(problem.run(GetParam()), expected);
  AttendParams params = problem.params();
  params.lengths = nullptr;  // the whole list: -1 behind the entries
  Workers workers(1);
  expect_same_bits(problem.run({GetParam(), &workers}, params), expected);
}

void serial_backwards(void *, int64_t count, Task task, void *data) {
  for (int64_t i = count - 1; i >= 0; --i) task(data, i);
}

TEST_P(Attend, BatchAndThreadsChangeNoBit) {
  AttendShape shape;
  shape.num_heads = 67;
  shape.d_latent = 128;
  shape.rows = 5;
  shape.num_indices = 100;
  AttendProblem problem(shape);
  for (int32_t h = 0; h < shape.num_heads; ++h) problem.sink.push_back(0.1f * static_cast<float>(h - 30));
  const AttendResult expected = problem.run(GetParam());
  for (const int32_t threads : {2, 3, 7}) {
    Workers workers(threads);
    expect_same_bits(problem.run({GetParam(), &workers}, problem.params()), expected);
  }
  Workers host(4, serial_backwards, nullptr);
  expect_same_bits(problem.run({GetParam(), &host}, problem.params()), expected);
  Workers many(7);
  for (int32_t row = 0; row < shape.rows; ++row) {  // alone, its heads split over the threads
    AttendParams params = problem.params();
    params.rows.count = 1;
    params.rows.seq += row;
    params.indices += row * params.index_stride;
    params.lengths += row;
    params.q = static_cast<const float *>(params.q) + row * params.q_row_stride;
    const AttendResult alone = problem.run({GetParam(), &many}, params);
    for (size_t i = 0; i < alone.out.size(); ++i) {
      ASSERT_EQ(bits_from_f32(alone.out[i]),
                bits_from_f32(expected.out[static_cast<size_t>(row) * alone.out.size() + i]));
    }
    for (size_t i = 0; i < alone.lse.size(); ++i) {
      ASSERT_EQ(bits_from_f32(alone.lse[i]),
                bits_from_f32(expected.lse[static_cast<size_t>(row) * alone.lse.size() + i]));
    }
  }
}

TEST_P(Attend, StridesOfRows) {
  AttendShape shape;
  const AttendProblem problem(shape);
  const AttendResult expected = problem.run(GetParam());
  AttendParams params = problem.params();
  const int32_t q_row = 64 * 4, out_row = 48 * 4, rows = shape.rows;
  std::vector<float> q(static_cast<size_t>(rows * (q_row + 3))), out(static_cast<size_t>(rows * (out_row + 5)), 7.0f);
  std::vector<float> lse(static_cast<size_t>(rows * 6), 7.0f);
  for (int32_t row = 0; row < rows; ++row)
    std::copy_n(&problem.queries[static_cast<size_t>(row * q_row)], q_row, &q[static_cast<size_t>(row * (q_row + 3))]);
  Workers workers(1);
  const Executor executor{GetParam(), &workers};
  params.q = q.data();
  params.q_row_stride = q_row + 3;
  params.out = out.data();
  params.out_row_stride = out_row + 5;
  params.lse = lse.data();
  params.lse_row_stride = 6;
  params.workspace_size = attend_workspace_size(executor, 4, 48, 16, shape.num_indices);
  const std::unique_ptr<void, decltype(&std::free)> workspace(std::aligned_alloc(256, params.workspace_size),
                                                              &std::free);
  params.workspace = workspace.get();
  attend(executor, params);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < out_row + 5; ++i) {
      const float value = out[static_cast<size_t>(row * (out_row + 5) + i)];
      ASSERT_EQ(value, i < out_row ? expected.out[static_cast<size_t>(row * out_row + i)] : 7.0f);
    }
    for (int32_t h = 0; h < 6; ++h) {
      ASSERT_EQ(lse[static_cast<size_t>(row * 6 + h)], h < 4 ? expected.lse[static_cast<size_t>(row * 4 + h)] : 7.0f);
    }
  }
  params.lse = nullptr;  // not wanted
  attend(executor, params);
  ASSERT_EQ(out[0], expected.out[0]);
}

TEST_P(Attend, SinkJoinsTheDenominatorOnly) {
  AttendShape shape;
  AttendProblem problem(shape);
  const AttendResult without = problem.run(GetParam());
  problem.sink = {-2.0f, 0.5f, 3.0f, 40.0f};
  const AttendResult with = problem.run(GetParam());
  expect_near(problem, with);
  for (size_t i = 0; i < with.lse.size(); ++i) EXPECT_EQ(bits_from_f32(with.lse[i]), bits_from_f32(without.lse[i]));
  problem.sink = {-kInf, kInf, 1e30f, -1e30f};
  const AttendResult extreme = problem.run(GetParam());
  for (size_t i = 0; i < extreme.out.size(); ++i) {
    const size_t head = i / 48 % 4;
    EXPECT_EQ(extreme.out[i], head == 0 || head == 3 ? without.out[i] : 0.0f);
  }
}

TEST_P(Attend, RowsWithoutKeysAreZero) {
  for (const int32_t out_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
    for (const bool with_sink : {false, true}) {
      AttendShape shape;
      shape.out_dtype = out_dtype;
      shape.page_tokens = 64;
      AttendProblem problem(shape);
      if (with_sink) problem.sink.assign(4, 1.0f);
      problem.lengths[0] = 0;
      problem.lengths[1] = -3;
      std::fill_n(problem.indices.begin() + 2 * shape.num_indices, shape.num_indices, -1);
      problem.lengths[2] = shape.num_indices;
      std::fill_n(problem.indices.begin() + 3 * shape.num_indices, shape.num_indices, 7);
      problem.block_table[static_cast<size_t>(problem.seq[3] * problem.num_blocks)] = -1;  // the page of position 7
      const AttendResult result = problem.run(GetParam());
      for (size_t i = 0; i < 4 * 4 * 48; ++i) ASSERT_EQ(bits_from_f32(result.out[i]), 0u);
      for (size_t i = 0; i < 4 * 4; ++i) ASSERT_EQ(result.lse[i], -kInf);
      EXPECT_EQ(result.fault, 0u);
    }
  }
}

// Row 0 gets entries that must all be skipped, before, between and behind its good ones.
struct SkipCase {
  int32_t page_tokens;
  bool slots;
  int64_t bad;
  uint32_t fault;
};

TEST_P(Attend, IllegalEntriesAreSkippedAndReported) {
  const int32_t max32 = std::numeric_limits<int32_t>::max(), min32 = std::numeric_limits<int32_t>::min();
  const SkipCase cases[] = {
      {0, true, -1, 0},
      {0, true, -2, IC_FAULT_SLOT},
      {0, true, min32, IC_FAULT_SLOT},
      {0, true, 3 * 307 + 5, IC_FAULT_SLOT},  // capacity
      {0, true, max32, IC_FAULT_SLOT},
      {64, true, 26 * 64, IC_FAULT_SLOT},  // capacity 3 * 5 + 11
      {64, true, max32, IC_FAULT_SLOT},
      {64, true, -64, IC_FAULT_SLOT},
      {64, false, -1, 0},
      {64, false, -2, IC_FAULT_PAGE},
      {64, false, 320, 0},  // beyond the 5 blocks of the table
      {64, false, max32, 0},
      {64, false, min32, IC_FAULT_PAGE},
      {0, false, -2, IC_FAULT_PAGE},
      {0, false, 3 * 307, IC_FAULT_PAGE},  // with the sequence's offset of at least 5: outside
      {0, false, max32, IC_FAULT_PAGE},
  };
  for (const SkipCase &skip : cases) {
    SCOPED_TRACE(testing::Message() << "pages of " << skip.page_tokens << " slots " << skip.slots << " entry "
                                    << skip.bad);
    AttendShape shape;
    shape.page_tokens = skip.page_tokens;
    shape.slots = skip.slots;
    AttendProblem problem(shape);
    problem.lengths[0] = 100;
    const AttendResult expected = problem.run(GetParam());
    ASSERT_EQ(expected.fault, 0u);
    std::vector<int32_t> &indices = problem.indices;
    indices.insert(indices.begin(), static_cast<int32_t>(skip.bad));
    indices.insert(indices.begin() + 50, static_cast<int32_t>(skip.bad));
    indices.insert(indices.begin() + 102, static_cast<int32_t>(skip.bad));
    indices.erase(indices.begin() + 103, indices.begin() + 106);
    problem.lengths[0] = 103;
    const AttendResult result = problem.run(GetParam());
    expect_same_bits(result, expected);
    EXPECT_EQ(result.fault, skip.fault);
  }
}

TEST_P(Attend, IllegalPagesAreSkippedAndReported) {
  for (const int32_t bad : {-1, -2, 26, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    AttendShape shape;
    shape.page_tokens = 64;
    shape.rows = 1;
    AttendProblem problem(shape);
    problem.block_table[static_cast<size_t>(problem.seq[0] * problem.num_blocks + 2)] = bad;
    std::erase_if(problem.lists[0], [](int32_t position) { return position / 64 == 2; });
    const AttendResult result = problem.run(GetParam());
    expect_near(problem, result);
    EXPECT_EQ(result.fault, bad == -1 ? 0u : uint32_t{IC_FAULT_PAGE}) << bad;
  }
}

TEST_P(Attend, IllegalRowsAreEmptyAndReported) {
  for (const bool slots : {false, true}) {
    AttendShape shape;
    shape.page_tokens = 64;
    shape.slots = slots;
    AttendProblem problem(shape);
    const AttendResult expected = problem.run(GetParam());
    for (const int32_t seq : {-1, 3, std::numeric_limits<int32_t>::max()}) {
      AttendProblem broken(shape);
      broken.seq[3] = seq;
      const AttendResult result = broken.run(GetParam());
      EXPECT_EQ(result.fault, slots ? 0u : uint32_t{IC_FAULT_SEQUENCE});
      for (size_t h = 0; h < 4; ++h) EXPECT_EQ(result.lse[12 + h], slots ? expected.lse[12 + h] : -kInf);
      EXPECT_EQ(result.out[4 * 4 * 48], expected.out[4 * 4 * 48]);
    }
    problem.lengths[3] = shape.num_indices + 1;
    const AttendResult result = problem.run(GetParam());
    EXPECT_EQ(result.fault, uint32_t{IC_FAULT_KEY_END});
    for (size_t i = 3 * 4 * 48; i < 4 * 4 * 48; ++i) EXPECT_EQ(result.out[i], 0.0f);
  }
  AttendShape contiguous;
  for (const int64_t offset :
       {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(), int64_t{-400}}) {
    AttendProblem problem(contiguous);
    problem.key_offsets.assign(3, offset);
    const AttendResult result = problem.run(GetParam());
    EXPECT_EQ(result.fault, uint32_t{IC_FAULT_PAGE});
    for (const float lse : result.lse) EXPECT_EQ(lse, -kInf);
  }
}

TEST_P(Attend, SoftmaxIsStable) {
  AttendShape shape;
  shape.rows = 1;
  for (const float scale : {300.0f, 1e4f, 1e-6f}) {  // scores far apart, and all alike
    shape.scale = scale;
    const AttendProblem problem(shape);
    // The relative error of a score grows to an absolute one of its exponent.
    expect_near(problem, problem.run(GetParam()), std::max(3e-6f, scale * 4e-6f));
  }
  shape.scale = 1.0f;
  for (const bool rising : {false, true}) {  // each block's maximum far above, or below, the last one's
    AttendProblem problem(shape);
    const int32_t sequence = problem.seq[0];
    std::fill(problem.queries.begin(), problem.queries.end(), 1.0f);
    std::memcpy(problem.q_bytes.data(), problem.queries.data(), problem.q_bytes.size());
    for (int32_t i = 0; i < shape.num_indices; ++i) {
      problem.indices[static_cast<size_t>(i)] = i;
      problem.lists[0][static_cast<size_t>(i)] = i;
      const float shift = static_cast<float>(rising ? i : shape.num_indices - i) * 0.25f;
      float *key = const_cast<float *>(problem.key(sequence, i));
      key[63] = shift;
      std::memcpy(problem.pool.data() + (problem.key_offsets[static_cast<size_t>(sequence)] + i) * problem.stride_bytes,
                  key, 64 * sizeof(float));
    }
    expect_near(problem, problem.run(GetParam()), 2e-5f);
  }
}

TEST_P(Attend, InfiniteScores) {
  AttendShape shape;
  shape.rows = 1;
  shape.num_heads = 1;
  shape.num_indices = 130;
  AttendProblem problem(shape);
  std::fill(problem.queries.begin(), problem.queries.end(), 0.0f);
  problem.queries[0] = 1e30f;
  std::memcpy(problem.q_bytes.data(), problem.queries.data(), problem.q_bytes.size());
  const auto put = [&](int32_t token, float first) {
    std::memcpy(
        problem.pool.data() + (problem.key_offsets[static_cast<size_t>(problem.seq[0])] + token) * problem.stride_bytes,
        &first, sizeof first);
  };
  for (int32_t token = 0; token < shape.seq_tokens; ++token) put(token, -1e30f);  // every score is -inf
  AttendResult result = problem.run(GetParam());
  for (const float value : result.out) EXPECT_EQ(value, 0.0f);
  EXPECT_EQ(result.lse[0], -kInf);
  const int32_t last = problem.lists[0].back();
  put(last, 1e-30f);  // one finite score, in the last block, maybe several times: it has all the weight
  result = problem.run(GetParam());
  EXPECT_EQ(result.out[0], 1e-30f);
  for (int32_t d = 1; d < 48; ++d)
    EXPECT_NEAR(result.out[static_cast<size_t>(d)], problem.key(problem.seq[0], last)[d], 1e-6f);
}

TEST_P(Attend, ManyHeadsAndKeys) {
  AttendShape shape;
  // The portable level also runs without FMA hardware, where a fused multiply-add is a function call.
  shape.num_heads = GetParam() == Isa::kPortable ? 2 : 128;
  shape.d_latent = 512;
  shape.d_rope = 64;
  shape.kv_dtype = IC_DTYPE_BF16;
  shape.q_dtype = IC_DTYPE_BF16;
  shape.rows = 1;
  shape.num_seqs = 1;
  shape.seq_tokens = 5000;
  shape.num_indices = 2048;
  shape.page_tokens = 64;
  shape.scale = 1.0f / 24.0f;
  const AttendProblem problem(shape);
  expect_near(problem, problem.run(GetParam()));
}

// Keys, queries, outputs and indices whose element offsets do not fit into 31 or 32 bits.
TEST_P(Attend, OffsetsBeyond32Bits) {
  const AttendShape shape = [] {
    AttendShape s;
    s.num_heads = 1;
    s.rows = 2;
    s.num_seqs = 1;
    return s;
  }();
  const AttendProblem problem(shape);
  const AttendResult expected = problem.run(GetParam());
  const int64_t row_stride = (int64_t{1} << 32) + 64;
  for (const int32_t page_tokens : {0, 64}) {
    const int64_t token_stride = page_tokens == 0 ? int64_t{1} << 27 : 256;
    const int64_t page_stride = page_tokens == 0 ? token_stride : int64_t{1} << 33;
    SparseMemory pool(static_cast<size_t>(page_stride * (page_tokens == 0 ? shape.seq_tokens : 5) + (1 << 20)));
    SparseMemory q(static_cast<size_t>(row_stride * 4 + 4096)), out(static_cast<size_t>(row_stride * 4 + 4096));
    SparseMemory indices(static_cast<size_t>(row_stride * 4 + 4096)), lse(static_cast<size_t>(row_stride * 4 + 4096));
    std::vector<int32_t> table = {4, 3, 2, 1, 0};
    for (int32_t token = 0; token < shape.seq_tokens; ++token) {
      const int64_t at = page_tokens == 0
                             ? token * page_stride
                             : table[static_cast<size_t>(token / 64)] * page_stride + token % 64 * token_stride;
      std::memcpy(pool.bytes() + at, problem.key(0, token), 256);
    }
    for (int64_t row = 0; row < 2; ++row) {
      std::memcpy(q.as<float>() + row * row_stride, &problem.queries[static_cast<size_t>(row * 64)], 256);
      std::memcpy(indices.as<int32_t>() + row * row_stride,
                  &problem.indices[static_cast<size_t>(row * shape.num_indices)],
                  static_cast<size_t>(shape.num_indices) * 4);
    }
    Workers workers(1);
    const Executor executor{GetParam(), &workers};
    AttendParams params = problem.params();
    params.kv.data = pool.bytes();
    params.kv.stride_bytes = page_stride;
    params.kv.capacity = page_tokens == 0 ? shape.seq_tokens : 5;
    params.kv.page_tokens = page_tokens;
    params.kv.num_blocks = 5;
    params.kv.block_table = table.data();
    params.kv.block_table_stride = 5;
    params.kv.key_offsets = nullptr;
    params.q = q.bytes();
    params.indices = indices.as<int32_t>();
    params.out = out.bytes();
    params.lse = lse.as<float>();
    params.q_row_stride = params.index_stride = params.out_row_stride = params.lse_row_stride = row_stride;
    params.workspace_size = attend_workspace_size(executor, 1, 48, 16, shape.num_indices);
    const std::unique_ptr<void, decltype(&std::free)> workspace(std::aligned_alloc(256, params.workspace_size),
                                                                &std::free);
    params.workspace = workspace.get();
    attend(executor, params);
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t d = 0; d < 48; ++d) {
        ASSERT_EQ(out.as<float>()[row * row_stride + d], expected.out[static_cast<size_t>(row * 48 + d)]);
      }
      ASSERT_EQ(lse.as<float>()[row * row_stride], expected.lse[static_cast<size_t>(row)]);
    }
  }
}

// Several callers share the workers; each has its own workspace.
TEST_P(Attend, ConcurrentCalls) {
  const AttendProblem problem(AttendShape{});
  const AttendResult expected = problem.run(GetParam());
  Workers workers(2);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 5; ++repeat) {
        const AttendResult result = problem.run({GetParam(), &workers}, problem.params());
        if (hash_bits(result.out) != hash_bits(expected.out)) ++wrong;
      }
    });
  }
  for (std::thread &caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_P(Attend, NoRows) {
  AttendProblem problem{AttendShape{}};
  AttendParams params = problem.params();
  params.rows.count = 0;
  Workers workers(2);
  EXPECT_TRUE(problem.run({GetParam(), &workers}, params).out.empty());
}

}  // namespace
}  // namespace ic::cpu

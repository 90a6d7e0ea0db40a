// SPDX-License-Identifier: Apache-2.0
// Sparse attention on the GPU: near its definition in every layout, the CPU backend's treatment of what is illegal, and
// the same bits whatever the batch.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/attention/smxx/plan.h"
#include "tests/cpu/levels.h"
#include "tests/gpu/attend_device.h"
#include "tests/gpu/captured.h"

namespace ic::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};

/// For the CUDA cores: the tiny model's width.
AttendShape small_shape() {
  AttendShape shape;
  shape.seed = run_seed();
  return shape;
}

/// For the tensor cores.
AttendShape wide_shape(int32_t kv_dtype = IC_DTYPE_BF16) {
  AttendShape shape;
  shape.num_heads = 64;
  shape.d_latent = 512;
  shape.d_rope = 64;
  shape.kv_dtype = kv_dtype;
  shape.q_dtype = IC_DTYPE_BF16;
  shape.scale = 0.1f;
  shape.rows = 11;
  shape.seed = run_seed();
  return shape;
}

std::string describe(const AttendShape &s) {
  return std::to_string(s.num_heads) + " heads of " + std::to_string(s.d_latent) + "+" + std::to_string(s.d_rope) +
         ", kv " + std::to_string(s.kv_dtype) + ", q " + std::to_string(s.q_dtype) + ", out " +
         std::to_string(s.out_dtype) + ", page_tokens " + std::to_string(s.page_tokens) +
         (s.slots ? ", slots" : ", logical") + ", " + std::to_string(s.rows) + " rows of " +
         std::to_string(s.num_indices) + ", seed " + std::to_string(s.seed);
}

bool on_tensor_cores(const AttendShape &s) {
  return s.d_latent == 512 && s.d_rope == 64 && s.q_dtype == IC_DTYPE_BF16 && s.kv_dtype != IC_DTYPE_F32;
}

AttendError check(const AttendProblem &problem, AttendShift shift = {}) {
  SCOPED_TRACE(describe(problem.shape()));
  DeviceAttend device(problem, cuda_backend(), shift);
  const AttendResult result = device.run();
  EXPECT_EQ(result.fault, 0u);
  return expect_near_definition(problem, result, on_tensor_cores(problem.shape()) && shift.kv == 0);
}

AttendResult on_cpu(const AttendProblem &problem) { return problem.run(cpu::available_levels().back()); }

/// Parts of a result that must agree with the CPU's: faults, and which outputs are zero, infinite or not numbers.
void expect_same_kind(const AttendResult &cuda, const AttendResult &cpu) {
  EXPECT_EQ(cuda.fault, cpu.fault);
  const auto kind = [](float x) { return std::isnan(x) ? 3 : std::isinf(x) ? (x > 0 ? 2 : 1) : 0; };
  for (size_t i = 0; i < cpu.lse.size(); ++i) ASSERT_EQ(kind(cuda.lse[i]), kind(cpu.lse[i])) << "lse " << i;
  for (size_t i = 0; i < cpu.out.size(); ++i) {
    ASSERT_EQ(kind(cuda.out[i]), kind(cpu.out[i])) << "out " << i << ": " << cuda.out[i] << ", " << cpu.out[i];
    if (cpu.out[i] == 0.0f) {
      ASSERT_EQ(cuda.out[i], 0.0f) << "out " << i;
    }
  }
}

// ---- near the definition
// ---------------------------------------------------------------------------------------------

TEST(Attend, SmallModelInEveryLayout) {
  AttendError worst;
  uint32_t seed = run_seed();
  for (const int32_t kv_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
    for (const int32_t page_tokens : kPageTokens) {
      for (const bool slots : {false, true}) {
        AttendShape shape = small_shape();
        shape.kv_dtype = kv_dtype;
        shape.page_tokens = page_tokens;
        shape.slots = slots;
        shape.rows = 13;
        shape.num_indices = page_tokens == 64 ? 700 : 200;  // more than one split
        shape.seed = seed++;
        const AttendError error = check(AttendProblem(shape));
        if (HasFailure()) return;
        worst = {std::max(worst.out, error.out), std::max(worst.lse, error.lse)};
      }
    }
  }
  std::printf("largest error / bound: out %.3f, lse %.3f\n", worst.out, worst.lse);
}

TEST(Attend, EveryShape) {
  struct {
    int32_t heads, d_latent, d_rope;
  } const dims[] = {{1, 16, 0}, {3, 32, 16}, {7, 80, 32}, {13, 96, 0}, {25, 16, 16}, {2, 512, 64}, {9, 1024, 256}};
  for (const auto &dim : dims) {
    for (const int32_t kv_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
      for (const int32_t q_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
        for (const int32_t out_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
          AttendShape shape = small_shape();
          shape.num_heads = dim.heads;
          shape.d_latent = dim.d_latent;
          shape.d_rope = dim.d_rope;
          shape.kv_dtype = kv_dtype;
          shape.q_dtype = q_dtype;
          shape.out_dtype = out_dtype;
          shape.num_indices = 70;
          shape.seq_tokens = 90;
          shape.scale = 0.3f;
          check(AttendProblem(shape));
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(Attend, TensorCoresInEveryLayoutLong) {
  constexpr int32_t kHeadCounts[] = {1, 2, 8, 16, 17, 64, 128};
  AttendError worst;
  uint32_t i = 0;
  for (const int32_t kv_dtype : {IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    for (const int32_t page_tokens : kPageTokens) {
      for (const bool slots : {false, true}) {
        AttendShape shape = wide_shape(kv_dtype);
        shape.num_heads = kHeadCounts[i % 7];
        shape.page_tokens = page_tokens;
        shape.slots = slots;
        shape.out_dtype = i % 2 == 0 ? IC_DTYPE_F32 : IC_DTYPE_BF16;
        shape.q_dtype = i % 5 == 4 ? IC_DTYPE_F32 : IC_DTYPE_BF16;  // one in five on the CUDA cores
        shape.num_indices = i % 3 == 0 ? 1100 : i % 3 == 1 ? 512 : 130;
        shape.seed += i++;
        const AttendError error = check(AttendProblem(shape));
        if (HasFailure()) return;
        worst = {std::max(worst.out, error.out), std::max(worst.lse, error.lse)};
      }
    }
  }
  std::printf("largest error / bound: out %.3f, lse %.3f\n", worst.out, worst.lse);
}

/// Rows enough that CTAs walk whole rows, in tiles of 64 and of 16 heads.
TEST(Attend, ManyRowsLong) {
  for (const int32_t kv_dtype : {IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    for (const int32_t heads : {8, 70}) {
      AttendShape shape = wide_shape(kv_dtype);
      shape.num_heads = heads;
      shape.rows = 300;
      shape.num_indices = 1100;
      shape.page_tokens = 64;
      AttendProblem problem(shape);
      for (int32_t row = 0; row < shape.rows; ++row) {  // most of the lists end in the second and third split
        const size_t r = static_cast<size_t>(row);
        if (row % 11 == 0 && row % 66 != 0) {
          problem.lengths[r] = 500 + row;
          std::vector<int32_t> &list = problem.lists[r];
          list.clear();
          for (int32_t i = 0; i < problem.lengths[r]; ++i) {
            const int32_t position = problem.indices[r * 1100 + static_cast<size_t>(i)];
            if (position >= 0) list.push_back(position);
          }
        }
      }
      check(problem);
      if (HasFailure()) return;
    }
  }
}

TEST(Attend, UnalignedPointersAndStrides) {
  const AttendShift shifts[] = {{2, 0, 0, 3, 0}, {0, 0, 2, 0, 1}, {2, 0, 2, 1, 1}, {16, 16, 16, 8, 8}, {0, 4, 0, 0, 0}};
  for (const AttendShift &shift : shifts) {
    for (const int32_t kv_dtype : {IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
      AttendShape shape = wide_shape(kv_dtype);
      shape.num_heads = 17;
      shape.out_dtype = IC_DTYPE_BF16;
      shape.page_tokens = 16;
      shape.num_indices = 90;
      AttendShift used = shift;
      if (used.kv == 16) used.kv = 0;  // stays aligned for the tensor cores
      check(AttendProblem(shape), used);
    }
    AttendShape small = small_shape();
    check(AttendProblem(small), {shift.q * 2, shift.kv, shift.out * 2, shift.q_stride, shift.out_stride});
    if (HasFailure()) return;
  }
}

TEST(Attend, OneKeyIsCopied) {
  AttendShape shape = wide_shape();
  shape.rows = 2;
  AttendProblem problem(shape);
  problem.lengths = {1, 1};
  problem.indices[0] = 3;
  problem.indices[static_cast<size_t>(shape.num_indices)] = 5;
  const AttendResult result = DeviceAttend(problem).run();
  for (size_t i = 0; i < result.out.size(); ++i) {  // weight 1: the value itself
    const size_t row = i / (64 * 512);
    ASSERT_EQ(result.out[i], problem.key(problem.seq[row], row == 0 ? 3 : 5)[i % 512]) << i;
  }
}

TEST(Attend, EveryFp8Code) {
  AttendShape shape = wide_shape(IC_DTYPE_E4M3);
  shape.num_heads = 5;
  shape.rows = 1;
  AttendProblem problem(shape);
  problem.lengths[0] = 1;
  problem.indices[0] = 3;
  problem.lists[0] = {3};
  uint8_t *token =
      problem.pool.data() + (problem.key_offsets[static_cast<size_t>(problem.seq[0])] + 3) * problem.stride_bytes;
  const float scales[4] = {0.125f, 0x1p-15f, 1.0f, 96.0f};  // exact as bf16 weights
  std::memcpy(token + 512, scales, sizeof scales);
  for (int d = 0; d < 512; ++d) {
    const int code = (d + (d >= 256 ? 128 : 0)) & 0xff;  // every code with two scales, NaN left out
    token[d] = static_cast<uint8_t>((code & 0x7f) == 0x7f ? 0x35 : code);
  }
  const AttendResult result = DeviceAttend(problem).run();
  for (size_t i = 0; i < result.out.size(); ++i) {
    const size_t d = i % 512;
    ASSERT_EQ(result.out[i], cpu::f32_from_e4m3(token[d]) * scales[d / 128]) << "dimension " << d;
  }
  // NaN codes: where the CPU has NaN.
  token[7] = 0x7f;
  expect_same_kind(DeviceAttend(problem).run(), on_cpu(problem));
  token[7] = 0x00;
  token[510] = 0xff;
  expect_same_kind(DeviceAttend(problem).run(), on_cpu(problem));
}

// ---- what is defined for every input
// ---------------------------------------------------------------------------------

TEST(Attend, SinkJoinsTheDenominatorOnly) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_heads = 4;
    shape.num_indices = 600;
    AttendProblem problem(shape);
    const AttendResult without = DeviceAttend(problem).run();
    problem.sink = {-2.0f, 0.5f, 3.0f, 40.0f};
    const AttendResult with = DeviceAttend(problem).run();
    expect_near_definition(problem, with, on_tensor_cores(shape));
    for (size_t i = 0; i < with.lse.size(); ++i) {
      EXPECT_EQ(cpu::bits_from_f32(with.lse[i]), cpu::bits_from_f32(without.lse[i]));
    }
    problem.sink = {-kInf, kInf, 1e30f, -1e30f};
    const AttendResult extreme = DeviceAttend(problem).run();
    for (size_t i = 0; i < extreme.out.size(); ++i) {
      const size_t head = i / static_cast<size_t>(shape.d_latent) % 4;
      ASSERT_EQ(extreme.out[i], head == 0 || head == 3 ? without.out[i] : 0.0f);
    }
    if (HasFailure()) return;
  }
}

TEST(Attend, RowsWithoutKeysAreZero) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    for (const int32_t num_indices : {200, 600}) {
      shape.page_tokens = 64;
      shape.num_indices = num_indices;
      shape.out_dtype = num_indices == 200 ? IC_DTYPE_F32 : IC_DTYPE_BF16;
      const size_t width = static_cast<size_t>(num_indices);
      AttendProblem problem(shape);
      problem.sink.assign(static_cast<size_t>(shape.num_heads), 1.0f);
      problem.lengths[0] = 0;
      problem.lengths[1] = -3;
      std::fill_n(problem.indices.begin() + static_cast<int64_t>(2 * width), width, -1);
      problem.lengths[2] = num_indices;
      std::fill_n(problem.indices.begin() + static_cast<int64_t>(3 * width), width, 7);
      problem.block_table[static_cast<size_t>(problem.seq[3] * problem.num_blocks)] = -1;  // the page of position 7
      const AttendResult result = DeviceAttend(problem).run();
      const size_t heads = static_cast<size_t>(shape.num_heads), latent = static_cast<size_t>(shape.d_latent);
      for (size_t i = 0; i < 4 * heads * latent; ++i) ASSERT_EQ(cpu::bits_from_f32(result.out[i]), 0u);
      for (size_t i = 0; i < 4 * heads; ++i) ASSERT_EQ(result.lse[i], -kInf);
      EXPECT_EQ(result.fault, 0u);
      expect_same_kind(result, on_cpu(problem));
    }
  }
}

TEST(Attend, LengthsMayBeNull) {
  for (const AttendShape &shape : {small_shape(), wide_shape()}) {
    const AttendProblem problem(shape);  // -1 behind every list
    const AttendResult expected = DeviceAttend(problem).run();
    DeviceAttend device(problem);
    device.params().lengths = nullptr;
    expect_same_bits(device.run(), expected);
    device.poison();
    device.params().lse = nullptr;
    const AttendResult without = device.run();
    for (size_t i = 0; i < expected.out.size(); ++i) ASSERT_EQ(without.out[i], expected.out[i]);
    for (const float lse : without.lse) ASSERT_TRUE(std::isnan(lse)) << "written though not wanted";
  }
}

TEST(Attend, NoRows) {
  AttendShape shape = wide_shape();
  shape.num_indices = 600;
  const AttendProblem problem(shape);
  DeviceAttend device(problem);
  device.params().rows.count = 0;
  device.enqueue(nullptr);
  device.params().rows.count = shape.rows;
  for (const float value : device.read().out) ASSERT_TRUE(std::isnan(value));
}

struct SkipCase {
  int32_t page_tokens;
  bool slots;
  int64_t bad;
};

TEST(Attend, IllegalEntriesAreSkippedAndReported) {
  const int32_t max32 = std::numeric_limits<int32_t>::max(), min32 = std::numeric_limits<int32_t>::min();
  const SkipCase cases[] = {
      {0, true, -1},      {0, true, -2},       {0, true, min32},    {0, true, 3 * 307 + 5},
      {0, true, max32},   {64, true, 26 * 64}, {64, true, max32},   {64, true, -64},
      {64, false, -1},    {64, false, -2},     {64, false, 320},    {64, false, max32},
      {64, false, min32}, {0, false, -2},      {0, false, 3 * 307}, {0, false, max32},
  };
  uint32_t seen = 0;
  for (const SkipCase &skip : cases) {
    for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
      SCOPED_TRACE(testing::Message() << "pages of " << skip.page_tokens << " slots " << skip.slots << " entry "
                                      << skip.bad << " kv " << shape.kv_dtype);
      shape.num_heads = 3;
      shape.page_tokens = skip.page_tokens;
      shape.slots = skip.slots;
      AttendProblem problem(shape);
      for (const size_t at : {0, 50, 99}) problem.indices[at] = static_cast<int32_t>(skip.bad);
      problem.lengths[0] = 100;
      // The definition sees the list without them.
      AttendProblem legal(shape);
      for (const size_t at : {0, 50, 99}) legal.indices[at] = -1;
      legal.lengths[0] = 100;
      const AttendResult expected = DeviceAttend(legal).run();
      AttendResult result = DeviceAttend(problem).run();
      EXPECT_EQ(result.fault, on_cpu(problem).fault);
      seen |= result.fault;
      result.fault = 0;
      expect_same_bits(result, expected);
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(seen, IC_FAULT_SLOT | IC_FAULT_PAGE);
}

TEST(Attend, IllegalPagesRowsAndOffsets) {
  const int32_t max32 = std::numeric_limits<int32_t>::max(), min32 = std::numeric_limits<int32_t>::min();
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_heads = 3;
    shape.num_indices = 600;
    shape.page_tokens = 64;
    for (const int32_t bad : {-1, -2, 26, max32, min32}) {
      AttendProblem problem(shape);
      problem.block_table[2] = bad;
      std::vector<int32_t> &table = problem.block_table;
      for (int32_t row = 0; row < shape.rows; ++row) {
        std::erase_if(problem.lists[static_cast<size_t>(row)], [&](int32_t position) {
          return problem.seq[static_cast<size_t>(row)] == 0 && position / 64 == 2;
        });
      }
      DeviceAttend device(problem);
      const AttendResult result = device.run();
      expect_near_definition(problem, result, on_tensor_cores(shape));
      EXPECT_EQ(result.fault, on_cpu(problem).fault);
      EXPECT_EQ(table[2], bad);
    }
    for (const bool slots : {false, true}) {
      shape.slots = slots;
      for (const int32_t seq : {-1, 3, max32}) {
        AttendProblem broken(shape);
        broken.seq[3] = seq;
        expect_same_kind(DeviceAttend(broken).run(), on_cpu(broken));
        broken.lengths[3] = 0;  // still reported
        expect_same_kind(DeviceAttend(broken).run(), on_cpu(broken));
      }
      AttendProblem broken(shape);
      broken.lengths[3] = shape.num_indices + 1;
      const AttendResult result = DeviceAttend(broken).run();
      EXPECT_EQ(result.fault, uint32_t{IC_FAULT_KEY_END});
      expect_same_kind(result, on_cpu(broken));
      shape.slots = false;
    }
    shape.page_tokens = 0;
    for (const int64_t offset : {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(),
                                 int64_t{-400}, int64_t{-150}, int64_t{3 * 307 - 100}}) {
      AttendProblem problem(shape);
      problem.key_offsets.assign(3, offset);
      const AttendResult result = DeviceAttend(problem).run();
      EXPECT_EQ(result.fault, on_cpu(problem).fault);
    }
    if (HasFailure()) return;
  }
}

TEST(Attend, SoftmaxIsStable) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_heads = 3;
    shape.rows = 3;
    shape.num_indices = 600;
    for (const float scale : {30.0f, 1e4f, 1e-6f}) {  // scores far apart, and all alike
      shape.scale = scale;
      check(AttendProblem(shape));
    }
    if (HasFailure()) return;
  }
}

/// The rotary part alone makes the scores: queries are 1 there and 0 elsewhere.
void set_scores(AttendProblem &problem, const std::vector<float> &scores) {
  const AttendShape &shape = problem.shape();
  const int32_t d = shape.d_latent + shape.d_rope;
  for (size_t i = 0; i < problem.queries.size(); ++i) {
    problem.queries[i] = static_cast<int32_t>(i % static_cast<size_t>(d)) == d - 1 ? 1.0f : 0.0f;
  }
  cpu::convert_from_f32(shape.q_dtype, problem.queries.data(), problem.q_bytes.data(),
                        static_cast<int64_t>(problem.queries.size()));
  const int32_t sequence = problem.seq[0];
  problem.lists[0].clear();
  problem.lengths[0] = static_cast<int32_t>(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    problem.indices[i] = static_cast<int32_t>(i);
    problem.lists[0].push_back(static_cast<int32_t>(i));
    uint8_t *end =
        problem.pool.data() +
        (problem.key_offsets[static_cast<size_t>(sequence)] + static_cast<int64_t>(i)) * problem.stride_bytes +
        problem.token_bytes();
    const auto code = cpu::bf16_from_f32(scores[i]);
    if (shape.kv_dtype == IC_DTYPE_F32) {
      std::memcpy(end - 4, &scores[i], 4);
    } else {
      std::memcpy(end - 2, &code, 2);
    }
    const_cast<float *>(problem.key(sequence, static_cast<int32_t>(i)))[d - 1] =
        shape.kv_dtype == IC_DTYPE_F32 ? scores[i] : cpu::f32_from_bf16(code);
  }
}

TEST(Attend, RisingFallingAndInfiniteScores) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_heads = 3;
    shape.rows = 1;
    shape.num_indices = shape.seq_tokens = 1200;
    shape.scale = 1.0f;
    std::vector<float> scores(1200);
    for (const float step : {0.25f, -0.25f, 3.0f, -3.0f}) {  // each block's maximum above, or below, the last one's
      AttendProblem problem(shape);
      for (size_t i = 0; i < scores.size(); ++i) scores[i] = step * static_cast<float>(i / 8 * 8);
      set_scores(problem, scores);
      check(problem);
    }
    AttendProblem problem(shape);
    std::fill(scores.begin(), scores.end(), -kInf);  // zeros, not NaN
    set_scores(problem, scores);
    AttendResult result = DeviceAttend(problem).run();
    for (const float value : result.out) ASSERT_EQ(value, 0.0f);
    for (const float value : result.lse) ASSERT_EQ(value, -kInf);
    for (const size_t only : {5, 700, 1199}) {  // one finite score has all the weight
      scores[only] = -8.0f;
      set_scores(problem, scores);
      result = DeviceAttend(problem).run();
      expect_same_kind(result, on_cpu(problem));
      EXPECT_EQ(result.lse[0], -8.0f);
      EXPECT_NEAR(result.out[1], problem.key(problem.seq[0], static_cast<int32_t>(only))[1], 0x1p-8f);
      scores[only] = -kInf;
    }
    for (const float special : {kInf, std::numeric_limits<float>::quiet_NaN()}) {
      std::fill(scores.begin(), scores.end(), 1.0f);
      scores[600] = special;
      set_scores(problem, scores);
      expect_same_kind(DeviceAttend(problem).run(), on_cpu(problem));
    }
    if (HasFailure()) return;
  }
}

// ---- the same bits
// ---------------------------------------------------------------------------------------------------

/// A row alone, whose splits and narrow tiles of heads are spread over the chip, and in a batch that is walked.
TEST(Attend, BatchChangesNoBitLong) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    for (const int32_t heads : {3, 128}) {
      shape.num_heads = heads;
      shape.rows = 264;  // two or four full rounds of 132 processors: walked
      shape.num_indices = 1300;
      shape.page_tokens = 64;
      shape.out_dtype = IC_DTYPE_F32;
      AttendProblem problem(shape);
      problem.sink.assign(static_cast<size_t>(heads), 0.3f);
      DeviceAttend device(problem);
      const AttendResult all = device.run();
      const AttendParams whole = device.params();
      for (const int32_t count : {1, 2, 40}) {
        for (const int32_t first : {0, 11, 22, 7, 220}) {
          device.poison();
          AttendParams &part = device.params();
          part = whole;
          part.rows.count = count;
          part.rows.seq += first;
          part.indices += first * part.index_stride;
          part.lengths += first;
          part.q = static_cast<const uint8_t *>(part.q) + first * part.q_row_stride * ic::dtype_bytes(part.q_dtype);
          const AttendResult some = device.run();  // to the first rows of the outputs
          for (size_t i = 0; i < static_cast<size_t>(count) * heads * static_cast<size_t>(shape.d_latent); ++i) {
            ASSERT_EQ(cpu::bits_from_f32(some.out[i]),
                      cpu::bits_from_f32(
                          all.out[static_cast<size_t>(first) * heads * static_cast<size_t>(shape.d_latent) + i]))
                << describe(shape) << ": out " << i << " of " << count << " rows from " << first;
          }
          for (size_t i = 0; i < static_cast<size_t>(count * heads); ++i) {
            ASSERT_EQ(cpu::bits_from_f32(some.lse[i]),
                      cpu::bits_from_f32(all.lse[static_cast<size_t>(first * heads) + i]));
          }
        }
      }
      device.params() = whole;
    }
  }
}

TEST(Attend, MaxCtasAndLayoutChangeNoBit) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_indices = 1100;
    shape.rows = 12;
    const AttendResult expected = DeviceAttend(AttendProblem(shape)).run();
    for (const int32_t max_ctas : {1, 2, 7, 500}) {
      const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
      expect_same_bits(DeviceAttend(AttendProblem(shape), *limited).run(), expected);
    }
    for (const int32_t page_tokens : kPageTokens) {
      for (const bool slots : {false, true}) {
        shape.page_tokens = page_tokens;
        shape.slots = slots;
        expect_same_bits(DeviceAttend(AttendProblem(shape)).run(), expected);
      }
    }
    if (HasFailure()) return;
  }
}

/// What chips with less shared memory run: one block of keys at a time, in tiles of both sizes.
TEST(Attend, StagesAndTilesChangeNoBit) {
  for (const int32_t tile_heads : {16, 64}) {
    AttendShape shape = wide_shape();
    shape.rows = 200;
    shape.num_indices = 1100;
    shape.page_tokens = 64;
    const AttendProblem problem(shape);
    DeviceAttend device(problem);
    const AttendResult expected = device.run();
    device.poison();
    cuda::AttendPlan plan = {};
    plan.head_tiles = shape.num_heads / tile_heads;
    plan.num_items = int64_t{shape.rows} * plan.head_tiles;
    plan.page_shift = 6;
    plan.stages = 1;
    plan.q_aligned = plan.out_aligned = 1;
    ASSERT_GE(device.workspace_size(), size_t{40} * 64 * 512 * 4) << "sums of 40 walking CTAs";
    IC_REQUIRE_CUDA(cuda::launch_attend_mma(device.params(), plan, tile_heads, 40, nullptr));
    expect_same_bits(device.read(), expected);
  }
}

TEST(Attend, ReplaysAreIdenticalAndSeeOtherContents) {
  for (AttendShape shape : {small_shape(), wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    for (const int32_t rows : {5, 200}) {  // split and walked
      SCOPED_TRACE(describe(shape));
      shape.page_tokens = 64;
      shape.num_indices = 700;
      shape.rows = rows;
      const AttendProblem problem(shape);
      DeviceAttend device(problem);
      CapturedGraph graph([&](cudaStream_t stream) { device.enqueue(stream); });
      for (const float value : device.read().out) ASSERT_TRUE(std::isnan(value)) << "ran in the capture";
      graph.replay();
      const AttendResult first = device.read();
      expect_same_bits(first, DeviceAttend(problem).run());
      for (int i = 0; i < (rows == 5 ? 25 : 3); ++i) {
        device.poison();
        graph.replay();
        expect_same_bits(device.read(), first);
        if (HasFailure()) return;
      }
      AttendShape other_shape = shape;
      other_shape.seed += 77;
      AttendProblem other(other_shape);
      std::reverse(other.lengths.begin(), other.lengths.end());
      device.upload(other);
      graph.replay();
      expect_same_bits(device.read(), DeviceAttend(other).run());
      if (HasFailure()) return;
    }
  }
}

// ---- sizes
// -----------------------------------------------------------------------------------------------------------

TEST(Attend, WorkspaceServesEverySmallerCall) {
  constexpr int32_t kRows[] = {0,   1,   2,   5,   50,  66,  100, 131, 132,  133,
                               139, 140, 200, 264, 270, 277, 278, 400, 8192, 1 << 20};
  constexpr int32_t kIndices[] = {1, 64, 512, 513, 1024, 2048, 5000, 1 << 17, 1 << 24};
  for (const int32_t kv_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    for (const int32_t heads : {1, 16, 17, 64, 128, 1024}) {
      size_t by_rows[9] = {};
      for (const int32_t rows : kRows) {
        size_t last = 0;
        for (size_t i = 0; i < 9; ++i) {
          const size_t size = cuda_backend().attend_workspace_size({rows, heads, 512, 64, kv_dtype, kIndices[i]});
          EXPECT_LE(size, size_t{512} << 20);
          EXPECT_GE(size, last);
          EXPECT_GE(size, by_rows[i]);
          last = by_rows[i] = size;
        }
      }
    }
  }
}

/// Tokens beyond 2^32 bytes and 2^31 elements of the pool.
TEST(Attend, OffsetsBeyond32BitsLong) {
  for (AttendShape shape : {wide_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    for (const bool paged : {false, true}) {
      shape.num_seqs = 1;
      shape.rows = 4;
      shape.num_heads = 20;
      shape.page_tokens = paged ? 64 : 0;
      const AttendProblem problem(shape);
      DeviceAttend device(problem);
      const AttendResult expected = device.run();
      AttendParams &params = device.params();
      const int64_t bytes = int64_t{6} << 30;
      auto *pool = static_cast<uint8_t *>(device_malloc(static_cast<size_t>(bytes)));
      const int64_t stride = problem.stride_bytes;
      const int64_t capacity = bytes / stride, moved = capacity - problem.capacity;
      IC_REQUIRE_CUDA(cudaMemcpy(pool + moved * stride, params.kv.data, problem.pool.size(), cudaMemcpyDeviceToDevice));
      params.kv.data = pool;
      params.kv.capacity = capacity;
      std::vector<int32_t> table = problem.block_table;
      for (int32_t &page : table) page += static_cast<int32_t>(moved);
      std::vector<int64_t> offsets = problem.key_offsets;
      for (int64_t &offset : offsets) offset += moved;
      const DeviceArray<int32_t> moved_table(table);
      const DeviceArray<int64_t> moved_offsets(offsets);
      params.kv.block_table = moved_table.data();
      params.kv.key_offsets = moved_offsets.data();
      device.poison();
      expect_same_bits(device.run(), expected);
      cudaFree(pool);
    }
  }
}

// ---- speed
// -----------------------------------------------------------------------------------------------------------

struct SpeedCase {
  const char *name;
  int32_t rows, heads, kv_dtype, keys;
};

/// Medians of launches with random indices, contiguous bf16 or pages of 64 fp8 tokens. Prints; fails on errors only.
TEST(Attend, SpeedLong) {
  constexpr SpeedCase kCases[] = {
      {"prefill", 4096, 128, IC_DTYPE_BF16, 32768}, {"prefill", 4096, 64, IC_DTYPE_BF16, 32768},
      {"decode", 128, 128, IC_DTYPE_E4M3, 131072},  {"decode", 64, 64, IC_DTYPE_E4M3, 131072},
      {"decode", 1, 128, IC_DTYPE_E4M3, 131072},    {"decode", 128, 128, IC_DTYPE_BF16, 131072},
      {"decode", 128, 16, IC_DTYPE_BF16, 131072},
  };
  constexpr int32_t kIndices = 2048;
  std::mt19937 random(run_seed());
  std::normal_distribution<float> normal;
  std::vector<uint16_t> noise(1 << 22);
  for (uint16_t &code : noise) code = cpu::bf16_from_f32(normal(random));
  for (const SpeedCase &speed : kCases) {
    const bool fp8 = speed.kv_dtype == IC_DTYPE_E4M3;
    const int64_t token_bytes = fp8 ? 656 : 1152;
    const size_t q_count = static_cast<size_t>(speed.rows) * static_cast<size_t>(speed.heads) * 576;
    const size_t out_count = static_cast<size_t>(speed.rows) * static_cast<size_t>(speed.heads) * 512;
    const size_t kv_bytes = static_cast<size_t>(speed.keys * token_bytes);
    auto *q = static_cast<uint16_t *>(device_malloc(q_count * 2));
    auto *out = static_cast<uint16_t *>(device_malloc(out_count * 2));
    auto *kv = static_cast<uint8_t *>(device_malloc(kv_bytes));
    for (size_t at = 0; at < q_count; at += noise.size()) {
      upload(q + at, noise.data(), std::min(noise.size(), q_count - at) * 2);
    }
    if (fp8) {
      std::vector<uint8_t> tokens(kv_bytes);
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint8_t>(random() & 0xb7);  // no NaN
      for (int64_t t = 0; t < speed.keys; ++t) {
        const float scales[4] = {0.01f, 0.011f, 0.009f, 0.012f};
        std::memcpy(tokens.data() + t * 656 + 512, scales, sizeof scales);
      }
      upload(kv, tokens.data(), kv_bytes);
    } else {
      for (size_t at = 0; at < kv_bytes; at += noise.size() * 2) {
        upload(kv + at, noise.data(), std::min(noise.size() * 2, kv_bytes - at));
      }
    }
    std::vector<int32_t> indices(static_cast<size_t>(speed.rows) * kIndices);
    for (int32_t &index : indices) index = static_cast<int32_t>(random() % static_cast<uint32_t>(speed.keys));
    const DeviceArray<int32_t> device_indices(indices);
    std::vector<int32_t> table(static_cast<size_t>(speed.keys / 64));
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
    std::shuffle(table.begin(), table.end(), random);
    const DeviceArray<int32_t> device_table(table);
    const size_t workspace_size =
        cuda_backend().attend_workspace_size({speed.rows, speed.heads, 512, 64, speed.kv_dtype, kIndices});
    const DeviceArray<uint8_t> workspace(workspace_size);

    AttendParams p{};
    p.rows.count = speed.rows;
    p.rows.num_seqs = 1;
    p.indices = device_indices.data();
    p.index_stride = kIndices;
    p.num_indices = kIndices;
    p.q = q;
    p.q_row_stride = speed.heads * 576;
    p.q_dtype = p.out_dtype = IC_DTYPE_BF16;
    p.kv.data = kv;
    p.kv.stride_bytes = fp8 ? 64 * token_bytes : token_bytes;
    p.kv.capacity = fp8 ? speed.keys / 64 : speed.keys;
    p.kv.page_tokens = fp8 ? 64 : 0;
    p.kv.num_blocks = fp8 ? speed.keys / 64 : 0;
    p.kv.block_table = fp8 ? device_table.data() : nullptr;
    p.kv_dtype = speed.kv_dtype;
    p.num_heads = speed.heads;
    p.d_latent = 512;
    p.d_rope = 64;
    p.softmax_scale = 0.04f;
    p.out = out;
    p.out_row_stride = speed.heads * 512;
    p.workspace = workspace.data();
    p.workspace_size = workspace_size;

    const TestStream stream;
    cudaEvent_t begin = nullptr, end = nullptr;
    IC_REQUIRE_CUDA(cudaEventCreate(&begin));
    IC_REQUIRE_CUDA(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < 13; ++i) {
      IC_REQUIRE_CUDA(cudaEventRecord(begin, stream.get()));
      cuda_backend().attend(p, stream.get());
      IC_REQUIRE_CUDA(cudaEventRecord(end, stream.get()));
      stream.wait();
      float ms = 0;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&ms, begin, end));
      if (i >= 2) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    const double ms = static_cast<double>(times[times.size() / 2]);
    const double flop = 2.0 * speed.rows * speed.heads * kIndices * (576.0 + 512.0);
    const double gathered = static_cast<double>(speed.rows) * kIndices * static_cast<double>(token_bytes);
    std::printf("%s %d x %d heads, %s, %d keys, k 2048: %.1f us, %.0f TFLOP/s, gathers %.0f GB/s, workspace %.1f MiB\n",
                speed.name, speed.rows, speed.heads, fp8 ? "fp8" : "bf16", speed.keys, ms * 1e3, flop / ms * 1e-9,
                gathered / ms * 1e-6, static_cast<double>(workspace_size) / (1 << 20));
    IC_REQUIRE_CUDA(cudaEventDestroy(begin));
    IC_REQUIRE_CUDA(cudaEventDestroy(end));
    cudaFree(q);
    cudaFree(out);
    cudaFree(kv);
  }
}

}  // namespace
}  // namespace ic::test

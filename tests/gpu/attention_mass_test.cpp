// SPDX-License-Identifier: Apache-2.0
// Attention masses on the GPU: near their definition and the CPU backend's, which also says what is skipped, and the
// same bits whatever the batch.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "tests/cpu/levels.h"
#include "tests/gpu/attend_device.h"
#include "tests/gpu/captured.h"

namespace ic::test {
namespace {

using cpu::MassResult;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};

AttendShape small_shape() {
  AttendShape shape;
  shape.seed = run_seed();
  return shape;
}

AttendShape wide_shape(int32_t kv_dtype) {
  AttendShape shape;
  shape.num_heads = 20;
  shape.d_latent = 512;
  shape.d_rope = 64;
  shape.kv_dtype = kv_dtype;
  shape.q_dtype = IC_DTYPE_BF16;
  shape.scale = 0.1f;
  shape.rows = 6;
  shape.seed = run_seed();
  return shape;
}

/// The arrays of a problem on the device, masses `gap` elements more than dense from row to row. Masses are poisoned
/// with NaN patterns, and the workspace has exactly the size that the backend asks for.
class DeviceMass {
 public:
  explicit DeviceMass(const AttendProblem &problem, Backend &backend = cuda_backend(), AttendShift shift = {},
                      int64_t gap = 0)
      : backend_(backend),
        attend_(problem, backend, shift),
        stride_(attend_.params().num_indices + gap),
        mass_(static_cast<size_t>(attend_.params().rows.count * stride_)),
        workspace_(DeviceArray<uint8_t>::workspace(workspace_size())) {
    mass_.fill(0xff);
  }

  AttendParams &params() { return attend_.params(); }
  size_t workspace_size() {
    const AttendParams &p = params();
    return backend_.attention_mass_workspace_size(
        {p.rows.count, p.num_heads, p.d_latent, p.d_rope, p.kv_dtype, p.num_indices});
  }

  void upload(const AttendProblem &problem) {
    attend_.upload(problem);
    poison();
  }
  void poison() {
    attend_.poison();
    mass_.fill(0xff);
    workspace_.fill(0xff);
  }

  void enqueue(cudaStream_t stream) {
    AttendParams p = params();
    p.workspace = workspace_.data();
    p.workspace_size = workspace_size();
    backend_.attention_mass({p, mass_.data(), stride_}, stream);
  }

  MassResult run() {
    enqueue(nullptr);
    return read();
  }

  /// Dense results. What lies between rows must not have been written.
  MassResult read() {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    const AttendParams &p = params();
    const std::vector<float> all = mass_.read();
    MassResult result;
    for (int64_t row = 0; row < p.rows.count; ++row) {
      const auto first = all.begin() + row * stride_;
      result.mass.insert(result.mass.end(), first, first + p.num_indices);
      EXPECT_TRUE(std::all_of(first + p.num_indices, first + stride_, [](float x) { return std::isnan(x); }));
    }
    IC_REQUIRE_CUDA(cudaMemcpy(&result.fault, p.rows.fault, sizeof result.fault, cudaMemcpyDeviceToHost));
    return result;
  }

 private:
  Backend &backend_;
  DeviceAttend attend_;
  int64_t stride_;
  DeviceArray<float> mass_;
  DeviceArray<uint8_t> workspace_;
};

MassResult on_cpu(const AttendProblem &problem) { return problem.run_mass(cpu::available_levels().back()); }

void expect_same_bits(const MassResult &a, const MassResult &b) {
  ASSERT_EQ(a.mass.size(), b.mass.size());
  EXPECT_EQ(a.fault, b.fault);
  for (size_t i = 0; i < a.mass.size(); ++i)
    ASSERT_EQ(cpu::bits_from_f32(a.mass[i]), cpu::bits_from_f32(b.mass[i])) << i;
}

/// The largest sum of |scale * q_d * k_d| of a row's scores: what their errors are in units of.
double score_magnitude(const AttendProblem &problem, int32_t row) {
  const AttendShape &shape = problem.shape();
  const int32_t d = shape.d_latent + shape.d_rope;
  const int32_t sequence = problem.seq[static_cast<size_t>(row)];
  double largest = 0;
  for (const int32_t token : problem.lists[static_cast<size_t>(row)]) {
    const float *k = problem.key(sequence, token);
    for (int32_t h = 0; h < shape.num_heads; ++h) {
      const float *q = &problem.queries[static_cast<size_t>((int64_t{row} * shape.num_heads + h) * d)];
      double sum = 0;
      for (int32_t i = 0; i < d; ++i) sum += std::fabs(static_cast<double>(q[i]) * static_cast<double>(k[i]));
      largest = std::max(largest, sum * static_cast<double>(shape.scale));
    }
  }
  return largest;
}

/// Near the definition in double and near the CPU's masses, each by the worst that fp32 chains can do: an error e of
/// all scores moves a weight and the denominator by e of themselves. A score is d / 32 + 7 roundings on the GPU, d on
/// the CPU; the constant is for exp (whose argument may be 88), sums and the mean. @return the largest error / bound
double expect_near(const AttendProblem &problem, const MassResult &result) {
  const AttendShape &shape = problem.shape();
  const int32_t d = shape.d_latent + shape.d_rope;
  const std::vector<double> expected = problem.reference_mass();
  const MassResult cpu = on_cpu(problem);
  EXPECT_EQ(result.fault, cpu.fault);
  double worst = 0;
  for (int32_t row = 0; row < shape.rows; ++row) {
    const double magnitude = score_magnitude(problem, row);
    const double by_cuda = 2 * magnitude * (d / 32 + 7) * 0x1p-24 + 6e-6;
    const double by_cpu = 2 * magnitude * d * 0x1p-24 + 6e-6;
    double sum = 0;
    for (int32_t i = 0; i < shape.num_indices; ++i) {
      const size_t at = static_cast<size_t>(row) * static_cast<size_t>(shape.num_indices) + static_cast<size_t>(i);
      const double got = static_cast<double>(result.mass[at]);
      const double allowed = by_cuda * expected[at] + 1e-37;
      const double off = std::fabs(got - expected[at]);
      EXPECT_LE(off, allowed) << "row " << row << ", entry " << i << ": " << got << " is " << expected[at];
      EXPECT_LE(std::fabs(got - static_cast<double>(cpu.mass[at])), allowed + by_cpu * expected[at])
          << "row " << row << ", entry " << i << ": the CPU has " << cpu.mass[at];
      EXPECT_EQ(got == 0, cpu.mass[at] == 0.0f) << "row " << row << ", entry " << i;
      if (!(off <= allowed)) return worst;
      worst = std::max(worst, off / allowed);
      sum += got;
    }
    if (problem.sink.empty() && !problem.lists[static_cast<size_t>(row)].empty()) {
      EXPECT_NEAR(sum, 1.0, 1e-5) << "row " << row;
    }
  }
  return worst;
}

double check(const AttendProblem &problem, AttendShift shift = {}, int64_t gap = 0) {
  DeviceMass device(problem, cuda_backend(), shift, gap);
  return expect_near(problem, device.run());
}

/// Faults, and which masses are zero or not numbers, must agree with the CPU's.
void expect_same_kind(const MassResult &cuda, const MassResult &cpu) {
  EXPECT_EQ(cuda.fault, cpu.fault);
  ASSERT_EQ(cuda.mass.size(), cpu.mass.size());
  for (size_t i = 0; i < cpu.mass.size(); ++i) {
    ASSERT_EQ(std::isnan(cuda.mass[i]), std::isnan(cpu.mass[i])) << i << ": " << cuda.mass[i] << ", " << cpu.mass[i];
    ASSERT_EQ(cuda.mass[i] == 0.0f, cpu.mass[i] == 0.0f) << i << ": " << cuda.mass[i] << ", " << cpu.mass[i];
  }
}

TEST(AttentionMass, EveryLayout) {
  double worst = 0;
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
        SCOPED_TRACE(testing::Message() << "kv " << kv_dtype << " pages of " << page_tokens << " slots " << slots
                                        << " seed " << shape.seed);
        worst = std::max(worst, check(AttendProblem(shape)));
        if (HasFailure()) return;
      }
    }
  }
  std::printf("largest error / bound: %.3f\n", worst);
}

TEST(AttentionMass, EveryShape) {
  struct {
    int32_t heads, d_latent, d_rope;
  } const dims[] = {{1, 16, 0}, {3, 32, 16}, {7, 80, 32}, {8, 96, 0}, {25, 16, 16}, {2, 512, 64}, {9, 1024, 256}};
  for (const auto &dim : dims) {
    for (const int32_t kv_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
      for (const int32_t q_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
        AttendShape shape = small_shape();
        shape.num_heads = dim.heads;
        shape.d_latent = dim.d_latent;
        shape.d_rope = dim.d_rope;
        shape.kv_dtype = kv_dtype;
        shape.q_dtype = q_dtype;
        shape.num_indices = 70;
        shape.seq_tokens = 90;
        shape.scale = 0.3f;
        SCOPED_TRACE(testing::Message() << dim.heads << " heads of " << dim.d_latent << "+" << dim.d_rope << ", kv "
                                        << kv_dtype << ", q " << q_dtype << ", seed " << shape.seed);
        check(AttendProblem(shape));
        if (HasFailure()) return;
      }
    }
  }
}

TEST(AttentionMass, TokensOfThePublishedModels) {
  for (const int32_t kv_dtype : {IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    for (const int32_t page_tokens : {0, 64}) {
      for (const int32_t q_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
        AttendShape shape = wide_shape(kv_dtype);
        shape.page_tokens = page_tokens;
        shape.q_dtype = q_dtype;
        shape.num_indices = page_tokens == 0 ? 130 : 1100;
        SCOPED_TRACE(testing::Message() << "kv " << kv_dtype << ", pages of " << page_tokens << ", q " << q_dtype
                                        << ", seed " << shape.seed);
        check(AttendProblem(shape));
        if (HasFailure()) return;
      }
    }
  }
}

TEST(AttentionMass, LengthsAroundK) {
  for (const int32_t k : {1, 2, 63, 64, 65, 128, 511, 512, 513, 1025}) {
    AttendShape shape = small_shape();
    shape.num_indices = k;
    shape.rows = 3;
    AttendProblem problem(shape);
    for (int32_t row = 0; row < 3; ++row) {  // k - 1, k and, an illegal row, k + 1
      problem.lengths[static_cast<size_t>(row)] = k - 1 + row;
      std::vector<int32_t> &list = problem.lists[static_cast<size_t>(row)];
      list.clear();
      for (int32_t i = 0; i < k; ++i) {
        const int32_t position = (7 * i + row) % shape.seq_tokens;
        problem.indices[static_cast<size_t>(row * k + i)] = position;
        if (row < 2 && i < k - 1 + row) list.push_back(position);
      }
    }
    SCOPED_TRACE(testing::Message() << "k " << k << ", seed " << shape.seed);
    DeviceMass device(problem);
    const MassResult result = device.run();
    expect_near(problem, result);
    EXPECT_EQ(result.fault, uint32_t{IC_FAULT_KEY_END});
    if (k == 1) {
      EXPECT_EQ(result.mass[1], 1.0f) << "the only key has all of it, exactly";
    }
    if (HasFailure()) return;
  }
}

TEST(AttentionMass, UnalignedPointersAndStrides) {
  const AttendShift shifts[] = {{4, 0, 0, 3, 0}, {4, 4, 0, 1, 1}, {8, 16, 0, 8, 8}};
  for (const AttendShift &shift : shifts) {
    check(AttendProblem(small_shape()), shift, 5);
    for (const int32_t kv_dtype : {IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
      AttendShape shape = wide_shape(kv_dtype);
      shape.num_heads = 9;
      shape.page_tokens = 16;
      shape.num_indices = 90;
      check(AttendProblem(shape), {shift.q / 2, shift.kv, 0, shift.q_stride, 0}, 1);
    }
    if (HasFailure()) return;
  }
}

TEST(AttentionMass, ASinkTakesItsPart) {
  for (AttendShape shape : {small_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_heads = 4;
    shape.num_indices = 600;
    AttendProblem problem(shape);
    const MassResult without = DeviceMass(problem).run();
    problem.sink = {-2.0f, 0.5f, 3.0f, 40.0f};
    check(problem);
    problem.sink.assign(4, -kInf);
    expect_same_bits(DeviceMass(problem).run(), without);
    for (const float all : {kInf, 1e30f}) {  // nothing is left
      problem.sink.assign(4, all);
      for (const float mass : DeviceMass(problem).run().mass) ASSERT_EQ(cpu::bits_from_f32(mass), 0u);
    }
    if (HasFailure()) return;
  }
}

TEST(AttentionMass, RowsWithoutKeysAreZero) {
  for (AttendShape shape : {small_shape(), wide_shape(IC_DTYPE_BF16), wide_shape(IC_DTYPE_E4M3)}) {
    for (const int32_t num_indices : {200, 600}) {
      shape.page_tokens = 64;
      shape.num_indices = num_indices;
      const size_t width = static_cast<size_t>(num_indices);
      AttendProblem problem(shape);
      problem.sink.assign(static_cast<size_t>(shape.num_heads), 1.0f);
      problem.lengths[0] = 0;
      problem.lengths[1] = -3;
      std::fill_n(problem.indices.begin() + static_cast<int64_t>(2 * width), width, -1);
      problem.lengths[2] = num_indices;
      std::fill_n(problem.indices.begin() + static_cast<int64_t>(3 * width), width, 7);
      problem.block_table[static_cast<size_t>(problem.seq[3] * problem.num_blocks)] = -1;  // the page of position 7
      const MassResult result = DeviceMass(problem).run();
      for (size_t i = 0; i < 4 * width; ++i) ASSERT_EQ(cpu::bits_from_f32(result.mass[i]), 0u) << i;
      EXPECT_EQ(result.fault, 0u);
      expect_same_kind(result, on_cpu(problem));
    }
  }
}

TEST(AttentionMass, LengthsMayBeNull) {
  const AttendProblem problem(small_shape());  // -1 behind every list
  const MassResult expected = DeviceMass(problem).run();
  DeviceMass device(problem);
  device.params().lengths = nullptr;
  expect_same_bits(device.run(), expected);
}

TEST(AttentionMass, NoRows) {
  const AttendProblem problem(small_shape());
  DeviceMass device(problem);
  device.params().rows.count = 0;
  device.enqueue(nullptr);
  device.params().rows.count = problem.shape().rows;
  for (const float mass : device.read().mass) ASSERT_TRUE(std::isnan(mass));
}

/// Lists, sequences, lengths, tables and offsets with illegal values between legal ones.
TEST(AttentionMass, IllegalValuesAreZeroAndReported) {
  std::mt19937 random(run_seed());
  const auto one_in = [&](uint32_t n) { return random() % n == 0; };
  const auto wrong = [&]() -> int32_t {
    constexpr int32_t kWrong[] = {
        -2,          -64,    std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min(), 26 * 64,
        3 * 307 + 5, 1 << 20};
    return one_in(2) ? kWrong[random() % 7] : static_cast<int32_t>(random());
  };
  uint32_t seen = 0;
  for (uint32_t i = 0; i < 60; ++i) {
    AttendShape shape = i % 3 == 0 ? small_shape() : wide_shape(i % 3 == 1 ? IC_DTYPE_BF16 : IC_DTYPE_E4M3);
    shape.num_heads = 3;
    shape.rows = 11;
    shape.page_tokens = kPageTokens[i % 6];
    shape.slots = i % 4 == 0;
    shape.num_indices = i % 5 == 0 ? 600 : 150;
    shape.seed += i;
    AttendProblem problem(shape);
    for (int32_t &index : problem.indices)
      if (one_in(9)) index = wrong();
    for (int32_t &page : problem.block_table)
      if (one_in(9)) page = wrong();
    for (int32_t &seq : problem.seq)
      if (one_in(6)) seq = wrong();
    for (int32_t &length : problem.lengths)
      if (one_in(6)) length = wrong();
    constexpr int64_t kOffsets[] = {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(), -400,
                                    -150, 3 * 307 - 100};
    if (one_in(2)) problem.key_offsets[random() % 3] = kOffsets[random() % 5];
    SCOPED_TRACE(testing::Message() << "problem " << i << ", seed " << run_seed());
    // A slot or position that is legal by chance may name memory between the tokens, which is all NaN.
    const MassResult result = DeviceMass(problem).run();
    expect_same_kind(result, on_cpu(problem));
    seen |= result.fault;
    if (HasFailure()) return;
  }
  EXPECT_EQ(seen, IC_FAULT_KEY_END | IC_FAULT_SEQUENCE | IC_FAULT_PAGE | IC_FAULT_SLOT);
}

TEST(AttentionMass, IllegalEntriesChangeNoOther) {
  AttendShape shape = small_shape();
  shape.num_indices = 600;
  shape.page_tokens = 64;
  AttendProblem legal(shape);
  for (const size_t at : {0, 50, 511, 512, 599}) legal.indices[at] = -1;
  legal.lengths[0] = 600;
  const MassResult expected = DeviceMass(legal).run();
  for (const int32_t bad : {-2, 320, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    AttendProblem problem = legal;
    for (const size_t at : {0, 50, 511, 512, 599}) problem.indices[at] = bad;
    MassResult result = DeviceMass(problem).run();
    EXPECT_EQ(result.fault, on_cpu(problem).fault);
    result.fault = 0;
    expect_same_bits(result, expected);
  }
}

TEST(AttentionMass, ScoresFarApartInfiniteAndNaN) {
  for (AttendShape shape : {small_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.num_heads = 3;
    shape.rows = 3;
    shape.num_indices = 600;
    for (const float scale : {30.0f, 1e4f, 1e-6f}) {
      shape.scale = scale;
      const AttendProblem problem(shape);
      const MassResult result = DeviceMass(problem).run();
      const std::vector<double> expected = problem.reference_mass();
      for (int32_t row = 0; row < shape.rows; ++row) {
        const double allowed = 3e-5 + 0x1p-20 * score_magnitude(problem, row);
        for (int32_t i = 0; i < shape.num_indices; ++i) {
          const size_t at = static_cast<size_t>(row * shape.num_indices + i);
          ASSERT_NEAR(static_cast<double>(result.mass[at]), expected[at], allowed) << "scale " << scale << ", " << at;
        }
      }
    }
    shape.scale = 1.0f;
    const int32_t d = shape.d_latent + shape.d_rope;
    for (const float special : {-kInf, kInf, std::numeric_limits<float>::quiet_NaN()}) {
      for (const bool everywhere : {false, true}) {
        AttendProblem problem(shape);
        // The last element of a query, times keys that are all ones there.
        const auto rows = static_cast<size_t>(everywhere ? shape.rows * shape.num_heads : 1);
        for (size_t head = 0; head < rows; ++head) problem.queries[(head + 1) * static_cast<size_t>(d) - 1] = special;
        cpu::convert_from_f32(shape.q_dtype, problem.queries.data(), problem.q_bytes.data(),
                              static_cast<int64_t>(problem.queries.size()));
        for (int64_t token = 0; token < problem.capacity; ++token) {
          uint8_t *end = problem.pool.data() + token * problem.stride_bytes + problem.token_bytes();
          const float one = 1.0f;
          const uint16_t bf16_one = cpu::bf16_from_f32(one);
          if (shape.kv_dtype == IC_DTYPE_F32) {
            std::memcpy(end - 4, &one, 4);
          } else {
            std::memcpy(end - 2, &bf16_one, 2);
          }
        }
        expect_same_kind(DeviceMass(problem).run(), on_cpu(problem));
        if (HasFailure()) return;
      }
    }
  }
}

TEST(AttentionMass, BatchLayoutAndMaxCtasChangeNoBit) {
  for (AttendShape shape : {small_shape(), wide_shape(IC_DTYPE_E4M3)}) {
    shape.rows = 11;
    shape.num_indices = 1100;
    AttendProblem problem(shape);
    problem.sink.assign(static_cast<size_t>(shape.num_heads), 0.3f);
    DeviceMass device(problem);
    const MassResult all = device.run();
    const AttendParams whole = device.params();
    for (const int32_t count : {1, 4}) {
      for (const int32_t first : {0, 5, 7}) {
        device.poison();
        AttendParams &part = device.params();
        part = whole;
        part.rows.count = count;
        part.rows.seq += first;
        part.indices += first * part.index_stride;
        part.lengths += first;
        part.q = static_cast<const uint8_t *>(part.q) + first * part.q_row_stride * ic::dtype_bytes(part.q_dtype);
        const MassResult some = device.run();  // to the first rows of the masses
        for (size_t i = 0; i < some.mass.size(); ++i) {
          const size_t at = static_cast<size_t>(first) * static_cast<size_t>(shape.num_indices) + i;
          ASSERT_EQ(cpu::bits_from_f32(some.mass[i]), cpu::bits_from_f32(all.mass[at])) << count << " from " << first;
        }
      }
    }
    for (const int32_t max_ctas : {1, 7, 500}) {
      const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
      expect_same_bits(DeviceMass(problem, *limited).run(), all);
    }
    for (const int32_t page_tokens : kPageTokens) {
      for (const bool slots : {false, true}) {
        AttendShape other = shape;
        other.page_tokens = page_tokens;
        other.slots = slots;
        AttendProblem same(other);
        same.sink = problem.sink;
        expect_same_bits(DeviceMass(same).run(), all);
      }
    }
    if (HasFailure()) return;
  }
}

TEST(AttentionMass, ReplaysAreIdenticalAndSeeOtherContents) {
  for (AttendShape shape : {small_shape(), wide_shape(IC_DTYPE_BF16), wide_shape(IC_DTYPE_E4M3)}) {
    shape.page_tokens = 64;
    shape.num_indices = 700;
    const AttendProblem problem(shape);
    DeviceMass device(problem);
    CapturedGraph graph([&](cudaStream_t stream) { device.enqueue(stream); });
    for (const float mass : device.read().mass) ASSERT_TRUE(std::isnan(mass)) << "ran in the capture";
    graph.replay();
    const MassResult first = device.read();
    expect_same_bits(first, DeviceMass(problem).run());
    for (int i = 0; i < 10; ++i) {
      device.poison();
      graph.replay();
      expect_same_bits(device.read(), first);
      if (HasFailure()) return;
    }
    AttendShape other_shape = shape;
    other_shape.seed += 77;
    AttendProblem other(other_shape);
    std::reverse(other.lengths.begin(), other.lengths.end());
    other.indices[3] = std::numeric_limits<int32_t>::min();
    other.seq[1] = 99;
    device.upload(other);
    graph.replay();
    const MassResult replayed = device.read();
    expect_same_bits(replayed, DeviceMass(other).run());
    expect_same_kind(replayed, on_cpu(other));
    EXPECT_NE(replayed.fault, 0u);
    if (HasFailure()) return;
  }
}

TEST(AttentionMass, WorkspaceServesEverySmallerCall) {
  for (const int32_t heads : {1, 16, 128, 1024}) {
    for (const int32_t rows : {0, 1, 7, 8192}) {
      size_t last = 0;
      for (const int32_t indices : {1, 64, 512, 513, 2048, 1 << 20}) {
        const auto bytes = [&](int32_t r) {
          return cuda_backend().attention_mass_workspace_size({r, heads, 512, 64, IC_DTYPE_BF16, indices});
        };
        EXPECT_GE(bytes(rows), last);
        EXPECT_GE(bytes(rows + 1), bytes(rows));
        EXPECT_EQ(bytes(rows) % 256, 0u);
        last = bytes(rows);
      }
    }
  }
}

/// A second row of masses beyond 2^31 elements of the first.
TEST(AttentionMass, OffsetsBeyond32BitsLong) {
  AttendShape shape = small_shape();
  shape.rows = 2;
  const AttendProblem problem(shape);
  DeviceMass device(problem);
  const MassResult expected = device.run();
  constexpr int64_t kStride = (int64_t{1} << 31) - 128;
  auto *masses = static_cast<float *>(device_malloc(static_cast<size_t>(kStride + shape.num_indices) * 4));
  AttendParams p = device.params();
  const DeviceArray<uint8_t> workspace(device.workspace_size());
  p.workspace = workspace.data();
  p.workspace_size = device.workspace_size();
  cuda_backend().attention_mass({p, masses, kStride}, nullptr);
  MassResult result;
  result.mass.resize(expected.mass.size());
  const size_t row_bytes = static_cast<size_t>(shape.num_indices) * 4;
  IC_REQUIRE_CUDA(cudaMemcpy(result.mass.data(), masses, row_bytes, cudaMemcpyDeviceToHost));
  IC_REQUIRE_CUDA(
      cudaMemcpy(result.mass.data() + shape.num_indices, masses + kStride, row_bytes, cudaMemcpyDeviceToHost));
  expect_same_bits(result, expected);
  cudaFree(masses);
}

/// Medians of launches with random indices over contiguous tokens. Prints; fails on errors only.
TEST(AttentionMass, SpeedLong) {
  constexpr struct {
    const char *name;
    int32_t rows, heads, kv_dtype, keys;
  } kCases[] = {{"prefill", 1024, 128, IC_DTYPE_BF16, 32768},
                {"decode", 128, 128, IC_DTYPE_E4M3, 131072},
                {"decode", 1, 128, IC_DTYPE_BF16, 131072}};
  constexpr int32_t kIndices = 2048;
  std::mt19937 random(run_seed());
  for (const auto &speed : kCases) {
    const bool fp8 = speed.kv_dtype == IC_DTYPE_E4M3;
    const int64_t token_bytes = fp8 ? 656 : 1152;
    // 0x3c everywhere: 0.0115 as bf16 and as a scale, 1.5 as e4m3
    const std::vector<uint16_t> noise(static_cast<size_t>(speed.rows) * static_cast<size_t>(speed.heads) * 576, 0x3c3c);
    const DeviceArray<uint16_t> q(noise);
    const DeviceArray<uint8_t> kv(std::vector<uint8_t>(static_cast<size_t>(speed.keys * token_bytes), 0x3c));
    std::vector<int32_t> indices(static_cast<size_t>(speed.rows) * kIndices);
    for (int32_t &index : indices) index = static_cast<int32_t>(random() % static_cast<uint32_t>(speed.keys));
    const DeviceArray<int32_t> device_indices(indices);
    const DeviceArray<float> mass(indices.size());
    const size_t workspace_size =
        cuda_backend().attention_mass_workspace_size({speed.rows, speed.heads, 512, 64, speed.kv_dtype, kIndices});
    const DeviceArray<uint8_t> workspace(workspace_size);
    AttendParams p{};
    p.rows.count = speed.rows;
    p.rows.num_seqs = 1;
    p.indices = device_indices.data();
    p.index_stride = kIndices;
    p.num_indices = kIndices;
    p.q = q.data();
    p.q_row_stride = int64_t{speed.heads} * 576;
    p.q_dtype = IC_DTYPE_BF16;
    p.kv.data = kv.data();
    p.kv.stride_bytes = token_bytes;
    p.kv.capacity = speed.keys;
    p.kv_dtype = speed.kv_dtype;
    p.num_heads = speed.heads;
    p.d_latent = 512;
    p.d_rope = 64;
    p.softmax_scale = 0.04f;
    p.workspace = workspace.data();
    p.workspace_size = workspace_size;
    const TestStream stream;
    cudaEvent_t begin = nullptr, end = nullptr;
    IC_REQUIRE_CUDA(cudaEventCreate(&begin));
    IC_REQUIRE_CUDA(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < 7; ++i) {
      IC_REQUIRE_CUDA(cudaEventRecord(begin, stream.get()));
      cuda_backend().attention_mass({p, mass.data(), kIndices}, stream.get());
      IC_REQUIRE_CUDA(cudaEventRecord(end, stream.get()));
      stream.wait();
      float ms = 0;
      IC_REQUIRE_CUDA(cudaEventElapsedTime(&ms, begin, end));
      if (i >= 2) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    const double ms = static_cast<double>(times[times.size() / 2]);
    const double flop = 2.0 * 2.0 * speed.rows * speed.heads * kIndices * 576.0;
    std::printf("%s %d x %d heads, %s, %d keys, k 2048: %.1f us, %.1f TFLOP/s, workspace %.1f MiB\n", speed.name,
                speed.rows, speed.heads, fp8 ? "fp8" : "bf16", speed.keys, ms * 1e3, flop / ms * 1e-9,
                static_cast<double>(workspace_size) / (1 << 20));
    IC_REQUIRE_CUDA(cudaEventDestroy(begin));
    IC_REQUIRE_CUDA(cudaEventDestroy(end));
  }
}

}  // namespace
}  // namespace ic::test

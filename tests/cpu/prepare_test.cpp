// SPDX-License-Identifier: Apache-2.0
// Preparation and key writing: bit for bit against the steps as cpu/prepare.h states them, and against the formulas in
// double.
#include "cpu/prepare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/convert.h"
#include "cpu/workers.h"
#include "indexcache.h"
#include "tests/cpu/levels.h"
#include "tests/cpu/sparse_memory.h"
#include "tests/cpu/uniform.h"

namespace ic::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kPositions = 50;

class Prepare : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Levels, Prepare, testing::ValuesIn(available_levels()), level_name);

struct PrepareShape {
  int32_t head_dim = 64, num_heads = 3, rope_dim = 32;
  int64_t count = 11;
  int32_t x_dtype = IC_DTYPE_F32, dtype = IC_DTYPE_F32;
  uint32_t flags = 0;
  bool norm = false, bias = false;
  int32_t page_tokens = 0;  // of keys
};

/// Inputs of a call on queries or, with num_heads 1, keys; the pool is full of a pattern that writes must not disturb.
class PrepareProblem {
 public:
  explicit PrepareProblem(const PrepareShape &s) : shape(s) {
    Uniform uniform(3);
    const int64_t row = int64_t{s.num_heads} * s.head_dim;
    x.resize(static_cast<size_t>(s.count * row));
    for (float &value : x) value = 4.0f * uniform();
    x_bytes.resize(x.size() * static_cast<size_t>(dtype_bytes(s.x_dtype)));
    convert_from_f32(s.x_dtype, x.data(), x_bytes.data(), s.count * row);
    convert_to_f32(s.x_dtype, x_bytes.data(), x.data(), s.count * row);
    for (int32_t i = 0; i < kPositions * s.rope_dim / 2; ++i) {
      const double angle = 0.37 * (i / std::max(1, s.rope_dim / 2)) * std::pow(0.7, i % std::max(1, s.rope_dim / 2));
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
    for (int64_t i = 0; i < s.count; ++i) positions.push_back(uniform.below(kPositions));
    for (int32_t d = 0; d < s.head_dim; ++d) {
      weight.push_back(1.0f + 0.5f * uniform());
      bias.push_back(uniform());
    }
    const int64_t vector = s.head_dim * int64_t{dtype_bytes(s.dtype)};
    if (s.page_tokens == 0) {
      capacity = 2 * s.count + 3;
      stride_bytes = vector + (s.dtype == IC_DTYPE_F32 ? 16 : 0);
    } else {
      capacity = 2 * s.count / s.page_tokens + 2;
      stride_bytes = s.page_tokens * (vector + (s.dtype == IC_DTYPE_E4M3 ? 4 : 0)) + 64;
    }
    pool.assign(static_cast<size_t>(capacity * stride_bytes), 0xa5);
    pool_scales.assign(static_cast<size_t>(capacity), -5.0f);
    for (int64_t i = 0; i < s.count; ++i) slots.push_back((i * 7 + 2) % (2 * s.count + 1));  // distinct, scattered
    q_out.assign(static_cast<size_t>(s.count * row * dtype_bytes(s.dtype)), 0xa5);
    q_scales.assign(static_cast<size_t>(s.count * s.num_heads), -5.0f);
  }

  PrepareParams params() {
    PrepareParams p = {};
    p.x = x_bytes.data();
    p.x_row_stride = int64_t{shape.num_heads} * shape.head_dim;
    p.count = shape.count;
    p.x_dtype = shape.x_dtype;
    p.dtype = shape.dtype;
    p.num_heads = shape.num_heads;
    p.head_dim = shape.head_dim;
    p.positions = positions.data();
    p.cos_table = cosine.data();
    p.sin_table = sine.data();
    p.num_positions = kPositions;
    p.rope_dim = shape.rope_dim;
    p.flags = shape.flags;
    p.norm_eps = 1e-6f;
    p.norm_weight = shape.norm ? weight.data() : nullptr;
    p.norm_bias = shape.norm && shape.bias ? bias.data() : nullptr;
    p.fault = &fault;
    p.q_out = q_out.data();
    p.q_out_stride = p.x_row_stride;
    p.q_scale_out = shape.dtype == IC_DTYPE_E4M3 ? q_scales.data() : nullptr;
    p.pool.data = pool.data();
    p.pool.scales = shape.dtype == IC_DTYPE_E4M3 && shape.page_tokens == 0 ? pool_scales.data() : nullptr;
    p.pool.stride_bytes = stride_bytes;
    p.pool.capacity = capacity;
    p.pool.page_tokens = shape.page_tokens;
    p.slots = slots.data();
    return p;
  }

  const PrepareShape shape;
  std::vector<float> x, cosine, sine, weight, bias, pool_scales, q_scales;
  std::vector<uint8_t> x_bytes, pool, q_out;
  std::vector<int32_t> positions;
  std::vector<int64_t> slots;
  int64_t capacity = 0, stride_bytes = 0;
  uint32_t fault = 0;
};

// The sum of cpu/prepare.h, recursively: element i of the half-length sum is v[i] + v[i + n].
float tree(const std::vector<float> &v) {
  if (v.size() == 1) return v[0];
  std::vector<float> half(v.size() / 2);
  for (size_t i = 0; i < half.size(); ++i) half[i] = v[i] + v[i + half.size()];
  return tree(half);
}

// Steps 1 to 3 in T. In float the order is the stated one; in double it is the plain formula.
template <class T>
std::vector<T> transform(const PrepareProblem &problem, int64_t row, int32_t head) {
  const PrepareShape &s = problem.shape;
  const size_t n = static_cast<size_t>(s.head_dim);
  std::vector<T> v(n);
  for (size_t d = 0; d < n; ++d) v[d] = problem.x[static_cast<size_t>(row * s.num_heads + head) * n + d];
  if (s.norm) {
    T mean = 0, variance = 0;
    if constexpr (sizeof(T) == sizeof(float)) {
      mean = tree(v) / static_cast<float>(n);  // n is a power of two: the same as times 1/n
      std::vector<float> squares;
      for (const float value : v) squares.push_back((value - mean) * (value - mean));
      variance = tree(squares) / static_cast<float>(n);
    } else {
      for (const T value : v) mean += value / static_cast<T>(n);
      for (const T value : v) variance += (value - mean) * (value - mean) / static_cast<T>(n);
    }
    const T rstd = T{1} / std::sqrt(variance + static_cast<T>(1e-6f));
    for (size_t d = 0; d < n; ++d) {
      v[d] = ((v[d] - mean) * rstd) * problem.weight[d];
      if (s.bias) v[d] += problem.bias[d];
    }
  }
  const int32_t half = s.rope_dim / 2;
  const int32_t begin = (s.flags & IC_PREPARE_ROPE_LAST) != 0 ? s.head_dim - s.rope_dim : 0;
  for (int32_t i = 0; i < half; ++i) {
    const bool interleaved = (s.flags & IC_PREPARE_ROPE_INTERLEAVED) != 0;
    T &a = v[static_cast<size_t>(begin + (interleaved ? 2 * i : i))];
    T &b = v[static_cast<size_t>(begin + (interleaved ? 2 * i + 1 : i + half))];
    const size_t at = static_cast<size_t>(problem.positions[static_cast<size_t>(row)] * half + i);
    const T c = problem.cosine[at], sn = problem.sine[at];
    const T rotated_a = a * c - b * sn, rotated_b = b * c + a * sn;
    a = rotated_a;
    b = rotated_b;
  }
  if ((s.flags & IC_PREPARE_HADAMARD) == 0) return v;
  if constexpr (sizeof(T) == sizeof(float)) {
    for (size_t distance = 1; distance < n; distance *= 2) {
      for (size_t i = 0; i < n; ++i) {
        if ((i & distance) != 0) continue;
        const float a = v[i], b = v[i + distance];
        v[i] = a + b;
        v[i + distance] = a - b;
      }
    }
    for (float &value : v) value *= static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
  } else {
    std::vector<T> product(n);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) product[i] += (__builtin_popcountll(i & j) % 2 == 0 ? v[j] : -v[j]);
      product[i] /= std::sqrt(static_cast<T>(n));
    }
    v = product;
  }
  return v;
}

struct Prepared {
  std::vector<uint8_t> bytes;
  float scale = 0;
};

Prepared reference(const PrepareProblem &problem, int64_t row, int32_t head) {
  const PrepareShape &s = problem.shape;
  std::vector<float> v = transform<float>(problem, row, head);
  Prepared result;
  result.bytes.resize(v.size() * static_cast<size_t>(dtype_bytes(s.dtype)));
  if (s.dtype == IC_DTYPE_E4M3) {
    float amax = 0;
    for (const float value : v) amax = std::max(amax, std::fabs(value));
    result.scale = std::max(amax, 1e-4f) / 448.0f;
    if ((s.flags & IC_PREPARE_UE8M0) != 0) {
      int exponent = 0;
      const float fraction = std::frexp(result.scale, &exponent);  // in [0.5, 1)
      result.scale = std::ldexp(1.0f, fraction == 0.5f ? exponent - 1 : exponent);
    }
    for (float &value : v) value /= result.scale;
  }
  convert_from_f32(s.dtype, v.data(), result.bytes.data(), s.head_dim);
  return result;
}

std::vector<PrepareShape> all_shapes() {
  std::vector<PrepareShape> shapes;
  for (const int32_t head_dim : {32, 64, 128}) {
    for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
      for (const int32_t x_dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16}) {
        for (uint32_t flags = 0; flags < 16; ++flags) {
          PrepareShape shape;
          shape.head_dim = head_dim;
          shape.dtype = dtype;
          shape.x_dtype = x_dtype;
          shape.flags = flags;
          shape.rope_dim = flags % 3 == 0 ? head_dim : (flags % 3 == 1 ? head_dim / 2 : 6);
          shapes.push_back(shape);
        }
      }
    }
  }
  return shapes;
}

testing::Message describe(const PrepareShape &s) {
  return testing::Message() << "D " << s.head_dim << " x " << s.x_dtype << " to " << s.dtype << " flags " << s.flags
                            << " rope " << s.rope_dim << " norm " << s.norm << s.bias << " pages of " << s.page_tokens;
}

TEST_P(Prepare, QueriesMatchTheStatedSteps) {
  for (const PrepareShape &shape : all_shapes()) {
    SCOPED_TRACE(describe(shape));
    PrepareProblem problem(shape);
    Workers workers(1);
    prepare_queries({GetParam(), &workers}, problem.params());
    const size_t bytes = static_cast<size_t>(shape.head_dim * dtype_bytes(shape.dtype));
    for (int64_t row = 0; row < shape.count; ++row) {
      for (int32_t head = 0; head < shape.num_heads; ++head) {
        const size_t vector = static_cast<size_t>(row * shape.num_heads + head);
        const Prepared expected = reference(problem, row, head);
        ASSERT_EQ(std::memcmp(&problem.q_out[vector * bytes], expected.bytes.data(), bytes), 0) << "row " << row;
        ASSERT_EQ(problem.q_scales[vector], shape.dtype == IC_DTYPE_E4M3 ? expected.scale : -5.0f);
      }
    }
    ASSERT_EQ(problem.fault, 0u);
  }
}

// Compares the whole pool, so that a byte written beside a key is seen.
void expect_pool(const PrepareProblem &problem, const std::vector<uint8_t> &pool, const std::vector<float> &scales) {
  ASSERT_EQ(problem.pool, pool);
  ASSERT_EQ(problem.pool_scales, scales);
}

void put_key(const PrepareProblem &problem, int64_t slot, const Prepared &key, std::vector<uint8_t> &pool,
             std::vector<float> &scales) {
  const bool quantised = problem.shape.dtype == IC_DTYPE_E4M3;
  const int64_t bytes = static_cast<int64_t>(key.bytes.size()), tokens = problem.shape.page_tokens;
  if (tokens == 0) {
    std::copy(key.bytes.begin(), key.bytes.end(), pool.begin() + slot * problem.stride_bytes);
    if (quantised) scales[static_cast<size_t>(slot)] = key.scale;
    return;
  }
  const auto page = pool.begin() + slot / tokens * problem.stride_bytes;
  std::copy(key.bytes.begin(), key.bytes.end(), page + slot % tokens * bytes);
  if (quantised) std::memcpy(&*(page + tokens * bytes + slot % tokens * 4), &key.scale, 4);
}

TEST_P(Prepare, KeysMatchTheStatedStepsInEveryLayout) {
  const int32_t page_sizes[] = {0, 1, 16, 32, 64, 128};
  int turn = 0;
  for (PrepareShape shape : all_shapes()) {
    shape.num_heads = 1;
    shape.count = 40;
    shape.page_tokens = page_sizes[turn % 6];
    shape.norm = turn % 5 != 0;
    shape.bias = turn % 5 != 1;
    ++turn;
    SCOPED_TRACE(describe(shape));
    PrepareProblem problem(shape);
    std::vector<uint8_t> pool = problem.pool;
    std::vector<float> scales = problem.pool_scales;
    problem.slots[5] = -1;
    Workers workers(1);
    prepare_keys({GetParam(), &workers}, problem.params());
    for (int64_t row = 0; row < shape.count; ++row) {
      const int64_t slot = problem.slots[static_cast<size_t>(row)];
      if (slot >= 0) put_key(problem, slot, reference(problem, row, 0), pool, scales);
    }
    expect_pool(problem, pool, scales);
    ASSERT_EQ(problem.fault, 0u);
  }
}

TEST_P(Prepare, StatedStepsAreTheFormulas) {
  for (const int32_t head_dim : {32, 64, 128}) {
    for (uint32_t flags = 0; flags < 8; ++flags) {
      PrepareShape shape;
      shape.head_dim = head_dim;
      shape.num_heads = 1;
      shape.flags = flags;
      shape.norm = shape.bias = true;
      SCOPED_TRACE(describe(shape));
      PrepareProblem problem(shape);
      Workers workers(1);
      prepare_keys({GetParam(), &workers}, problem.params());
      for (int64_t row = 0; row < shape.count; ++row) {
        const std::vector<double> expected = transform<double>(problem, row, 0);
        const int64_t at = problem.slots[static_cast<size_t>(row)] * problem.stride_bytes;
        std::vector<float> key(static_cast<size_t>(head_dim));
        std::memcpy(key.data(), &problem.pool[static_cast<size_t>(at)], key.size() * sizeof(float));
        for (size_t d = 0; d < key.size(); ++d) ASSERT_NEAR(key[d], expected[d], 2e-6) << "row " << row << " d " << d;
      }
    }
  }
}

TEST_P(Prepare, ThreadsChangeNoBit) {
  PrepareShape shape;
  shape.dtype = IC_DTYPE_E4M3;
  shape.flags = IC_PREPARE_HADAMARD | IC_PREPARE_ROPE_INTERLEAVED;
  shape.count = 700;
  PrepareProblem alone(shape), shared(shape);
  Workers one(1), three(3);
  prepare_queries({GetParam(), &one}, alone.params());
  prepare_queries({GetParam(), &three}, shared.params());
  EXPECT_EQ(alone.q_out, shared.q_out);
  EXPECT_EQ(alone.q_scales, shared.q_scales);
  shape.num_heads = 1;
  shape.norm = true;
  PrepareProblem alone_keys(shape), shared_keys(shape);
  prepare_keys({GetParam(), &one}, alone_keys.params());
  prepare_keys({GetParam(), &three}, shared_keys.params());
  expect_pool(alone_keys, shared_keys.pool, shared_keys.pool_scales);
}

TEST_P(Prepare, RowStrides) {
  PrepareShape shape;
  shape.dtype = IC_DTYPE_BF16;
  PrepareProblem dense(shape), strided(shape);
  Workers workers(1);
  prepare_queries({GetParam(), &workers}, dense.params());
  const int64_t row = 3 * 64, x_stride = row + 9, out_stride = row + 5;
  std::vector<float> x(static_cast<size_t>(shape.count * x_stride));
  std::vector<uint16_t> out(static_cast<size_t>(shape.count * out_stride), 0xa5a5);
  for (int64_t i = 0; i < shape.count; ++i) {
    std::copy_n(&strided.x[static_cast<size_t>(i * row)], row, &x[static_cast<size_t>(i * x_stride)]);
  }
  PrepareParams params = strided.params();
  params.x = x.data();
  params.x_row_stride = x_stride;
  params.q_out = out.data();
  params.q_out_stride = out_stride;
  prepare_queries({GetParam(), &workers}, params);
  for (int64_t i = 0; i < shape.count; ++i) {
    const uint16_t *result = &out[static_cast<size_t>(i * out_stride)];
    EXPECT_EQ(std::memcmp(result, &dense.q_out[static_cast<size_t>(i * row * 2)], static_cast<size_t>(row) * 2), 0);
    for (int64_t gap = row; gap < out_stride; ++gap) EXPECT_EQ(result[gap], 0xa5a5);
  }
}

TEST_P(Prepare, IllegalPositions) {
  for (const int32_t bad : {-1, kPositions, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    for (const uint32_t flags : {0u, uint32_t{IC_PREPARE_UE8M0}}) {
      PrepareShape shape;
      shape.dtype = IC_DTYPE_E4M3;
      shape.flags = flags;
      PrepareProblem problem(shape), expected(shape);
      Workers workers(1);
      prepare_queries({GetParam(), &workers}, expected.params());
      problem.positions[4] = bad;
      prepare_queries({GetParam(), &workers}, problem.params());
      EXPECT_EQ(problem.fault, uint32_t{IC_FAULT_POSITION});
      const float zero_scale = flags == 0 ? 1e-4f / 448.0f : 0x1p-22f;
      for (size_t i = 0; i < problem.q_out.size(); ++i) {
        ASSERT_EQ(problem.q_out[i], i / (3 * 64) == 4 ? 0 : expected.q_out[i]);
      }
      for (size_t i = 0; i < problem.q_scales.size(); ++i) {
        ASSERT_EQ(problem.q_scales[i], i / 3 == 4 ? zero_scale : expected.q_scales[i]);
      }
    }
    PrepareShape keys;
    keys.num_heads = 1;
    PrepareProblem problem(keys), expected(keys);
    Workers workers(1);
    problem.positions[4] = bad;
    expected.slots[4] = -1;
    prepare_keys({GetParam(), &workers}, problem.params());
    prepare_keys({GetParam(), &workers}, expected.params());
    EXPECT_EQ(problem.pool, expected.pool);
    EXPECT_EQ(problem.fault, uint32_t{IC_FAULT_POSITION});
    EXPECT_EQ(expected.fault, 0u);
    keys.rope_dim = 0;  // positions are not read
    PrepareProblem unrotated(keys);
    PrepareParams params = unrotated.params();
    params.positions = nullptr;
    prepare_keys({GetParam(), &workers}, params);
    EXPECT_EQ(unrotated.fault, 0u);
    EXPECT_EQ(std::memcmp(&unrotated.pool[static_cast<size_t>(unrotated.slots[4] * unrotated.stride_bytes)],
                          &unrotated.x[4 * 64], 256),
              0);
  }
}

TEST_P(Prepare, IllegalSlots) {
  for (const int32_t page_tokens : {0, 16}) {
    PrepareShape shape;
    shape.num_heads = 1;
    shape.dtype = IC_DTYPE_E4M3;
    shape.page_tokens = page_tokens;
    const int64_t end = PrepareProblem(shape).capacity * std::max(1, page_tokens);
    for (const int64_t bad :
         {int64_t{-2}, end, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
      PrepareProblem problem(shape), expected(shape);
      problem.slots[4] = bad;
      problem.slots[6] = expected.slots[4] = expected.slots[6] = -1;
      problem.positions[6] = -9;  // of a skipped row: not looked at
      Workers workers(1);
      prepare_keys({GetParam(), &workers}, problem.params());
      prepare_keys({GetParam(), &workers}, expected.params());
      expect_pool(problem, expected.pool, expected.pool_scales);
      EXPECT_EQ(problem.fault, uint32_t{IC_FAULT_SLOT});
      EXPECT_EQ(expected.fault, 0u);
    }
    PrepareProblem last(shape);
    last.slots[4] = end - 1;  // the last slot is legal
    Workers workers(1);
    PrepareParams params = last.params();
    params.fault = nullptr;
    prepare_keys({GetParam(), &workers}, params);
    std::vector<uint8_t> pool(last.pool.size(), 0xa5);
    std::vector<float> scales(last.pool_scales.size(), -5.0f);
    for (int64_t row = 0; row < shape.count; ++row) {
      put_key(last, last.slots[static_cast<size_t>(row)], reference(last, row, 0), pool, scales);
    }
    expect_pool(last, pool, scales);
  }
}

TEST_P(Prepare, QuantisationOfSpecialValues) {
  PrepareShape shape;
  shape.rope_dim = 0;
  shape.num_heads = 1;
  shape.count = 6;
  shape.dtype = IC_DTYPE_E4M3;
  PrepareProblem problem(shape);
  float *x = reinterpret_cast<float *>(problem.x_bytes.data());
  std::fill_n(x, 6 * 64, 0.5f);
  std::fill_n(x, 64, 0.0f);        // row 0: zeros
  std::fill_n(x + 64, 64, 1e-6f);  // row 1: below the floor of the scale
  x[2 * 64 + 7] = kNan;
  x[3 * 64 + 7] = -kNan;
  x[4 * 64 + 7] = -kInf;
  x[5 * 64 + 7] = -3.0f;
  Workers workers(1);
  prepare_queries({GetParam(), &workers}, problem.params());
  const auto code = [&](int row, int d) { return problem.q_out[static_cast<size_t>(row * 64 + d)]; };
  const float floor_scale = 1e-4f / 448.0f;
  EXPECT_EQ(problem.q_scales[0], floor_scale);
  EXPECT_EQ(code(0, 0), 0);
  EXPECT_EQ(problem.q_scales[1], floor_scale);
  EXPECT_EQ(code(1, 9), e4m3_from_f32(1e-6f / floor_scale));
  for (const int row : {2, 3}) {
    EXPECT_EQ(bits_from_f32(problem.q_scales[static_cast<size_t>(row)]), 0x7fc00000u);
    for (int d = 0; d < 64; ++d) EXPECT_EQ(code(row, d), 0x7f);
  }
  EXPECT_EQ(problem.q_scales[4], kInf);
  EXPECT_EQ(code(4, 7), 0x7f);
  EXPECT_EQ(code(4, 8), 0);
  EXPECT_EQ(problem.q_scales[5], 3.0f / 448.0f);
  EXPECT_EQ(code(5, 7), 0xfe);
}

TEST_P(Prepare, OffsetsBeyond32Bits) {
  PrepareShape shape;
  shape.num_heads = 1;
  shape.count = 2;
  shape.dtype = IC_DTYPE_E4M3;
  PrepareProblem problem(shape);
  const int64_t stride = (int64_t{1} << 32) + 64;
  SparseMemory x(static_cast<size_t>(stride * 4 + 4096)), out(static_cast<size_t>(stride + 4096));
  for (int64_t row = 0; row < 2; ++row)
    std::memcpy(x.as<float>() + row * stride, &problem.x[static_cast<size_t>(row * 64)], 256);
  Workers workers(1);
  PrepareParams params = problem.params();
  params.x = x.bytes();
  params.x_row_stride = params.q_out_stride = stride;
  params.q_out = out.bytes();
  prepare_queries({GetParam(), &workers}, params);
  const int64_t slot = (int64_t{1} << 27) + 17, page = slot / 64;
  SparseMemory pool(static_cast<size_t>((page + 1) * 4416));
  params.pool.data = pool.bytes();
  params.pool.scales = nullptr;
  params.pool.page_tokens = 64;
  params.pool.stride_bytes = 64 * 68 + 64;
  params.pool.capacity = page + 1;
  problem.slots = {-1, slot};
  params.slots = problem.slots.data();
  prepare_keys({GetParam(), &workers}, params);
  const Prepared expected = reference(problem, 1, 0);
  EXPECT_EQ(std::memcmp(out.bytes() + stride, expected.bytes.data(), 64), 0);
  const uint8_t *written = pool.bytes() + page * 4416;
  EXPECT_EQ(std::memcmp(written + 17 * 64, expected.bytes.data(), 64), 0);
  EXPECT_EQ(std::memcmp(written + 64 * 64 + 17 * 4, &expected.scale, 4), 0);
}

TEST_P(Prepare, WriteKeysCopiesTheBytes) {
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    for (const int32_t page_tokens : {0, 1, 16, 32, 64, 128}) {
      PrepareShape shape;
      shape.num_heads = 1;
      shape.dtype = dtype;
      shape.page_tokens = page_tokens;
      shape.count = 50;
      SCOPED_TRACE(describe(shape));
      PrepareProblem problem(shape);
      const int64_t bytes = 64 * int64_t{dtype_bytes(dtype)}, key_stride = bytes + 8;
      Uniform uniform(9);
      std::vector<uint8_t> keys(static_cast<size_t>(shape.count * key_stride));
      for (uint8_t &byte : keys) byte = static_cast<uint8_t>(uniform.below(256));
      std::vector<float> key_scales;
      for (int64_t i = 0; i < shape.count; ++i) key_scales.push_back(uniform());
      problem.slots[3] = -1;
      problem.slots[4] = problem.capacity * std::max(1, page_tokens);
      std::vector<uint8_t> pool = problem.pool;
      std::vector<float> scales = problem.pool_scales;
      for (int64_t row = 0; row < shape.count; ++row) {
        if (row == 3 || row == 4) continue;
        const auto begin = keys.begin() + row * key_stride;
        put_key(problem, problem.slots[static_cast<size_t>(row)],
                {{begin, begin + bytes}, key_scales[static_cast<size_t>(row)]}, pool, scales);
      }
      WriteKeysParams params = {};
      params.keys = keys.data();
      params.key_stride_bytes = key_stride;
      params.scales = dtype == IC_DTYPE_E4M3 ? key_scales.data() : nullptr;
      params.slots = problem.slots.data();
      params.count = shape.count;
      params.dtype = dtype;
      params.head_dim = 64;
      params.pool = problem.params().pool;
      params.fault = &problem.fault;
      Workers workers(2);
      write_keys({GetParam(), &workers}, params);
      expect_pool(problem, pool, scales);
      EXPECT_EQ(problem.fault, uint32_t{IC_FAULT_SLOT});
    }
  }
}

TEST_P(Prepare, NoRows) {
  PrepareShape shape;
  shape.num_heads = 1;
  PrepareProblem problem(shape);
  PrepareParams params = problem.params();
  params.count = 0;
  Workers workers(2);
  prepare_queries({GetParam(), &workers}, params);
  prepare_keys({GetParam(), &workers}, params);
  EXPECT_EQ(problem.q_out, std::vector<uint8_t>(problem.q_out.size(), 0xa5));
  EXPECT_EQ(problem.pool, std::vector<uint8_t>(problem.pool.size(), 0xa5));
}

}  // namespace
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Attention masses against their definition in double, and their bits across everything that must not change them.
#include "cpu/attention_mass.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/cpu/attend_problem.h"
#include "tests/cpu/levels.h"

namespace ic::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class AttentionMass : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Levels, AttentionMass, testing::ValuesIn(available_levels()), level_name);

void expect_same_bits(const MassResult &a, const MassResult &b) {
  ASSERT_EQ(a.mass.size(), b.mass.size());
  for (size_t i = 0; i < a.mass.size(); ++i) ASSERT_EQ(bits_from_f32(a.mass[i]), bits_from_f32(b.mass[i])) << i;
}

/// relative: the absolute error of a score is the relative one of its weight.
void expect_near(const AttendProblem &problem, const MassResult &result, double relative = 2e-5) {
  const std::vector<double> expected = problem.reference_mass();
  const AttendShape &shape = problem.shape();
  ASSERT_EQ(result.mass.size(), expected.size());
  for (size_t row = 0; row < static_cast<size_t>(shape.rows); ++row) {
    double sum = 0;
    double expected_sum = 0;
    for (size_t i = 0; i < static_cast<size_t>(shape.num_indices); ++i) {
      const size_t at = row * static_cast<size_t>(shape.num_indices) + i;
      ASSERT_NEAR(static_cast<double>(result.mass[at]), expected[at], relative * expected[at] + 1e-37)
          << "row " << row << ", entry " << i;
      sum += static_cast<double>(result.mass[at]);
      expected_sum += expected[at];
    }
    ASSERT_NEAR(sum, expected_sum, 1e-6) << "row " << row;
    if (problem.sink.empty() && !problem.lists[row].empty()) {
      ASSERT_NEAR(sum, 1.0, 1e-6) << "row " << row;
    }
  }
}

TEST_P(AttentionMass, MatchesTheDefinitionInEveryLayout) {
  for (const int32_t kv_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
    for (const int32_t page_tokens : {0, 1, 16, 32, 64, 128}) {
      for (const bool slots : {false, true}) {
        AttendShape shape;
        shape.kv_dtype = kv_dtype;
        shape.page_tokens = page_tokens;
        shape.slots = slots;
        shape.rows = 12;  // every length of make_lists(), and holes in every third row
        SCOPED_TRACE(testing::Message() << "kv " << kv_dtype << " pages of " << page_tokens << " slots " << slots);
        const AttendProblem problem(shape);
        const MassResult result = problem.run_mass(GetParam());
        expect_near(problem, result);
        EXPECT_EQ(result.fault, 0u);
      }
    }
  }
}

TEST_P(AttentionMass, MatchesTheDefinitionInEveryShape) {
  struct {
    int32_t heads, d_latent, d_rope;
  } const dims[] = {{1, 16, 0}, {3, 32, 16}, {7, 80, 32}, {13, 96, 0}, {25, 16, 16}, {2, 512, 64}, {1, 1024, 256}};
  for (const auto &dim : dims) {
    for (const int32_t q_dtype : {IC_DTYPE_F32, IC_DTYPE_BF16}) {
      AttendShape shape;
      shape.num_heads = dim.heads;
      shape.d_latent = dim.d_latent;
      shape.d_rope = dim.d_rope;
      shape.q_dtype = q_dtype;
      shape.num_indices = 70;
      shape.seq_tokens = 90;
      shape.scale = 0.3f;
      SCOPED_TRACE(testing::Message() << dim.heads << " heads, " << dim.d_latent << "+" << dim.d_rope << ", q "
                                      << q_dtype);
      const AttendProblem problem(shape);
      expect_near(problem, problem.run_mass(GetParam()), 1e-4);
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

TEST_P(AttentionMass, Fp8Tokens) {
  for (const int32_t page_tokens : {0, 64}) {
    AttendShape shape = fp8_shape();
    shape.page_tokens = page_tokens;
    const AttendProblem problem(shape);
    expect_near(problem, problem.run_mass(GetParam()));
  }
}

TEST_P(AttentionMass, LengthsAroundK) {
  for (const int32_t k : {1, 2, 16, 63, 64, 65, 127, 129}) {
    AttendShape shape;
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
    const MassResult result = problem.run_mass(GetParam());
    expect_near(problem, result);
    EXPECT_EQ(result.fault, uint32_t{IC_FAULT_KEY_END});
    if (k == 1) {
      EXPECT_EQ(result.mass[1], 1.0f) << "the only key has all of it, exactly";
    }
  }
}

TEST_P(AttentionMass, AKeyTwiceHasItsWeightTwice) {
  AttendShape shape;
  shape.rows = 1;
  shape.num_indices = 4;
  AttendProblem problem(shape);
  problem.indices = {5, 5, -1, 5};
  problem.lists[0] = {5, 5, 5};
  const MassResult result = problem.run_mass(GetParam());
  EXPECT_EQ(result.mass[0], result.mass[1]);
  EXPECT_EQ(result.mass[0], result.mass[3]);
  EXPECT_EQ(bits_from_f32(result.mass[2]), 0u);
  EXPECT_NEAR(result.mass[0], 1.0f / 3, 1e-7f);
}

void serial_backwards(void *, int64_t count, Task task, void *data) {
  for (int64_t i = count - 1; i >= 0; --i) task(data, i);
}

TEST_P(AttentionMass, LevelThreadsLayoutAndBatchChangeNoBit) {
  AttendShape shape;
  shape.num_heads = 13;
  shape.rows = 11;
  AttendProblem problem(shape);
  for (int32_t h = 0; h < shape.num_heads; ++h) problem.sink.push_back(0.2f * static_cast<float>(h - 6));
  const MassResult expected = problem.run_mass(Isa::kPortable);
  for (const int32_t threads : {1, 2, 7}) {
    Workers workers(threads);
    expect_same_bits(problem.run_mass({GetParam(), &workers}, problem.params()), expected);
  }
  Workers host(4, serial_backwards, nullptr);
  expect_same_bits(problem.run_mass({GetParam(), &host}, problem.params()), expected);
  for (const int32_t page_tokens : {0, 16, 128}) {
    for (const bool slots : {false, true}) {
      AttendShape other = shape;
      other.page_tokens = page_tokens;
      other.slots = slots;
      AttendProblem same(other);
      same.sink = problem.sink;
      expect_same_bits(same.run_mass(GetParam()), expected);
    }
  }
  Workers one(1);
  for (int32_t row = 0; row < shape.rows; ++row) {
    AttendParams params = problem.params();
    params.rows.count = 1;
    params.rows.seq += row;
    params.indices += row * params.index_stride;
    params.lengths += row;
    params.q = static_cast<const float *>(params.q) + row * params.q_row_stride;
    const MassResult alone = problem.run_mass({GetParam(), &one}, params);
    for (size_t i = 0; i < alone.mass.size(); ++i) {
      ASSERT_EQ(bits_from_f32(alone.mass[i]),
                bits_from_f32(expected.mass[static_cast<size_t>(row) * alone.mass.size() + i]));
    }
  }
}

TEST_P(AttentionMass, StridesOfRows) {
  AttendShape shape;
  const AttendProblem problem(shape);
  const MassResult expected = problem.run_mass(GetParam());
  AttendParams params = problem.params();
  const int64_t q_row = params.q_row_stride;
  const int64_t list_row = params.index_stride;
  std::vector<float> q(static_cast<size_t>(shape.rows * (q_row + 3)));
  std::vector<int32_t> indices(static_cast<size_t>(shape.rows * (list_row + 9)), 3);
  for (int64_t row = 0; row < shape.rows; ++row) {
    std::copy_n(&problem.queries[static_cast<size_t>(row * q_row)], q_row, &q[static_cast<size_t>(row * (q_row + 3))]);
    std::copy_n(&problem.indices[static_cast<size_t>(row * list_row)], list_row,
                &indices[static_cast<size_t>(row * (list_row + 9))]);
  }
  params.q = q.data();
  params.q_row_stride = q_row + 3;
  params.indices = indices.data();
  params.index_stride = list_row + 9;
  Workers workers(2);
  const MassResult result = problem.run_mass({GetParam(), &workers}, params, 5);
  const size_t k = static_cast<size_t>(shape.num_indices);
  for (size_t row = 0; row < static_cast<size_t>(shape.rows); ++row) {
    for (size_t i = 0; i < k + 5; ++i) {
      const float value = result.mass[row * (k + 5) + i];
      if (i < k) {
        ASSERT_EQ(bits_from_f32(value), bits_from_f32(expected.mass[row * k + i]));
      } else {
        ASSERT_TRUE(std::isnan(value)) << "written behind the row";
      }
    }
  }
}

TEST_P(AttentionMass, ASinkTakesItsPart) {
  AttendShape shape;
  AttendProblem problem(shape);
  const MassResult without = problem.run_mass(GetParam());
  problem.sink = {-2.0f, 0.5f, 3.0f, 40.0f};
  const MassResult with = problem.run_mass(GetParam());
  expect_near(problem, with);
  for (size_t i = 0; i < with.mass.size(); ++i) EXPECT_LE(with.mass[i], without.mass[i]);
  problem.sink.assign(4, -kInf);
  expect_same_bits(problem.run_mass(GetParam()), without);
  for (const float all : {kInf, 1e30f}) {  // nothing is left
    problem.sink.assign(4, all);
    for (const float mass : problem.run_mass(GetParam()).mass) ASSERT_EQ(bits_from_f32(mass), 0u);
  }
}

TEST_P(AttentionMass, RowsWithoutKeysAreZero) {
  for (const bool with_sink : {false, true}) {
    AttendShape shape;
    shape.page_tokens = 64;
    AttendProblem problem(shape);
    if (with_sink) problem.sink.assign(4, 1.0f);
    problem.lengths[0] = 0;
    problem.lengths[1] = -3;
    std::fill_n(problem.indices.begin() + 2 * shape.num_indices, shape.num_indices, -1);
    problem.lengths[2] = shape.num_indices;
    std::fill_n(problem.indices.begin() + 3 * shape.num_indices, shape.num_indices, 7);
    problem.block_table[static_cast<size_t>(problem.seq[3] * problem.num_blocks)] = -1;  // the page of position 7
    const MassResult result = problem.run_mass(GetParam());
    for (size_t i = 0; i < static_cast<size_t>(4 * shape.num_indices); ++i)
      ASSERT_EQ(bits_from_f32(result.mass[i]), 0u) << i;
    EXPECT_EQ(result.fault, 0u);
  }
}

// Row 0 gets entries that must all be skipped, before, between and behind its good ones: their mass is 0 and that of
// the others has the same bits.
struct SkipCase {
  int32_t page_tokens;
  bool slots;
  int64_t bad;
  uint32_t fault;
};

TEST_P(AttentionMass, IllegalEntriesAreZeroAndReported) {
  const int32_t max32 = std::numeric_limits<int32_t>::max(), min32 = std::numeric_limits<int32_t>::min();
  const SkipCase cases[] = {
      {0, true, -1, 0},
      {0, true, min32, IC_FAULT_SLOT},
      {0, true, 3 * 307 + 5, IC_FAULT_SLOT},  // capacity
      {64, true, 26 * 64, IC_FAULT_SLOT},     // capacity 3 * 5 + 11
      {64, true, max32, IC_FAULT_SLOT},
      {64, false, -1, 0},
      {64, false, -2, IC_FAULT_PAGE},
      {64, false, 320, 0},  // beyond the 5 blocks of the table
      {64, false, max32, 0},
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
    const MassResult expected = problem.run_mass(GetParam());
    ASSERT_EQ(expected.fault, 0u);
    std::vector<int32_t> &indices = problem.indices;
    std::vector<float> masses = expected.mass;
    for (const int64_t at : {0, 50, 102}) {
      indices.insert(indices.begin() + at, static_cast<int32_t>(skip.bad));
      masses.insert(masses.begin() + at, 0.0f);
    }
    indices.erase(indices.begin() + 103, indices.begin() + 106);
    masses.erase(masses.begin() + 103, masses.begin() + 106);
    problem.lengths[0] = 103;
    const MassResult result = problem.run_mass(GetParam());
    expect_same_bits(result, {masses, 0});
    EXPECT_EQ(result.fault, skip.fault);
  }
}

TEST_P(AttentionMass, IllegalRowsAreZeroAndReported) {
  for (const bool slots : {false, true}) {
    AttendShape shape;
    shape.page_tokens = 64;
    shape.slots = slots;
    const AttendProblem right(shape);
    const MassResult expected = right.run_mass(GetParam());
    const size_t k = static_cast<size_t>(shape.num_indices);
    for (const int32_t seq : {-1, 3, std::numeric_limits<int32_t>::max()}) {
      AttendProblem broken(shape);
      broken.seq[3] = seq;
      const MassResult result = broken.run_mass(GetParam());
      EXPECT_EQ(result.fault, slots ? 0u : uint32_t{IC_FAULT_SEQUENCE});
      for (size_t i = 0; i < result.mass.size(); ++i) {
        const bool absent = !slots && i / k == 3;
        ASSERT_EQ(bits_from_f32(result.mass[i]), absent ? 0u : bits_from_f32(expected.mass[i]));
      }
    }
  }
}

TEST_P(AttentionMass, ScoresFarApartAndInfinite) {
  AttendShape shape;
  shape.rows = 1;
  for (const float scale : {300.0f, 1e4f, 1e-6f}) {
    shape.scale = scale;
    const AttendProblem problem(shape);
    const std::vector<double> expected = problem.reference_mass();
    const MassResult result = problem.run_mass(GetParam());
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(static_cast<double>(result.mass[i]), expected[i], std::max(2e-5, static_cast<double>(scale) * 4e-6));
  }
  shape.scale = 0.5f;
  shape.num_heads = 2;
  shape.num_indices = 130;
  AttendProblem problem(shape);
  // Head 0 sees scores of -inf only; head 1 sees 0 everywhere.
  std::fill(problem.queries.begin(), problem.queries.end(), 0.0f);
  problem.queries[0] = 1e30f;
  const auto upload = [&] { std::memcpy(problem.q_bytes.data(), problem.queries.data(), problem.q_bytes.size()); };
  upload();
  for (int32_t token = 0; token < shape.seq_tokens; ++token) {
    const float first = -1e30f;
    std::memcpy(
        problem.pool.data() + (problem.key_offsets[static_cast<size_t>(problem.seq[0])] + token) * problem.stride_bytes,
        &first, sizeof first);
  }
  MassResult result = problem.run_mass(GetParam());
  for (const float mass : result.mass) ASSERT_NEAR(mass, 0.5f / 130, 1e-8f) << "head 0 has nothing to give";
  problem.queries[64] = std::numeric_limits<float>::quiet_NaN();  // of head 1
  upload();
  problem.indices[7] = -1;
  result = problem.run_mass(GetParam());
  for (size_t i = 0; i < result.mass.size(); ++i) {
    ASSERT_EQ(std::isnan(result.mass[i]), i != 7) << i;
  }
}

TEST_P(AttentionMass, NoRows) {
  const AttendProblem problem{AttendShape{}};
  AttendParams params = problem.params();
  params.rows.count = 0;
  Workers workers(2);
  EXPECT_TRUE(problem.run_mass({GetParam(), &workers}, params).mass.empty());
}

}  // namespace
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Selection from a score matrix: every shape of data that a selection could stumble over, and many more columns than k.
#include "cpu/select.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "tests/cpu/indexer_case.h"
#include "tests/cpu/sparse_memory.h"

namespace ic::cpu::test {
namespace {

class Select : public testing::TestWithParam<Isa> {
 protected:
  Workers workers_{1};
  Executor executor_{GetParam(), &workers_};
};
INSTANTIATE_TEST_SUITE_P(Level, Select, testing::ValuesIn(available_levels()), level_name);

/// Rows of scores; memory behind a row's last column must not be read, so the matrix has exactly its size.
struct Matrix {
  int32_t rows, columns;
  std::vector<float> scores;
  std::vector<int32_t> begin, end;
};

Matrix make_matrix(int32_t rows, int32_t columns, const std::function<float(int32_t, int32_t)> &score) {
  Matrix m{rows, columns, {}, {}, {}};
  for (int32_t r = 0; r < rows; ++r) {
    m.begin.push_back(0);
    m.end.push_back(columns);
    for (int32_t c = 0; c < columns; ++c) m.scores.push_back(score(r, c));
  }
  return m;
}

Selection run_select(const Executor &executor, const Matrix &m, int32_t k, int32_t order = IC_ORDER_POSITION,
                     bool with_scores = true) {
  TestWorkspace workspace(select_workspace_size(executor, m.rows, m.columns, k));
  SelectionBuffer buffer(m.rows, k, order, with_scores);
  select(executor, {m.scores.data(), m.columns, m.begin.data(), m.end.data(), m.rows, m.columns, buffer.out(),
                    workspace.data(), workspace.size()});
  return buffer.take();
}

Selection expected_selection(const Matrix &m, int32_t k, int32_t order = IC_ORDER_POSITION, bool with_scores = true) {
  Selection expected;
  for (int32_t r = 0; r < m.rows; ++r) {
    std::vector<std::pair<int32_t, float>> keys;
    const auto row = static_cast<size_t>(r);
    if (m.end[row] <= m.columns) {
      for (int32_t c = std::max(m.begin[row], 0); c < m.end[row]; ++c) {
        const float score = m.scores[row * static_cast<size_t>(m.columns) + static_cast<size_t>(c)] + 0.0f;
        keys.emplace_back(c, std::isnan(score) ? -kInf : score);
      }
    }
    append_expected(keys, k, order, with_scores, &expected);
  }
  return expected;
}

uint32_t hash(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

float any_float(int32_t r, int32_t c) {  // all bit patterns: NaN, infinities, subnormals
  const uint32_t bits = hash(static_cast<uint32_t>(r * 100003 + c));
  float x = 0;
  std::memcpy(&x, &bits, 4);
  return x;
}

float uniform(int32_t r, int32_t c) {
  return static_cast<float>(hash(static_cast<uint32_t>(r * 100003 + c)) >> 8) * 0x1p-24f - 0.3f;
}

const std::pair<const char *, std::function<float(int32_t, int32_t)>> kDistributions[] = {
    {"uniform", uniform},
    {"any bits", any_float},
    {"ascending", [](int32_t, int32_t c) { return static_cast<float>(c); }},
    {"descending", [](int32_t, int32_t c) { return -static_cast<float>(c); }},
    {"all equal", [](int32_t, int32_t) { return 2.5f; }},
    {"all zero of both signs", [](int32_t, int32_t c) { return c % 2 == 0 ? -0.0f : 0.0f; }},
    {"all -inf", [](int32_t, int32_t) { return -kInf; }},
    {"all +inf", [](int32_t, int32_t) { return kInf; }},
    {"all NaN", [](int32_t, int32_t c) { return c % 2 == 0 ? kNan : -kNan; }},
    {"NaN among zeros", [](int32_t, int32_t c) { return c % 5 == 0 ? kNan : 0.0f; }},
    {"relu plateau", [](int32_t r, int32_t c) { return std::max(uniform(r, c) - 0.6f, 0.0f); }},
    {"two values",
     [](int32_t r, int32_t c) { return (hash(static_cast<uint32_t>(r + 31 * c)) & 1u) != 0 ? 1.0f : -1.0f; }},
    {"one giant", [](int32_t r, int32_t c) { return c == 1777 ? kInf : uniform(r, c) * 1e-30f; }},
    {"neighbouring floats",
     [](int32_t r, int32_t c) {
       return 1.0f + static_cast<float>(hash(static_cast<uint32_t>(r * 77 + c)) % 9u) * 0x1p-23f;
     }},
    {"every exponent", [](int32_t, int32_t c) { return std::ldexp(c % 2 == 0 ? 1.0f : -1.0f, c % 270 - 140); }},
    {"halving steps",
     [](int32_t, int32_t c) { return static_cast<float>(1u << (c % 31)) + static_cast<float>(c % 3); }},
    {"sawtooth", [](int32_t, int32_t c) { return static_cast<float>(c % 97); }},
    {"late winners", [](int32_t r, int32_t c) { return c > 4000 ? 10.0f + uniform(r, c) : uniform(r, c); }},
};

TEST_P(Select, EveryDistribution) {
  for (const auto &[name, score] : kDistributions) {
    const Matrix m = make_matrix(2, 6001, score);
    for (const int32_t k : {1, 17, 128, 1000, 2048, 4096, 4000}) {
      EXPECT_EQ(run_select(executor_, m, k), expected_selection(m, k)) << name << ", k " << k;
    }
  }
}

TEST_P(Select, LengthsAroundKAndAroundBufferSizes) {
  for (const int32_t k : {1, 15, 16, 100, 1024, 2048}) {
    std::vector<int32_t> lengths = {0, 1, k - 1, k, k + 1, 2 * k, 2 * k + 255, 2 * k + 256, 2 * k + 257, 1300, 6000};
    for (int32_t i = 0; i < 40; ++i) lengths.push_back(k + std::max(k, 256) + 256 - 20 + i);
    Matrix m = make_matrix(static_cast<int32_t>(lengths.size()), 6100, uniform);
    m.end = lengths;
    EXPECT_EQ(run_select(executor_, m, k), expected_selection(m, k)) << k;
    for (size_t r = 0; r < lengths.size(); ++r) {
      m.begin[r] = static_cast<int32_t>(r) * 2 + 1;
      m.end[r] += m.begin[r];
    }
    EXPECT_EQ(run_select(executor_, m, k), expected_selection(m, k)) << k;
  }
}

TEST_P(Select, RangesOutsideTheMatrixAreEmptyOrClamped) {
  Matrix m = make_matrix(6, 500, uniform);
  m.begin = {-100, 10, 20, 499, INT32_MIN, 100};
  m.end = {400, 10, 5, 500, INT32_MIN, 501};
  const Selection got = run_select(executor_, m, 30);
  EXPECT_EQ(got, expected_selection(m, 30));
  EXPECT_EQ(got.lengths, (std::vector<int32_t>{30, 0, 0, 1, 0, 0}));
}

TEST_P(Select, Orders) {
  const Matrix m = make_matrix(3, 5000, [](int32_t r, int32_t c) { return std::floor(uniform(r, c) * 50); });
  for (const int32_t k : {1, 300, 2048}) {
    EXPECT_EQ(run_select(executor_, m, k, IC_ORDER_SCORE), expected_selection(m, k, IC_ORDER_SCORE));
    EXPECT_EQ(run_select(executor_, m, k, IC_ORDER_SCORE, false), expected_selection(m, k, IC_ORDER_SCORE, false));
    Selection any = run_select(executor_, m, k, IC_ORDER_ANY, false);
    const Selection expected = expected_selection(m, k, IC_ORDER_POSITION, false);
    for (int32_t r = 0; r < 3; ++r) {
      const auto row = any.indices.begin() + r * any.k_padded;
      std::sort(row, row + any.lengths[static_cast<size_t>(r)]);
    }
    EXPECT_EQ(any, expected);
  }
}

TEST_P(Select, DropsTheSignOfZeroInScores) {
  const Matrix m = make_matrix(1, 40, [](int32_t, int32_t) { return -0.0f; });
  for (const int32_t k : {8, 64}) {
    const Selection got = run_select(executor_, m, k);
    for (int32_t i = 0; i < got.lengths[0]; ++i) EXPECT_FALSE(std::signbit(got.scores[static_cast<size_t>(i)]));
  }
}

TEST_P(Select, ThreadsChangeNothing) {
  for (const int32_t rows : {1, 2, 9}) {
    for (const auto &[name, score] : {kDistributions[0], kDistributions[1], kDistributions[10], kDistributions[4]}) {
      Matrix m = make_matrix(rows, 70000, score);
      m.begin[0] = 1234;
      m.end[0] = 69999;
      const Selection expected = expected_selection(m, 300);
      for (const int32_t threads : {1, 2, 3, 7}) {
        Workers workers(threads);
        EXPECT_EQ(run_select({GetParam(), &workers}, m, 300), expected) << name << " threads " << threads;
      }
    }
  }
}

TEST_P(Select, AddressBeyondTwoToThe31Elements) {
  const int64_t stride = (int64_t{1} << 30) + 3;
  SparseMemory memory(static_cast<size_t>(4 * stride + 3000) * 4);
  Matrix m = make_matrix(5, 3000, uniform);
  for (int32_t r = 0; r < 5; ++r) {
    std::memcpy(memory.as<float>() + r * stride, m.scores.data() + r * 3000, 12000);
  }
  TestWorkspace workspace(select_workspace_size(executor_, 5, 3000, 64));
  SelectionBuffer buffer(5, 64, IC_ORDER_POSITION, true);
  select(executor_, {memory.as<float>(), stride, nullptr, m.end.data(), 5, 3000, buffer.out(), workspace.data(),
                     workspace.size()});
  EXPECT_EQ(buffer.take(), expected_selection(m, 64));
}

// Bad data may cost more than random data, not another order of growth: the bound is generous, a quadratic selection
// would miss it by a hundred times.
TEST(SelectSpeed, HasNoBadCase) {
  Workers workers(1);
  const Executor executor{best_isa(), &workers};
  const auto seconds = [&](const std::function<float(int32_t, int32_t)> &score) {
    const Matrix m = make_matrix(1, 200000, score);
    double best = 1e9;
    for (int turn = 0; turn < 5; ++turn) {
      const auto start = std::chrono::steady_clock::now();
      run_select(executor, m, 2048);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  const double usual = seconds(uniform);
  for (const auto &[name, score] : kDistributions) EXPECT_LT(seconds(score), 100 * usual + 0.01) << name;
}

// ---- merge ---------------------------------------------------------------------------------------------------------

Selection run_merge(const Executor &executor, const std::vector<Selection> &parts, int32_t rows, int32_t k,
                    int32_t order = IC_ORDER_POSITION, bool with_scores = true) {
  std::vector<int32_t> indices, lengths;
  std::vector<float> scores;
  for (const Selection &part : parts) {
    indices.insert(indices.end(), part.indices.begin(), part.indices.end());
    scores.insert(scores.end(), part.scores.begin(), part.scores.end());
    lengths.insert(lengths.end(), part.lengths.begin(), part.lengths.end());
  }
  const auto num_parts = static_cast<int32_t>(parts.size());
  const int64_t stride = parts[0].k_padded;
  TestWorkspace workspace(merge_workspace_size(executor, rows, num_parts, k));
  SelectionBuffer buffer(rows, k, order, with_scores);
  merge(executor, {indices.data(), scores.data(), lengths.data(), stride, stride * rows, rows, num_parts, rows,
                   buffer.out(), workspace.data(), workspace.size()});
  return buffer.take();
}

/// Selections of one matrix whose columns are dealt to parts by `part_of`, with their positions in the whole.
std::vector<Selection> select_parts(const Matrix &m, int32_t num_parts, int32_t k, int32_t order,
                                    const std::function<int32_t(int32_t)> &part_of) {
  std::vector<Selection> parts(static_cast<size_t>(num_parts));
  for (int32_t p = 0; p < num_parts; ++p) {
    for (int32_t r = 0; r < m.rows; ++r) {
      std::vector<std::pair<int32_t, float>> keys;
      for (int32_t c = m.begin[static_cast<size_t>(r)]; c < m.end[static_cast<size_t>(r)]; ++c) {
        if (part_of(c) != p) continue;
        const float score = m.scores[static_cast<size_t>(r * m.columns + c)] + 0.0f;
        keys.emplace_back(c, std::isnan(score) ? -kInf : score);
      }
      append_expected(keys, k, order, true, &parts[static_cast<size_t>(p)]);
    }
  }
  return parts;
}

TEST(Merge, EqualsASelectionOverAllKeys) {
  Workers workers(3);
  const Executor executor{best_isa(), &workers};
  for (const auto &[name, score] : kDistributions) {
    Matrix m = make_matrix(4, 3000, score);
    m.end = {3000, 900, 5, 0};
    for (const int32_t order : {IC_ORDER_POSITION, IC_ORDER_SCORE}) {
      const auto interleaved = select_parts(m, 5, 200, order, [](int32_t c) { return c % 5; });
      const auto ranges_backwards = select_parts(m, 3, 200, order, [](int32_t c) { return 2 - c / 1000; });
      EXPECT_EQ(run_merge(executor, interleaved, 4, 200, order), expected_selection(m, 200, order)) << name;
      EXPECT_EQ(run_merge(executor, ranges_backwards, 4, 200, order, false), expected_selection(m, 200, order, false))
          << name;
    }
  }
}

TEST(Merge, IgnoresMissingEntriesAndClampsLengths) {
  Workers workers(1);
  const Executor executor{best_isa(), &workers};
  Selection part;
  part.k_padded = 128;
  part.indices.assign(256, -1);
  part.scores.assign(256, 9.0f);
  part.indices[0] = 40;
  part.scores[0] = kNan;  // counts as -inf
  part.indices[2] = 30;
  part.scores[2] = -0.0f;
  part.indices[128] = INT32_MAX;
  part.indices[129] = 0;
  part.lengths = {1 << 30, -5};
  const Selection got = run_merge(executor, {part}, 2, 4);
  EXPECT_EQ(got.lengths, (std::vector<int32_t>{2, 0}));
  EXPECT_EQ(got.indices[0], 30);
  EXPECT_EQ(got.indices[1], 40);
  EXPECT_EQ(bits_of({got.scores[0], got.scores[1]}), bits_of({0.0f, -kInf}));
  part.lengths = {0, 2};
  EXPECT_EQ(run_merge(executor, {part}, 2, 4, IC_ORDER_SCORE).indices[128], 0);
}

}  // namespace
}  // namespace ic::cpu::test

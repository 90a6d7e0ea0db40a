// SPDX-License-Identifier: Apache-2.0
// The fused operation: its sets are the definition's selection over the very scores that scores() returns.
#include "cpu/score_select.h"

#include <gtest/gtest.h>

#include "tests/cpu/indexer_case.h"
#include "tests/cpu/sparse_memory.h"

namespace ic::cpu::test {
namespace {

class ScoreSelect : public testing::TestWithParam<Isa> {
 protected:
  Workers workers_{1};
  Executor executor_{GetParam(), &workers_};
};
INSTANTIATE_TEST_SUITE_P(Level, ScoreSelect, testing::ValuesIn(available_levels()), level_name);

Selection expected_selection(const Executor &executor, IndexerCase &c, int32_t k, int32_t order = IC_ORDER_POSITION,
                             bool with_scores = true) {
  const int32_t columns = c.bound();
  const std::vector<float> matrix = run_scores(executor, c, 0, columns, false);
  Selection expected;
  for (int32_t r = 0; r < c.num_rows(); ++r) {
    std::vector<std::pair<int32_t, float>> keys;
    for (const int32_t s : c.visible(r)) {
      keys.emplace_back(s, matrix[static_cast<size_t>(r) * static_cast<size_t>(columns) + static_cast<size_t>(s)]);
    }
    append_expected(keys, k, order, with_scores, &expected);
  }
  return expected;
}

TEST_P(ScoreSelect, FindsTheBestOfManyKeys) {
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    for (const int32_t page_tokens : {0, 1, 16, 32, 64, 128}) {
      IndexerCase c({dtype, 4, 32, page_tokens, 2, 3000});
      c.add_row(0, 0, 3000);
      c.add_row(1, 17, 2950);
      c.add_row(1, 2900, 2999);
      c.add_row(0, 0, 31);
      EXPECT_EQ(run_score_select(executor_, c, 50), expected_selection(executor_, c, 50))
          << "dtype " << dtype << " pages of " << page_tokens;
      EXPECT_EQ(c.fault, 0u);
    }
  }
}

TEST_P(ScoreSelect, LengthsAroundK) {
  for (const int32_t k : {1, 2, 100, 128, 129, 700}) {
    IndexerCase c({IC_DTYPE_BF16, 3, 32, 16, 1, 2500});
    for (const int32_t length : {0, 1, k - 1, k, k + 1, 2 * k + 300, 2500}) c.add_row(0, 0, std::min(length, 2500));
    for (const int32_t order : {IC_ORDER_POSITION, IC_ORDER_SCORE}) {
      for (const bool with_scores : {true, false}) {
        EXPECT_EQ(run_score_select(executor_, c, k, order, with_scores),
                  expected_selection(executor_, c, k, order, with_scores))
            << "k " << k << " order " << order;
      }
    }
  }
}

TEST_P(ScoreSelect, CausalPrefillOfRaggedSequences) {
  IndexerCase c({IC_DTYPE_F32, 4, 32, 64, 3, 1600});
  for (int32_t r = 0; r < 150; ++r) c.add_row(r / 61, 0, 1450 + r);
  EXPECT_EQ(run_score_select(executor_, c, 64), expected_selection(executor_, c, 64));
}

TEST_P(ScoreSelect, TiesGoToTheSmallerPosition) {
  // One head, weight 1, keys that are 0 or a few small integers: plateaus of zeros and of equal scores.
  for (const int32_t distinct : {1, 2, 7}) {
    IndexerCase c({IC_DTYPE_E4M3, 1, 32, 1, 1, 2600});
    c.add_row(0, 0, 2600);
    c.w[0] = 1.0f;
    for (int32_t s = 0; s < 2600; ++s) {
      for (int32_t d = 0; d < 32; ++d)
        c.set_key(0, s, d, d == 0 ? 0x38u + 8u * static_cast<uint32_t>(s * 7 % distinct) : 0);
    }
    for (const int32_t k : {1, 40, 1000, 2599}) {
      EXPECT_EQ(run_score_select(executor_, c, k), expected_selection(executor_, c, k)) << distinct << " " << k;
    }
    c.w[0] = -1.0f;
    EXPECT_EQ(run_score_select(executor_, c, 40), expected_selection(executor_, c, 40));
    c.w[0] = 0.0f;  // all zero: the first k
    const Selection zeros = run_score_select(executor_, c, 128);
    for (int32_t i = 0; i < 128; ++i) EXPECT_EQ(zeros.indices[static_cast<size_t>(i)], i);
  }
}

TEST_P(ScoreSelect, MinusInfinityIsVisibleAndComesLast) {
  IndexerCase c({IC_DTYPE_F32, 1, 32, 0, 1, 2000});
  c.add_row(0, 0, 2000);
  c.add_row(0, 100, 1990);
  c.w[0] = -1.0f;
  float q = 1.0f;
  std::memcpy(c.q.data(), &q, 4);
  for (int32_t s = 0; s < 2000; ++s) {
    if (s % 3 != 0) c.set_key(0, s, 0, 0x7f800000u);  // +inf * weight -1
  }
  const Selection got = run_score_select(executor_, c, 1500);
  EXPECT_EQ(got, expected_selection(executor_, c, 1500));
  EXPECT_EQ(got.lengths[0], 1500);
  EXPECT_EQ(std::count(got.scores.begin(), got.scores.begin() + 1500, -kInf) > 0, true);
}

TEST_P(ScoreSelect, MissingPagesAreNotCounted) {
  for (const int32_t page_tokens : {1, 16, 64, 128}) {
    IndexerCase c({IC_DTYPE_E4M3, 4, 32, page_tokens, 1, 2400});
    for (size_t i = 0; i < c.table.size() - 3; ++i) {
      if (i % 4 != 1) c.table[i] = -1;
    }
    c.add_row(0, 0, 2400);
    c.add_row(0, 128, 700);
    for (const int32_t k : {20, 590, 600, 650, 2400}) {  // about 600 keys are there
      for (const bool with_scores : {true, false}) {
        EXPECT_EQ(run_score_select(executor_, c, k, IC_ORDER_POSITION, with_scores),
                  expected_selection(executor_, c, k, IC_ORDER_POSITION, with_scores));
      }
    }
    EXPECT_EQ(c.fault, 0u);
    c.table.assign(c.table.size(), -1);
    EXPECT_EQ(run_score_select(executor_, c, 20).lengths, (std::vector<int32_t>{0, 0}));
  }
}

TEST_P(ScoreSelect, KeysBehindTheLastBlockAreNotThere) {
  IndexerCase c({IC_DTYPE_F32, 4, 32, 16, 1, 800});
  c.add_row(0, 0, 800);
  PoolView pool = c.pool_view();
  pool.num_blocks = 10;
  TestWorkspace workspace(score_select_workspace_size(executor_, 1, 800, 4, 32, 200));
  SelectionBuffer buffer(1, 200, IC_ORDER_POSITION, false);
  score_select(executor_, {c.rows_view(), c.query_view(), pool, buffer.out(), workspace.data(), workspace.size()});
  const Selection got = buffer.take();
  EXPECT_EQ(got.lengths[0], 160);
  for (int32_t i = 0; i < 160; ++i) EXPECT_EQ(got.indices[static_cast<size_t>(i)], i);
  EXPECT_EQ(c.fault, 0u);
}

TEST_P(ScoreSelect, BadRowsAreEmptyAndReported) {
  for (const int32_t threads : {1, 4}) {
    Workers workers(threads);
    const Executor executor{GetParam(), &workers};
    IndexerCase c({IC_DTYPE_BF16, 4, 32, 16, 2, 9000});
    c.add_row(0, 0, 9000);
    c.add_row(2, 0, 8999);
    c.add_row(1, 0, 8000);
    c.add_row(-1, 0, 10);
    c.add_row(1, -7, 20);
    c.add_row(77, 50, 50);
    c.add_row(77, 50, -50);
    c.max_key_end = 8999;
    c.table[static_cast<size_t>(c.num_blocks + IndexerCase::kTablePad + 2)] = 1 << 29;
    const Selection got = run_score_select(executor, c, 64);
    EXPECT_EQ(c.fault, IC_FAULT_KEY_END | IC_FAULT_SEQUENCE | IC_FAULT_PAGE);
    EXPECT_EQ(got, expected_selection(executor, c, 64));
    EXPECT_EQ(got.lengths, (std::vector<int32_t>{0, 0, 64, 0, 20, 0, 0}));
  }
}

TEST_P(ScoreSelect, ReportsPagesOfUnscoredRows) {
  IndexerCase c({IC_DTYPE_F32, 4, 32, 16, 1, 100});
  c.add_row(0, 0, 100);
  c.table[2] = 5000;
  const Selection got = run_score_select(executor_, c, 128, IC_ORDER_POSITION, false);
  EXPECT_EQ(got.lengths[0], 84);
  EXPECT_EQ(c.fault, IC_FAULT_PAGE);
}

// Few rows with many keys are cut into ranges of keys; many rows into blocks. Neither may be seen.
TEST_P(ScoreSelect, ThreadsChangeNothing) {
  for (const int32_t rows : {1, 3, 18}) {
    IndexerCase c({IC_DTYPE_E4M3, 2, 32, 64, 3, 9000});
    for (int32_t r = 0; r < rows; ++r) c.add_row(r % 3, 31 * r, 9000 - 301 * r);
    c.add_row(1, 0, 40);
    c.add_row(0, 9, 9);
    c.add_row(0, 9, 900);
    const Selection expected = expected_selection(executor_, c, 100);
    EXPECT_EQ(run_score_select(executor_, c, 100), expected);
    for (const int32_t threads : {2, 3, 7}) {
      Workers workers(threads);
      EXPECT_EQ(run_score_select({GetParam(), &workers}, c, 100), expected) << threads;
      EXPECT_EQ(run_score_select({GetParam(), &workers}, c, 1000, IC_ORDER_SCORE, false),
                run_score_select(executor_, c, 1000, IC_ORDER_SCORE, false));
    }
  }
}

TEST_P(ScoreSelect, HostParallelForChangesNothing) {
  struct Host {
    int64_t calls = 0;
    // Runs in reverse order, on the calling thread: both are allowed.
    static void parallel_for(void *user, int64_t count, Task task, void *data) {
      ++static_cast<Host *>(user)->calls;
      for (int64_t i = count - 1; i >= 0; --i) task(data, i);
    }
  } host;
  IndexerCase c({IC_DTYPE_F16, 4, 32, 16, 1, 8000});
  for (int32_t r = 0; r < 6; ++r) c.add_row(0, r, 8000 - r);
  Workers workers(5, &Host::parallel_for, &host);
  EXPECT_EQ(run_score_select({GetParam(), &workers}, c, 70), run_score_select(executor_, c, 70));
  EXPECT_GT(host.calls, 0);
}

TEST(ScoreSelectLevels, SelectTheSame) {
  IndexerCase c({IC_DTYPE_F16, 7, 64, 32, 2, 2500});
  for (int32_t r = 0; r < 5; ++r) c.add_row(r / 3, 0, 2500 - r);
  Workers one(1);
  const Selection portable = run_score_select({Isa::kPortable, &one}, c, 300);
  for (const Isa isa : available_levels()) {
    const Selection got = run_score_select({isa, &one}, c, 300);
    EXPECT_EQ(got, portable) << isa_name(isa);
    EXPECT_EQ(bits_of(got.scores), bits_of(portable.scores));
  }
}

TEST(ScoreSelectWorkspace, GrowsWithItsMaximaOnly) {
  for (const int32_t threads : {1, 2, 5, 16}) {
    Workers workers(threads, [](void *, int64_t, Task, void *) {}, nullptr);
    const Executor executor{best_isa(), &workers};
    for (const int32_t heads : {4, 64}) {
      size_t last = 0;
      for (int32_t rows = 0; rows < 400; ++rows) {
        const size_t size = score_select_workspace_size(executor, rows, 100000, heads, 64, 256);
        EXPECT_GE(size, last);
        EXPECT_GE(size, score_select_workspace_size(executor, rows, 20000, heads, 64, 256));
        EXPECT_EQ(size % 256, 0u);
        last = size;
      }
    }
  }
}

// Every number of rows and keys fits into the workspace of the maxima (the guard behind it is checked).
TEST(ScoreSelectWorkspace, ServesSmallerCalls) {
  Workers workers(3);
  const Executor executor{best_isa(), &workers};
  const size_t size = score_select_workspace_size(executor, 40, 9000, 4, 32, 64);
  TestWorkspace workspace(size);
  for (const int32_t rows : {1, 2, 5, 11, 12, 13, 24, 40}) {
    IndexerCase c({IC_DTYPE_F32, 4, 32, 0, 1, 9000});
    for (int32_t r = 0; r < rows; ++r) c.add_row(0, 0, 9000 - r);
    SelectionBuffer buffer(rows, 64, IC_ORDER_POSITION, true);
    score_select(executor, {c.rows_view(), c.query_view(), c.pool_view(), buffer.out(), workspace.data(), size});
    EXPECT_EQ(buffer.take(), expected_selection(executor, c, 64));
  }
}

TEST_P(ScoreSelect, AddressBeyondTwoToThe31Elements) {
  IndexerCase c({IC_DTYPE_E4M3, 4, 32, 128, 1, 1500});
  c.add_row(0, 0, 1500);
  const Selection expected = expected_selection(executor_, c, 64);
  const int64_t far_stride = (int64_t{1} << 30) + 4;
  SparseMemory memory(static_cast<size_t>(c.capacity * far_stride));
  for (int64_t i = 0; i < c.capacity; ++i) {
    std::memcpy(memory.bytes() + i * far_stride, c.pool.data() + i * c.stride, static_cast<size_t>(c.stride));
  }
  PoolView pool = c.pool_view();
  pool.data = memory.bytes();
  pool.stride_bytes = far_stride;
  TestWorkspace workspace(score_select_workspace_size(executor_, 1, 1500, 4, 32, 64));
  SelectionBuffer buffer(1, 64, IC_ORDER_POSITION, true);
  score_select(executor_, {c.rows_view(), c.query_view(), pool, buffer.out(), workspace.data(), workspace.size()});
  EXPECT_EQ(buffer.take(), expected);
}

}  // namespace
}  // namespace ic::cpu::test

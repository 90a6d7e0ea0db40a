// SPDX-License-Identifier: Apache-2.0
// Scores against their definition, and the promise that nothing but q, k, w and ks decides their bits.
#include "cpu/scores.h"

#include <gtest/gtest.h>

#include "tests/cpu/indexer_case.h"
#include "tests/cpu/sparse_memory.h"

namespace ic::cpu::test {
namespace {

constexpr int32_t kDtypes[] = {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3};
constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};

class Scores : public testing::TestWithParam<Isa> {
 protected:
  Workers workers_{1};
  Executor executor_{GetParam(), &workers_};
};
INSTANTIATE_TEST_SUITE_P(Level, Scores, testing::ValuesIn(available_levels()), level_name);

/// What the window must hold: the oracle where a key is visible, `elsewhere` where not.
std::vector<float> expected_scores(IndexerCase &c, int32_t first, int32_t columns, float elsewhere) {
  std::vector<float> expected(static_cast<size_t>(c.num_rows()) * static_cast<size_t>(columns), elsewhere);
  for (int32_t r = 0; r < c.num_rows(); ++r) {
    for (const int32_t s : c.visible(r)) {
      if (s < first || s >= first + columns) continue;
      expected[static_cast<size_t>(r) * static_cast<size_t>(columns) + static_cast<size_t>(s - first)] = c.oracle(r, s);
    }
  }
  return expected;
}

TEST_P(Scores, FollowTheirDefinitionBitByBit) {
  size_t turn = 0;
  for (const int32_t dtype : kDtypes) {
    for (const int32_t dim : {32, 64, 128}) {
      for (const int32_t heads : {1, 3, 4, 32, 64, 128}) {
        const int32_t pages = kPageTokens[turn++ % std::size(kPageTokens)];
        SCOPED_TRACE(testing::Message() << "dtype " << dtype << " D " << dim << " H " << heads << " pages of "
                                        << pages);
        const int32_t keys = heads > 4 ? 70 : 133;
        IndexerCase c({dtype, heads, dim, pages, 2, keys});
        c.use_q_scale = turn % 2 == 0;
        c.add_row(0, 0, keys);
        c.add_row(1, 5, 40);
        c.add_row(1, 0, 66);
        EXPECT_EQ(bits_of(run_scores(executor_, c, 0, keys, false)), bits_of(expected_scores(c, 0, keys, kUntouched)));
        EXPECT_EQ(c.fault, 0u);
      }
    }
  }
}

TEST_P(Scores, StayWithinTheErrorBoundOfExactArithmetic) {
  for (const int32_t dtype : kDtypes) {
    IndexerCase c({dtype, 64, 128, 64, 1, 80});
    c.add_row(0, 0, 80);
    const std::vector<float> got = run_scores(executor_, c, 0, 80, false);
    for (int32_t s = 0; s < 80; ++s) {
      double exact = 0, magnitude = 0;
      c.oracle(0, s, &exact, &magnitude);
      // 128 + 64 roundings in the longest chain, and the scale's.
      EXPECT_LE(std::abs(static_cast<double>(got[static_cast<size_t>(s)]) - exact), 194 * 0x1p-24 * magnitude);
    }
  }
}

TEST_P(Scores, DependOnNothingButTheirInputs) {
  for (const int32_t dtype : kDtypes) {
    IndexerCase reference({dtype, 5, 32, 0, 3, 500});
    const auto add_rows = [](IndexerCase &c) {
      for (int32_t r = 0; r < 35; ++r) c.add_row(r / 12, r % 5, 500 - 14 * r);
    };
    add_rows(reference);
    Workers one(1);
    const std::vector<uint32_t> bits = bits_of(run_scores({Isa::kPortable, &one}, reference, 0, 500, true));
    for (const int32_t page_tokens : kPageTokens) {
      IndexerCase c({dtype, 5, 32, page_tokens, 3, 500});
      add_rows(c);
      for (const int32_t threads : {1, 2, 3, 7}) {
        if (threads > 2 && page_tokens % 64 != 0) continue;
        Workers workers(threads);
        EXPECT_EQ(bits_of(run_scores({GetParam(), &workers}, c, 0, 500, true)), bits)
            << "dtype " << dtype << " pages of " << page_tokens << " threads " << threads;
      }
    }
  }
}

TEST_P(Scores, OfARowDoNotDependOnItsBatch) {
  IndexerCase batch({IC_DTYPE_BF16, 4, 32, 16, 1, 600});
  for (int32_t r = 0; r < 70; ++r) batch.add_row(0, 0, 530 + r);
  const std::vector<float> all = run_scores(executor_, batch, 0, 600, true);
  for (const int32_t r : {0, 1, 33, 69}) {
    IndexerCase single = batch;
    single.row_seq = {0};
    single.key_begin = {0};
    single.key_end = {batch.key_end[static_cast<size_t>(r)]};
    single.q.erase(single.q.begin(), single.q.begin() + r * single.q_row_stride() * 2);
    single.w.erase(single.w.begin(), single.w.begin() + r * (4 + IndexerCase::kWPad));
    const std::vector<float> row(all.begin() + r * 600, all.begin() + (r + 1) * 600);
    EXPECT_EQ(bits_of(run_scores(executor_, single, 0, 600, true)), bits_of(row));
  }
}

TEST_P(Scores, WindowHoldsOnlyItsColumns) {
  IndexerCase c({IC_DTYPE_E4M3, 4, 32, 32, 1, 500});
  c.add_row(0, 100, 500);
  c.add_row(0, -20, 130);
  c.add_row(0, 300, 300);
  c.add_row(0, 40, -5);
  for (const auto &[first, columns] : {std::pair{0, 500}, {99, 2}, {120, 333}, {499, 1}, {450, 200}, {600, 50}}) {
    EXPECT_EQ(run_scores(executor_, c, first, columns, false), expected_scores(c, first, columns, kUntouched));
    EXPECT_EQ(run_scores(executor_, c, first, columns, true), expected_scores(c, first, columns, -kInf));
  }
  EXPECT_EQ(c.fault, 0u);
}

TEST_P(Scores, LeaveOutKeysThatAreNotThere) {
  for (const int32_t page_tokens : {1, 16, 64}) {
    IndexerCase c({IC_DTYPE_E4M3, 4, 32, page_tokens, 2, 400});
    for (size_t i = 0; i < c.table.size(); i += 3) c.table[i] = -1;
    for (int32_t r = 0; r < 5; ++r) c.add_row(r / 3, 10 * r, 400 - r);
    EXPECT_EQ(run_scores(executor_, c, 0, 400, true), expected_scores(c, 0, 400, -kInf));
    EXPECT_EQ(c.fault, 0u);
  }
}

TEST_P(Scores, ReportPagesOutsideThePool) {
  for (const int32_t page : {-2, INT32_MIN, 1 << 30, INT32_MAX}) {
    IndexerCase c({IC_DTYPE_F32, 4, 32, 16, 1, 100});
    c.add_row(0, 0, 40);
    c.add_row(0, 60, 100);
    c.table[3] = page;  // positions 48 to 63
    EXPECT_EQ(run_scores(executor_, c, 0, 100, true), expected_scores(c, 0, 100, -kInf));
    EXPECT_EQ(c.fault, IC_FAULT_PAGE);
    c.fault = 0;
    c.key_begin[1] = 64;  // now nobody looks there
    EXPECT_EQ(run_scores(executor_, c, 0, 100, true), expected_scores(c, 0, 100, -kInf));
    EXPECT_EQ(c.fault, 0u);
  }
}

TEST_P(Scores, ReportVectorsOutsideThePool) {
  for (const int64_t offset : {int64_t{-3}, int64_t{50}, int64_t{1} << 40, INT64_MAX, INT64_MIN}) {
    IndexerCase c({IC_DTYPE_E4M3, 4, 32, 0, 1, 100});
    c.add_row(0, 0, 100);
    // The oracle goes by position, so the keys must be looked up where the moved offset points: compare presence only.
    c.key_offsets[0] = offset;
    const std::vector<float> got = run_scores(executor_, c, 0, 100, false);
    for (int32_t s = 0; s < 100; ++s) {
      EXPECT_EQ(got[static_cast<size_t>(s)] == kUntouched, offset > INT64_MAX - s || !c.present(0, s))
          << offset << " " << s;
    }
    EXPECT_EQ(c.fault, IC_FAULT_PAGE);
  }
}

TEST_P(Scores, RowsOutOfBoundsAreEmpty) {
  IndexerCase c({IC_DTYPE_F32, 4, 32, 0, 2, 100});
  c.add_row(0, 0, 100);
  c.add_row(2, 0, 50);
  c.add_row(-1, 0, 50);
  EXPECT_EQ(run_scores(executor_, c, 0, 100, true), expected_scores(c, 0, 100, -kInf));
  EXPECT_EQ(c.fault, IC_FAULT_SEQUENCE);
  c.fault = IC_FAULT_SLOT;  // bits of others stay
  c.max_key_end = 60;
  EXPECT_EQ(run_scores(executor_, c, 0, 100, true), expected_scores(c, 0, 100, -kInf));
  EXPECT_EQ(c.fault, IC_FAULT_SLOT | IC_FAULT_SEQUENCE | IC_FAULT_KEY_END);

  IndexerCase padded({IC_DTYPE_F32, 4, 32, 0, 1, 10});
  padded.add_row(-5, 7, 7);  // padding may hold anything
  padded.add_row(99, 3, -8);
  EXPECT_EQ(run_scores(executor_, padded, 0, 10, true), expected_scores(padded, 0, 10, -kInf));
  EXPECT_EQ(padded.fault, 0u);
}

TEST_P(Scores, MakeNanMinusInfinityAndDropTheSignOfZero) {
  IndexerCase c({IC_DTYPE_F32, 2, 32, 0, 1, 6});
  c.add_row(0, 0, 6);
  const auto code = [](float x) {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, 4);
    return bits;
  };
  c.w[0] = -1.0f;
  c.w[1] = 1.0f;
  for (int32_t d = 0; d < 32; ++d) {
    const float one = 1.0f;
    std::memcpy(c.q.data() + 4 * d, &one, 4);
    std::memcpy(c.q.data() + 4 * (32 + d), &one, 4);
    c.set_key(0, 0, d, code(kNan));                   // relu(NaN) = 0 twice: +0
    c.set_key(0, 1, d, code(kInf));                   // -inf + inf: NaN, so -inf
    c.set_key(0, 2, d, code(-kInf));                  // relu(-inf) = 0
    c.set_key(0, 3, d, code(d == 0 ? 1e38f : 0.0f));  // cancels to +0
    c.set_key(0, 4, d, code(-0.0f));
    c.set_key(0, 5, d, code(d % 2 == 0 ? kInf : -kInf));  // z is NaN
  }
  EXPECT_EQ(bits_of(run_scores(executor_, c, 0, 6, false)), bits_of({0.0f, -kInf, 0.0f, 0.0f, 0.0f, 0.0f}));
  c.w[1] = -0.0f;  // -1e38 - 0 and sums of negative zeros
  EXPECT_EQ(bits_of(run_scores(executor_, c, 0, 6, false)), bits_of({0.0f, -kInf, 0.0f, -1e38f, 0.0f, 0.0f}));
  c.w[0] = -0x1p-140f;
  c.set_key(0, 4, 0, code(0x1p-140f));  // a negative sum that rounds to zero
  EXPECT_EQ(bits_of(run_scores(executor_, c, 0, 6, false))[4], 0u);
  c.w[0] = kNan;
  for (const float score : run_scores(executor_, c, 0, 6, false)) EXPECT_EQ(score, -kInf);
}

TEST_P(Scores, KeepSubnormals) {
  IndexerCase c({IC_DTYPE_F32, 1, 32, 0, 1, 2});
  c.add_row(0, 0, 2);
  c.w[0] = 1.0f;
  const float tiny = 0x1p-120f;
  std::memcpy(c.q.data(), &tiny, 4);
  uint32_t bits = 0;
  const float key = 0x1p-20f;
  std::memcpy(&bits, &key, 4);
  c.set_key(0, 0, 0, bits);
  for (int32_t d = 1; d < 32; ++d) c.set_key(0, 0, d, 0);
  EXPECT_EQ(run_scores(executor_, c, 0, 1, false)[0], 0x1p-140f);
}

TEST_P(Scores, AddressBeyondTwoToThe31Elements) {
  for (const int32_t dtype : {IC_DTYPE_E4M3, IC_DTYPE_BF16}) {
    for (const int32_t page_tokens : {0, 64}) {
      IndexerCase c({dtype, 4, 32, page_tokens, 2, 150});
      c.add_row(0, 0, 150);
      c.add_row(1, 3, 149);
      const std::vector<float> expected = expected_scores(c, 0, 150, kUntouched);
      const int64_t elements = int64_t{1} << (page_tokens == 0 ? 25 : 29);  // there are fewer pages than vectors
      const int64_t far_stride = elements * element_bytes(dtype) + c.stride;
      SparseMemory memory(static_cast<size_t>(c.capacity * far_stride));
      for (int64_t i = 0; i < c.capacity; ++i) {
        std::memcpy(memory.bytes() + i * far_stride, c.pool.data() + i * c.stride, static_cast<size_t>(c.stride));
      }
      TestWorkspace workspace(scores_workspace_size(executor_, 4, 32));
      PoolView pool = c.pool_view();
      pool.data = memory.bytes();
      pool.stride_bytes = far_stride;
      std::vector<float> got(300, kUntouched);
      scores(executor_, {c.rows_view(), c.query_view(), pool, got.data(), 150, 0, 150, OtherColumns::kKeep, 0,
                         workspace.data(), workspace.size()});
      EXPECT_EQ(bits_of(got), bits_of(expected));
    }
  }
}

TEST_P(Scores, WriteBeyondTwoToThe31Elements) {
  IndexerCase c({IC_DTYPE_F32, 4, 32, 0, 1, 40});
  for (int32_t r = 0; r < 5; ++r) c.add_row(0, 0, 40);
  const int64_t stride = (int64_t{1} << 30) + 40;
  SparseMemory memory(static_cast<size_t>((4 * stride + 40) * 4));
  TestWorkspace workspace(scores_workspace_size(executor_, 4, 32));
  scores(executor_, {c.rows_view(), c.query_view(), c.pool_view(), memory.as<float>(), stride, 0, 40,
                     OtherColumns::kKeep, 0, workspace.data(), workspace.size()});
  for (int32_t r = 0; r < 5; ++r) {
    for (int32_t s = 0; s < 40; ++s) EXPECT_EQ(memory.as<float>()[r * stride + s], c.oracle(r, s));
  }
}

TEST(ScoresWithoutRows, DoNothing) {
  Workers workers(2);
  const Executor executor{best_isa(), &workers};
  ScoresParams params{};
  scores(executor, params);
}

}  // namespace
}  // namespace ic::cpu::test

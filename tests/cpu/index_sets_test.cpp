// SPDX-License-Identifier: Apache-2.0
// Stamps, moving rows, slots and overlap on the CPU.
#include "cpu/index_sets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

class IndexSets : public ::testing::Test {
 protected:
  Workers workers_{2};
  Executor executor_{Isa::kPortable, &workers_};
};

TEST_F(IndexSets, StampsGuardRowByRow) {
  std::vector<uint64_t> stamps(3);
  uint32_t epoch = 5;
  stamp({stamps.data(), &epoch, 7, 2});
  const std::vector<int32_t> lengths = {4, 4, 4};
  std::vector<int32_t> checked(3, -9);
  uint32_t fault = 0;
  check_stamps({lengths.data(), stamps.data(), &epoch, 7, 2, checked.data(), &fault});
  EXPECT_EQ(checked, (std::vector<int32_t>{4, 4, -9}));
  EXPECT_EQ(fault, 0u);
  check_stamps({lengths.data(), stamps.data(), &epoch, 7, 3, checked.data(), &fault});
  EXPECT_EQ(checked, (std::vector<int32_t>{4, 4, 0}));
  EXPECT_EQ(fault, IC_FAULT_EPOCH);
  check_stamps({lengths.data(), stamps.data(), &epoch, 8, 2, checked.data(), &fault});
  EXPECT_EQ(checked, (std::vector<int32_t>{0, 0, 0}));
  epoch = 6;
  check_stamps({lengths.data(), stamps.data(), &epoch, 7, 2, checked.data(), &fault});
  EXPECT_EQ(checked[0], 0);
}

TEST_F(IndexSets, GatherTakesRowsAndEmptiesTheRest) {
  constexpr int32_t kWidth = 3;
  std::vector<int32_t> indices = {0, 1, 2, 10, 11, -1, 20, -1, -1};
  std::vector<int32_t> lengths = {3, 2, 1};
  std::vector<float> scores = {.1f, .2f, .3f, .4f, .5f, -INFINITY, .7f, -INFINITY, -INFINITY};
  const std::vector<int32_t> rows = {2, -1, 0, 3, 1};
  std::vector<int32_t> out(5 * 8, 99);
  std::vector<float> out_scores(5 * 8, 9.0f);
  std::vector<int32_t> out_lengths(5, 99);
  uint32_t fault = 0;
  GatherRowsParams params{};
  params.rows = rows.data();
  params.count = 5;
  params.source_rows = 3;
  params.width = kWidth;
  params.padded_width = 5;
  params.indices = indices.data();
  params.index_stride = kWidth;
  params.lengths = lengths.data();
  params.scores = scores.data();
  params.out_indices = out.data();
  params.out_stride = 8;
  params.out_lengths = out_lengths.data();
  params.out_scores = out_scores.data();
  params.fault = &fault;
  gather_rows(executor_, params);
  EXPECT_EQ(out_lengths, (std::vector<int32_t>{1, 0, 3, 0, 2}));
  EXPECT_EQ(std::vector<int32_t>(out.begin(), out.begin() + 8), (std::vector<int32_t>{20, -1, -1, -1, -1, 99, 99, 99}));
  EXPECT_EQ(std::vector<int32_t>(out.begin() + 8, out.begin() + 13), (std::vector<int32_t>(5, -1)));
  EXPECT_EQ(std::vector<int32_t>(out.begin() + 16, out.begin() + 21), (std::vector<int32_t>{0, 1, 2, -1, -1}));
  EXPECT_EQ(out_scores[16], .1f);
  EXPECT_EQ(out_scores[20], -INFINITY);
  EXPECT_EQ(out_scores[21], 9.0f);
  EXPECT_EQ(fault, IC_FAULT_ROW);  // row 3 does not exist
}

TEST_F(IndexSets, RemapThroughPagesAndFlat) {
  constexpr int32_t kPadded = 8;
  const std::vector<int32_t> indices = {0, 15, 16, 33, 47, 48, -1, -1, 1, 2, -1, -1, -1, -1, -1, -1};
  const std::vector<int32_t> lengths = {6, 2};
  const std::vector<int32_t> seq = {1, 0};
  const std::vector<int32_t> table = {2, 9, 9, 7, -1, 3};  // sequence 0: 2 9 9; sequence 1: 7 -1 3
  std::vector<int32_t> slots(2 * kPadded, 99);
  std::vector<int32_t> out_lengths(2);
  uint32_t fault = 0;
  RemapParams params{};
  params.rows.count = 2;
  params.rows.num_seqs = 2;
  params.rows.seq = seq.data();
  params.rows.fault = &fault;
  params.indices = indices.data();
  params.index_stride = kPadded;
  params.lengths = lengths.data();
  params.k_padded = kPadded;
  params.page_tokens = 16;
  params.block_table = table.data();
  params.block_table_stride = 3;
  params.num_blocks = 3;
  params.slots = slots.data();
  params.slot_stride = kPadded;
  params.out_lengths = out_lengths.data();
  remap(executor_, params);
  EXPECT_EQ(slots, (std::vector<int32_t>{112, 127, -1, 49, 63, -1, -1, -1, 33, 34, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(out_lengths, lengths);
  EXPECT_EQ(fault, 0u);

  const std::vector<int64_t> offsets = {100, (int64_t{1} << 31) - 16};
  params.page_tokens = 0;
  params.key_offsets = offsets.data();
  remap(executor_, params);
  EXPECT_EQ(slots[0], INT32_MAX - 15);
  EXPECT_EQ(slots[1], INT32_MAX);
  EXPECT_EQ(slots[2], -1);  // one more does not fit into int32
  EXPECT_EQ(slots[8], 101);
  EXPECT_EQ(fault, IC_FAULT_SLOT);
}

TEST_F(IndexSets, OverlapEqualsSets) {
  std::mt19937 random(3);
  constexpr int32_t kRows = 150;
  constexpr int32_t kK = 40;
  std::vector<int32_t> a(kRows * kK, -1), b(kRows * kK, -1), a_lengths(kRows), b_lengths(kRows);
  const auto draw = [&](int32_t *list, int32_t &length) {
    std::set<int32_t> chosen;
    const int32_t wanted = std::uniform_int_distribution<int32_t>(0, kK)(random);
    while (static_cast<int32_t>(chosen.size()) < wanted)
      chosen.insert(std::uniform_int_distribution<int32_t>(0, 70)(random));
    std::copy(chosen.begin(), chosen.end(), list);
    length = wanted;
  };
  for (int32_t row = 0; row < kRows; ++row) {
    draw(&a[static_cast<size_t>(row * kK)], a_lengths[static_cast<size_t>(row)]);
    draw(&b[static_cast<size_t>(row * kK)], b_lengths[static_cast<size_t>(row)]);
  }
  a_lengths[0] = b_lengths[0] = 0;
  std::vector<int32_t> common(kRows);
  std::vector<float> recall(kRows), jaccard(kRows);
  overlap(executor_, {a.data(), kK, a_lengths.data(), kK, kK, b.data(), kK, b_lengths.data(), kRows, 0, common.data(),
                      recall.data(), jaccard.data(), nullptr, nullptr, 0});
  for (size_t row = 0; row < kRows; ++row) {
    const std::set<int32_t> x(&a[row * kK], &a[row * kK] + a_lengths[row]);
    int32_t both = 0;
    for (int32_t i = 0; i < b_lengths[row]; ++i) both += x.count(b[row * kK + static_cast<size_t>(i)]) != 0 ? 1 : 0;
    EXPECT_EQ(common[row], both);
    EXPECT_FLOAT_EQ(recall[row], x.empty() ? 1.0f : static_cast<float>(both) / static_cast<float>(x.size()));
    const int32_t either = a_lengths[row] + b_lengths[row] - both;
    EXPECT_FLOAT_EQ(jaccard[row], either == 0 ? 1.0f : static_cast<float>(both) / static_cast<float>(either));
  }
}

// Against the definition in double; k beyond the lanes that masses are added in.
TEST_F(IndexSets, MassRecallIsTheShareOfTheMass) {
  std::mt19937 random(5);
  for (const int32_t k : {1, 40, 511, 512, 513, 1500}) {
    constexpr int32_t kRows = 12;
    const int64_t mass_stride = k + 3;
    std::vector<int32_t> a(static_cast<size_t>(kRows * k), -1), b(a), a_lengths(kRows), b_lengths(kRows);
    std::vector<float> mass(static_cast<size_t>(kRows * mass_stride), std::nanf(""));
    const auto draw = [&](int32_t *list, int32_t length) {
      std::set<int32_t> chosen;
      while (static_cast<int32_t>(chosen.size()) < length)
        chosen.insert(std::uniform_int_distribution<int32_t>(0, 2 * k)(random));
      std::copy(chosen.begin(), chosen.end(), list);
    };
    for (int32_t row = 0; row < kRows; ++row) {
      const auto at = static_cast<size_t>(row);
      a_lengths[at] = std::max(0, k - row % 3);  // k, k - 1, k - 2
      b_lengths[at] = row % 4 == 3 ? 0 : k - row % 2;
      draw(&a[at * static_cast<size_t>(k)], a_lengths[at]);
      draw(&b[at * static_cast<size_t>(k)], b_lengths[at]);
      for (int32_t i = 0; i < a_lengths[at]; ++i)
        mass[static_cast<size_t>(row * mass_stride + i)] = std::uniform_real_distribution<float>(0.0f, 1.0f)(random);
    }
    const auto row_of = [k](std::vector<int32_t> &lists, int32_t row) { return lists.begin() + row * k; };
    std::copy_n(row_of(a, 0), k, row_of(b, 0));  // B is A: all of it, exactly
    b_lengths[0] = a_lengths[0];
    a_lengths[1] = 0;                                                   // A is empty
    std::fill_n(&mass[static_cast<size_t>(2 * mass_stride)], k, 0.0f);  // nothing to lose
    a_lengths[4] = -2;
    a_lengths[5] = k + 9;  // counts as k
    draw(&a[static_cast<size_t>(5 * k)], k);
    std::fill_n(&mass[static_cast<size_t>(5 * mass_stride)], k, 0.25f);
    std::vector<float> recall(kRows);
    overlap(executor_, {a.data(), k, a_lengths.data(), k, k, b.data(), k, b_lengths.data(), kRows, 0, nullptr, nullptr,
                        nullptr, recall.data(), mass.data(), mass_stride});
    for (int32_t row = 0; row < kRows; ++row) {
      const int32_t a_count = std::clamp(a_lengths[static_cast<size_t>(row)], 0, k);
      const std::set<int32_t> other(row_of(b, row), row_of(b, row) + b_lengths[static_cast<size_t>(row)]);
      double common = 0;
      double all = 0;
      for (int32_t i = 0; i < a_count; ++i) {
        const auto value = static_cast<double>(mass[static_cast<size_t>(row * mass_stride + i)]);
        all += value;
        if (other.count(a[static_cast<size_t>(row * k + i)]) != 0) common += value;
      }
      EXPECT_NEAR(static_cast<double>(recall[static_cast<size_t>(row)]), all == 0 ? 1.0 : common / all, 1e-6)
          << "row " << row << ", k " << k;
      EXPECT_LE(recall[static_cast<size_t>(row)], 1.0f);
    }
    EXPECT_EQ(recall[0], 1.0f);
    EXPECT_EQ(recall[1], 1.0f);
    EXPECT_EQ(recall[2], 1.0f);
    EXPECT_EQ(recall[3], 0.0f);  // B is empty
  }
}

}  // namespace
}  // namespace ic::cpu

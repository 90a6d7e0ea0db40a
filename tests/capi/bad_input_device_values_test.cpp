// SPDX-License-Identifier: Apache-2.0
// Arrays that go bad after they have been checked, as they can on a device: what is illegal is absent and sets a fault
// bit, nothing is read or written out of bounds (the sanitizers watch), and what comes out is a legal list.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

constexpr int32_t kRows = SmallProblem::kRows, kK = SmallProblem::kK, kPadded = SmallProblem::kPadded;

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  uint32_t operator()() { return static_cast<uint32_t>(engine_()); }

 private:
  std::mt19937 engine_;
};

class DeviceValues : public BadInput {
 protected:
  explicit DeviceValues(const Variant &variant = {}) : BadInput(variant) {}

  /// Runs layer 0 over flat or paged keys with the arrays as they are now.
  ic_status run_full(bool flat) {
    problem.full.layer = 0;
    problem.full.new_keys = nullptr;
    if (flat) problem.full.keys = &problem.flat_keys;
    return problem.call_full();
  }
  uint32_t take_faults() {
    uint32_t faults = 0;
    EXPECT_EQ(ic_cache_faults(problem.cache, 1, &faults, nullptr), IC_OK);
    return faults;
  }
  void begin() {
    problem.ready();
    ASSERT_EQ(problem.call_begin(), IC_OK) << last_error();
  }
  /// Front-packed, ascending, -1 behind.
  void expect_legal(const ic_index_view &view) {
    for (int32_t row = 0; row < view.num_rows; ++row) {
      const int32_t length = view.lengths[row];
      ASSERT_GE(length, 0);
      ASSERT_LE(length, view.k);
      const int32_t *list = view.indices + row * view.row_stride;
      for (int32_t i = 0; i < length; ++i) {
        ASSERT_LT(i == 0 ? -1 : list[i - 1], list[i]);
        ASSERT_LT(list[i], SmallProblem::kMaxKeyEnd);
      }
      for (int32_t i = length; i < kPadded; ++i) ASSERT_EQ(list[i], -1);
    }
  }
};

TEST_F(DeviceValues, RowsThatBecomeIllegalAreEmpty) {
  struct Spoiled {
    int32_t *SmallProblem::*array;
    int32_t value;
    uint32_t fault;
  };
  const Spoiled cases[] = {{&SmallProblem::row_seq, 2, IC_FAULT_SEQUENCE},
                           {&SmallProblem::row_seq, -1, IC_FAULT_SEQUENCE},
                           {&SmallProblem::row_seq, std::numeric_limits<int32_t>::min(), IC_FAULT_SEQUENCE},
                           {&SmallProblem::key_end, 49, IC_FAULT_KEY_END},
                           {&SmallProblem::key_end, std::numeric_limits<int32_t>::max(), IC_FAULT_KEY_END},
                           {&SmallProblem::key_end, std::numeric_limits<int32_t>::min(), 0},
                           {&SmallProblem::key_begin, std::numeric_limits<int32_t>::max(), 0}};
  for (const bool flat : {false, true}) {
    for (const Spoiled &one : cases) {
      SCOPED_TRACE(testing::Message() << one.value << " flat " << flat << " fault " << one.fault);
      begin();
      (problem.*one.array)[1] = one.value;
      ASSERT_EQ(run_full(flat), IC_OK) << last_error();
      EXPECT_EQ(take_faults(), one.fault);
      expect_legal(problem.view);
      EXPECT_EQ(problem.view.lengths[1], 0);
      for (const int32_t row : {0, 2, 3, 4}) EXPECT_EQ(problem.view.lengths[row], kK) << row;
    }
  }
}

TEST_F(DeviceValues, PagesThatBecomeIllegalAreRefused) {
  begin();
  ASSERT_EQ(run_full(false), IC_OK) << last_error();
  for (const int32_t page : {-2, 2, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    SCOPED_TRACE(page);
    problem.kv_pages[1] = page;
    problem.shared.attention = &problem.attend;
    if (!host_sees_values()) {  // absent, and a fault where it is no legal way to say so
      EXPECT_EQ(problem.call_shared(), IC_OK) << last_error();
      EXPECT_EQ(take_faults(), static_cast<uint32_t>(IC_FAULT_PAGE));
      continue;
    }
    EXPECT_EQ(problem.call_shared(), IC_ERROR_OUT_OF_RANGE);
    EXPECT_NE(last_error().find("args->attention->kv"), std::string::npos) << last_error();
    EXPECT_NE(last_error().find("page " + std::to_string(page)), std::string::npos) << last_error();
    EXPECT_EQ(take_faults(), 0u);
  }
  problem.kv_pages[1] = -1;  // absent, which is legal
  ASSERT_EQ(problem.call_shared(), IC_OK) << last_error();
  EXPECT_EQ(take_faults(), 0u);
  for (int32_t row = 3; row < kRows; ++row)
    for (int32_t head = 0; head < SmallProblem::kAttentionHeads; ++head)
      EXPECT_EQ(problem.attend.lse[row * SmallProblem::kAttentionHeads + head], -std::numeric_limits<float>::infinity())
          << "sequence 1 has no keys left";
}

TEST_F(DeviceValues, SlotsThatDoNotFit) {
  begin();
  ASSERT_EQ(run_full(false), IC_OK) << last_error();
  problem.remap.layout = IC_LAYOUT_CONTIGUOUS;
  for (const int64_t offset : {INT64_MAX, INT64_MIN, int64_t{1} << 31, int64_t{-1000}}) {
    problem.key_offsets[1] = offset;
    problem.batch.key_offsets = problem.key_offsets;
    problem.remap.row_stride = kPadded;
    ASSERT_EQ(ic_cache_remap(problem.cache, &problem.remap, nullptr, nullptr), IC_OK) << last_error();
    EXPECT_EQ(take_faults(), static_cast<uint32_t>(IC_FAULT_SLOT)) << offset;
    for (int32_t i = 0; i < kPadded; ++i) EXPECT_EQ(problem.remap.slots[3 * kPadded + i], -1);
    EXPECT_GE(problem.remap.slots[0], 0);
    ASSERT_EQ(ic_cache_reset(problem.cache), IC_OK);  // the same remap would do nothing
    begin();
    ASSERT_EQ(run_full(false), IC_OK) << last_error();
    problem.remap.layout = IC_LAYOUT_CONTIGUOUS;
  }
}

TEST_F(DeviceValues, ViewsOfAnEngineMayHoldAnything) {
  Random random(1);
  const auto any = [&]() -> int32_t {
    switch (random() % 6) {
      case 0:
        return static_cast<int32_t>(random());
      case 1:
        return -1;
      case 2:
        return std::numeric_limits<int32_t>::max();
      case 3:
        return std::numeric_limits<int32_t>::min();
      default:
        return static_cast<int32_t>(random() % 64);
    }
  };
  for (int round = 0; round < 300; ++round) {
    problem.ready();
    for (int32_t i = 0; i < kRows * kPadded; ++i) problem.given_indices[i] = any();
    for (int32_t row = 0; row < kRows; ++row) problem.given_lengths[row] = round % 2 == 0 ? kK : any();
    if (round % 3 == 0)
      for (int32_t row = 0; row < kRows; ++row) problem.row_seq[row] = any();
    if (round % 5 == 0)
      for (int32_t seq = 0; seq < 2; ++seq) problem.kv_pages[seq] = any();
    const bool slots = round % 4 == 1;
    problem.given.kind = slots ? IC_INDEX_SLOT : IC_INDEX_LOGICAL;
    ASSERT_EQ(problem.call_attend(), IC_OK) << last_error();
    const auto *out = static_cast<const float *>(problem.attend.out);
    for (int32_t i = 0; i < kRows * SmallProblem::kAttentionHeads * SmallProblem::kLatent; ++i)
      ASSERT_TRUE(std::isfinite(out[i])) << "round " << round;
    ASSERT_EQ(problem.call_mass(), IC_OK) << last_error();
    for (int32_t row = 0; row < kRows; ++row) {
      const float *mass = problem.mass.mass + row * kK;
      const float sum = std::accumulate(mass, mass + kK, 0.0f);
      ASSERT_TRUE(sum >= 0.0f && sum < 1.0f) << "row " << row << ", round " << round << ": a sink has its part";
    }
    if (!slots) {
      ASSERT_EQ(problem.call_overlap(), IC_OK) << last_error();
      for (int32_t row = 0; row < kRows; ++row) {
        ASSERT_LE(problem.overlap.intersection[row], kK);
        ASSERT_TRUE(std::isfinite(problem.overlap.mass_recall[row]));
      }
    }
  }
}

TEST_F(DeviceValues, MergedPartsMayHoldAnything) {
  Random random(2);
  for (int round = 0; round < 300; ++round) {
    problem.reset_inputs();
    for (int32_t i = 0; i < 2 * kRows * kPadded; ++i) {
      problem.merge_indices[i] = static_cast<int32_t>(random());
      const uint32_t bits = random();
      std::memcpy(&problem.merge_scores[i], &bits, sizeof bits);
    }
    for (int32_t i = 0; i < 2 * kRows; ++i)
      problem.merge_lengths[i] = round % 2 == 0 ? kPadded : static_cast<int32_t>(random());
    ASSERT_EQ(problem.call_merge(), IC_OK) << last_error();
    for (int32_t row = 0; row < kRows; ++row) {
      const int32_t *list = problem.merge.indices + row * kPadded;
      const int32_t length = problem.merge.lengths[row];
      ASSERT_TRUE(length >= 0 && length <= kK) << length;
      for (int32_t i = 0; i < kPadded; ++i) {
        if (i >= length) {
          ASSERT_EQ(list[i], -1);
        } else {
          ASSERT_GE(list[i], 0);
          ASSERT_LE(i == 0 ? 0 : list[i - 1], list[i]);
        }
      }
    }
  }
}

TEST_F(DeviceValues, SelectedScoresMayBeAnything) {
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    problem.reset_inputs();
    auto *scores = const_cast<float *>(problem.select.scores);
    for (int32_t i = 0; i < kRows * SmallProblem::kMaxKeyEnd; ++i) {
      const uint32_t bits = random() % 3 == 0 ? 0x7fc00000u + random() % 5 : random();
      std::memcpy(&scores[i], &bits, sizeof bits);
    }
    ASSERT_EQ(problem.call_select(), IC_OK) << last_error();
    ic_index_view view = problem.given;
    view.indices = problem.select.indices;
    view.lengths = problem.select.lengths;
    expect_legal(view);
    EXPECT_EQ(problem.select.lengths[0], kK);
    for (int32_t i = 0; i < kK; ++i) ASSERT_FALSE(std::isnan(problem.select.selected_scores[i]));
  }
}

class DeviceGarbage : public DeviceValues, public testing::WithParamInterface<std::tuple<int32_t, int32_t>> {
 protected:
  DeviceGarbage() : DeviceValues({.dtype = std::get<0>(GetParam()), .threads = std::get<1>(GetParam())}) {}
};

// All arrays of the batch at once, after ic_cache_begin() has seen good ones.
TEST_P(DeviceGarbage, OfEveryKind) {
  Random random(4);
  const auto spoil = [&](auto *array, int count) {
    using T = std::remove_reference_t<decltype(*array)>;
    for (int i = 0; i < count; ++i) {
      const uint32_t kind = random() % 12;
      if (kind == 0) array[i] = std::numeric_limits<T>::max();
      if (kind == 1) array[i] = std::numeric_limits<T>::min();
      if (kind == 2) array[i] = static_cast<T>(random());
      if (kind == 3) array[i] = static_cast<T>(random() % 64) - 8;
    }
  };
  int ran = 0, refused = 0;
  for (int round = 0; round < 1500; ++round) {
    begin();
    spoil(problem.row_seq, kRows);
    spoil(problem.key_begin, kRows);
    spoil(problem.key_end, kRows);
    spoil(problem.pages, 6);
    spoil(problem.kv_pages, 2);
    spoil(problem.key_offsets, 2);
    const ic_status status = run_full(round % 2 == 0);
    if (status != IC_OK) {  // a visible key outside of the pool: the host could see it
      ASSERT_EQ(status, IC_ERROR_OUT_OF_RANGE) << last_error();
      ++refused;
      continue;
    }
    ++ran;
    expect_legal(problem.view);
    ASSERT_EQ(problem.call_shared(), IC_OK) << last_error();
    problem.remap.layout = round % 3 == 0 ? IC_LAYOUT_CONTIGUOUS : IC_LAYOUT_PAGED;
    ASSERT_EQ(problem.call_remap(), IC_OK) << last_error();
    ASSERT_EQ(problem.call_compact(), IC_OK) << last_error();
    ASSERT_EQ(problem.call_export(), IC_OK) << last_error();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(ran, 100);
  if (host_sees_values()) {
    EXPECT_GT(refused, 100);
  } else {
    EXPECT_EQ(refused, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DeviceGarbage,
                         testing::Combine(testing::Values(IC_DTYPE_F32, IC_DTYPE_E4M3), testing::Values(1, 3)));

}  // namespace
}  // namespace ic::test

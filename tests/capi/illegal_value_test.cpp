// SPDX-License-Identifier: Apache-2.0
// One illegal value in an array. Where the host sees it the call is refused; where only the device sees it the call is
// taken, what is illegal counts as absent, and the cache's fault word says of which kind it was.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

class IllegalValue : public BadInput {
 protected:
  /// Spoils one value before `call`. `lost`: what the device must show besides the fault bit.
  template <class Spoil, class Call, class Lost>
  void expect(uint32_t fault, Spoil spoil, Call call, Lost lost) {
    problem.ready();
    spoil();
    const ic_status status = call();
    uint32_t faults = 0;
    ASSERT_EQ(ic_cache_faults(problem.cache, 1, &faults, nullptr), IC_OK) << last_error();
    if (host_sees_values()) {
      EXPECT_EQ(status, IC_ERROR_OUT_OF_RANGE) << last_error();
      EXPECT_EQ(faults, 0u);
    } else {
      EXPECT_EQ(status, IC_OK) << last_error();
      EXPECT_EQ(faults, fault);
      lost();
    }
    problem.ready();
  }
  ic_status begin_and_run() {
    const ic_status status = problem.call_begin();
    if (status != IC_OK) return status;
    problem.full.layer = 0;
    problem.full.new_keys = nullptr;
    problem.full.attention = nullptr;
    return problem.call_full();
  }
};

TEST_F(IllegalValue, OfABatch) {
  const auto empty = [&](int32_t row) { return [this, row] { EXPECT_EQ(problem.view.lengths[row], 0); }; };
  const auto run = [&] { return begin_and_run(); };
  for (const int32_t seq : {2, -1, std::numeric_limits<int32_t>::min()})
    expect(IC_FAULT_SEQUENCE, [&] { problem.row_seq[2] = seq; }, run, empty(2));
  for (const int32_t end : {49, std::numeric_limits<int32_t>::max()})
    expect(IC_FAULT_KEY_END, [&] { problem.key_end[3] = end; }, run, empty(3));
}

TEST_F(IllegalValue, OfABlockTableOrAnOffset) {
  // Sequence 1 has 20 keys on two pages of 16; kK of them are selected.
  const auto others = [&] {
    EXPECT_EQ(problem.view.lengths[4], 4) << "the keys of the second page";
    for (int32_t i = 0; i < 4; ++i) EXPECT_EQ(problem.view.indices[4 * SmallProblem::kPadded + i], 16 + i);
  };
  for (const int32_t page : {6, std::numeric_limits<int32_t>::max()})
    expect(IC_FAULT_PAGE, [&] { problem.pages[3] = page; }, [&] { return begin_and_run(); }, others);
  for (const int64_t offset : {int64_t{96}, int64_t{-100}, INT64_MAX, INT64_MIN})
    expect(
        IC_FAULT_PAGE,
        [&] {
          problem.full.keys = &problem.flat_keys;
          problem.key_offsets[1] = offset;
        },
        [&] { return begin_and_run(); }, [&] { EXPECT_EQ(problem.view.lengths[4], 0); });
}

TEST_F(IllegalValue, OfASlotForANewKey) {
  for (const int64_t slot : {int64_t{-2}, int64_t{96}, INT64_MAX, INT64_MIN})
    expect(
        IC_FAULT_SLOT, [&] { problem.slots[2] = slot; }, [&] { return problem.call_full(); },
        [&] { EXPECT_EQ(problem.view.lengths[0], SmallProblem::kK); });
}

TEST_F(IllegalValue, OfARowToKeep) {
  for (const int32_t row : {-2, 5, std::numeric_limits<int32_t>::max()})
    expect(
        IC_FAULT_ROW, [&] { problem.compact_rows[3] = row; }, [&] { return problem.call_compact(); },
        [&] {
          ASSERT_EQ(ic_cache_get_view(problem.cache, 0, &problem.view), IC_OK) << last_error();
          EXPECT_EQ(problem.view.lengths[3], 0);
          EXPECT_EQ(problem.view.lengths[0], SmallProblem::kK);
        });
}

}  // namespace
}  // namespace ic::test

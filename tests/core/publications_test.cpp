// SPDX-License-Identifier: Apache-2.0
// Who has published what: generations, parts, forced modes, slots, captures.
#include "core/publications.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <vector>

#include "core/failure.h"

namespace ic {
namespace {

Schedule make_schedule(const char *pattern, int32_t mtp = 0) {
  ScheduleRequest request;
  request.num_layers = static_cast<int32_t>(std::string_view(pattern).size());
  request.num_mtp_layers = mtp;
  request.override.pattern = pattern;
  return resolve_schedule(request);
}

/// Status of a body that may fail.
template <class Body>
ic_status status_of(Body body) {
  try {
    body();
    return IC_OK;
  } catch (const Failure &failure) {
    return failure.status();
  }
}

void run_part(Publications &publications, int32_t layer, RowRange part, int32_t mode = 0) {
  const auto plan = publications.plan(layer, mode);
  ASSERT_TRUE(plan.full);
  publications.require_uncovered(plan, part);
  publications.open_part(plan, mode);
  publications.close_part(plan, part);
}

ic_status shared_status(const Publications &publications, int32_t layer, int32_t mode = 0) {
  return status_of([&] { publications.require(publications.plan(layer, mode).source); });
}

TEST(Publications, NothingBeforeBegin) {
  Publications publications(make_schedule("FS"), 8, 1);
  EXPECT_EQ(status_of([&] { publications.plan(0, 0); }), IC_ERROR_NO_BATCH);
  publications.begin(8, 0, false);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_UNPUBLISHED);
  publications.reset();
  EXPECT_EQ(status_of([&] { publications.plan(0, 0); }), IC_ERROR_NO_BATCH);
}

TEST(Publications, SharedNeedsEveryRowOnceInAnyOrder) {
  Publications publications(make_schedule("FSS"), 300, 1);
  publications.begin(300, 0, false);
  run_part(publications, 0, {200, 100});
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_INCOMPLETE);
  run_part(publications, 0, {0, 63});
  run_part(publications, 0, {63, 2});
  EXPECT_EQ(shared_status(publications, 2), IC_ERROR_STALE_INCOMPLETE);
  const auto plan = publications.plan(0, 0);
  for (const RowRange overlap :
       {RowRange{0, 1}, RowRange{64, 1}, RowRange{64, 10}, RowRange{150, 51}, RowRange{0, 300}})
    EXPECT_EQ(status_of([&] { publications.require_uncovered(plan, overlap); }), IC_ERROR_PART_OVERLAP);
  run_part(publications, 0, {65, 135});
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
  EXPECT_EQ(shared_status(publications, 2), IC_OK);
  EXPECT_EQ(status_of([&] { publications.require_uncovered(plan, {299, 1}); }), IC_ERROR_PART_OVERLAP);
}

TEST(Publications, CoverageAgainstABooleanPerRow) {
  std::mt19937 random(7);
  const Schedule schedule = make_schedule("FS");
  for (int32_t round = 0; round < 200; ++round) {
    const int32_t rows = std::uniform_int_distribution<int32_t>(1, 200)(random);
    Publications publications(schedule, 200, 1);
    publications.begin(rows, 0, false);
    std::vector<bool> covered(static_cast<size_t>(rows));
    for (int32_t step = 0; step < 40; ++step) {
      const int32_t begin = std::uniform_int_distribution<int32_t>(0, rows)(random);
      const int32_t count = std::uniform_int_distribution<int32_t>(0, std::min(rows - begin, 70))(random);
      bool free = true;
      for (int32_t row = begin; row < begin + count; ++row) free = free && !covered[static_cast<size_t>(row)];
      const auto plan = publications.plan(0, 0);
      ASSERT_EQ(status_of([&] { publications.require_uncovered(plan, {begin, count}); }),
                free ? IC_OK : IC_ERROR_PART_OVERLAP);
      if (!free) continue;
      run_part(publications, 0, {begin, count});
      for (int32_t row = begin; row < begin + count; ++row) covered[static_cast<size_t>(row)] = true;
      const bool all = std::find(covered.begin(), covered.end(), false) == covered.end();
      ASSERT_EQ(shared_status(publications, 1), all ? IC_OK : IC_ERROR_STALE_INCOMPLETE);
    }
  }
}

TEST(Publications, ZeroRowsPublishAnEmptyResult) {
  Publications publications(make_schedule("FS"), 8, 1);
  publications.begin(0, 0, false);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_UNPUBLISHED);
  run_part(publications, 0, {0, 0});
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
}

TEST(Publications, ANewGenerationForgets) {
  Publications publications(make_schedule("FS"), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
  publications.begin(8, 0, false);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE);
  EXPECT_EQ(publications.generation(), 2u);
}

TEST(Publications, OneSlotIsOverwrittenByTheNextFullLayer) {
  Publications publications(make_schedule("FSFS"), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  run_part(publications, 2, {0, 4});  // its first part already un-publishes
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_OVERWRITTEN);
  EXPECT_EQ(shared_status(publications, 3), IC_ERROR_STALE_INCOMPLETE);
  run_part(publications, 2, {4, 4});
  EXPECT_EQ(shared_status(publications, 3), IC_OK);
  run_part(publications, 0, {0, 8});  // layer 0 again: starts anew, although it had covered its rows before
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
  EXPECT_EQ(shared_status(publications, 3), IC_ERROR_STALE_OVERWRITTEN);
}

TEST(Publications, TwoSlotsKeepTwoSources) {
  Publications publications(make_schedule("FSFSFS"), 8, 2);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  run_part(publications, 2, {0, 8});
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
  EXPECT_EQ(shared_status(publications, 3), IC_OK);
  EXPECT_NE(publications.slot_of(0), publications.slot_of(2));
  run_part(publications, 4, {0, 8});
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_OVERWRITTEN);
  EXPECT_EQ(shared_status(publications, 3), IC_OK);
}

TEST(Publications, KeepCarriesCompletePublicationsOnly) {
  Publications publications(make_schedule("FSFS"), 8, 2);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  run_part(publications, 2, {0, 4});
  publications.begin(8, 0, true);
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
  EXPECT_EQ(shared_status(publications, 3), IC_ERROR_STALE);
  run_part(publications, 0, {0, 2});  // coverage starts anew: a carried publication is no overlap
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_INCOMPLETE);
  publications.begin(3, 0, true);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE);
}

TEST(Publications, KeptRowsOfAnotherCountMustBeCompacted) {
  Publications publications(make_schedule("FS", 1), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 2, {0, 8});  // the MTP layer at draft step 0
  publications.begin(3, 0, true);
  EXPECT_EQ(shared_status(publications, 2, IC_LAYER_SHARED), IC_ERROR_STALE_ROWS);
  EXPECT_EQ(publications.require_any_rows(2), 8);
  publications.require_publishable(2, "publish_layer");
  publications.unpublish(2);
  publications.publish(2);
  EXPECT_EQ(shared_status(publications, 2, IC_LAYER_SHARED), IC_OK);
  publications.begin(3, 0, true);  // a further draft step
  EXPECT_EQ(shared_status(publications, 2, IC_LAYER_SHARED), IC_OK);
}

TEST(Publications, AnMtpLayerReadsItselfNeverTheStack) {
  Publications publications(make_schedule("FS", 2), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  EXPECT_TRUE(publications.plan(2, 0).full);
  EXPECT_EQ(publications.plan(2, IC_LAYER_SHARED).source, 2);
  EXPECT_EQ(publications.plan(3, IC_LAYER_SHARED).source, 3);
  EXPECT_EQ(shared_status(publications, 2, IC_LAYER_SHARED), IC_ERROR_STALE_UNPUBLISHED);
}

TEST(Publications, AForcedFullLayerServesTheLayersBehindIt) {
  Publications publications(make_schedule("FSSSFS"), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  run_part(publications, 2, {0, 8}, IC_LAYER_FULL);
  EXPECT_EQ(publications.plan(3, 0).source, 2);
  EXPECT_EQ(shared_status(publications, 3), IC_OK);
  EXPECT_EQ(publications.plan(1, 0).source, 0);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_OVERWRITTEN);
  run_part(publications, 4, {0, 8});
  EXPECT_EQ(publications.plan(5, 0).source, 4);
  publications.begin(8, 0, false);  // for one generation only
  EXPECT_FALSE(publications.plan(2, 0).full);
  EXPECT_EQ(publications.plan(3, 0).source, 0);
}

TEST(Publications, AForcedSharedLayerIsNoSource) {
  Publications publications(make_schedule("FSFS"), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  EXPECT_EQ(publications.plan(2, IC_LAYER_SHARED).source, 0);
  publications.note_shared(2, IC_LAYER_SHARED);
  EXPECT_EQ(publications.plan(3, 0).source, 0);
  EXPECT_EQ(status_of([&] { publications.plan(0, IC_LAYER_SHARED); }), IC_ERROR_SCHEDULE_INVALID);
}

TEST(Publications, ACaptureServesItselfOnly) {
  Publications publications(make_schedule("FS"), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  publications.begin(8, 17, true);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_CAPTURE);
  run_part(publications, 0, {0, 8});
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
  publications.begin(8, 18, true);
  EXPECT_EQ(shared_status(publications, 1), IC_ERROR_STALE_CAPTURE);
  publications.begin(8, 17, true);  // still the publication of capture 17
  EXPECT_EQ(shared_status(publications, 1), IC_OK);
}

TEST(Publications, LayersWithoutIndexerCannotRunFull) {
  ScheduleRequest request;
  request.num_layers = 4;
  const std::vector<int32_t> weights = {0, 2};
  request.indexer_layers = weights;
  Publications publications(resolve_schedule(request), 8, 1);
  publications.begin(8, 0, false);
  EXPECT_TRUE(publications.plan(2, 0).full);
  EXPECT_FALSE(publications.plan(1, 0).full);
  EXPECT_EQ(status_of([&] { publications.plan(1, IC_LAYER_FULL); }), IC_ERROR_SCHEDULE_INVALID);
  EXPECT_EQ(status_of([&] { publications.plan(4, 0); }), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { publications.plan(-1, 0); }), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { publications.plan(0, 9); }), IC_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { publications.plan(0, IC_LAYER_REINDEX); }), IC_ERROR_UNSUPPORTED);
  EXPECT_EQ(status_of([&] { publications.require_publishable(1, "publish_layer"); }), IC_ERROR_INVALID_ARGUMENT);
}

TEST(Publications, SerialChangesWithEveryPublication) {
  Publications publications(make_schedule("FS"), 8, 1);
  publications.begin(8, 0, false);
  run_part(publications, 0, {0, 8});
  const uint64_t first = publications.serial(0);
  publications.begin(8, 0, true);
  EXPECT_EQ(publications.serial(0), first);
  run_part(publications, 0, {0, 8});
  EXPECT_NE(publications.serial(0), first);
}

}  // namespace
}  // namespace ic

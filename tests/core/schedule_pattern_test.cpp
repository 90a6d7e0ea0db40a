// SPDX-License-Identifier: Apache-2.0
// Patterns and periods: the published ones, the two rules that engines confuse, and everything that is refused.
#include "core/schedule_pattern.h"

#include <algorithm>
#include <set>

#include "core/schedule.h"
#include "tests/core/schedule_fixture.h"

namespace ic::test {
namespace {

using Layers = std::vector<int>;

TEST(SchedulePattern, PublishedPatternsHaveTheirFullLayers) {
  const Schedule half = from_pattern(k30bHalf);
  EXPECT_EQ(full_layers(half),
            (Layers{0, 2, 4, 9, 11, 12, 13, 14, 16, 17, 20, 21, 23, 24, 25, 28, 29, 32, 37, 39, 40, 41, 43, 46}));
  EXPECT_EQ(half.num_full(), 24);
  EXPECT_EQ(full_layers(from_pattern(k30bQuarter)), (Layers{0, 2, 4, 9, 13, 16, 17, 20, 23, 28, 32, 37}));
  EXPECT_EQ(full_layers(from_pattern(k30bEighth)), (Layers{0, 4, 13, 17, 23, 28, 37}));
  EXPECT_EQ(from_pattern(kGlm5Half).num_full(), 40);
  EXPECT_EQ(from_pattern(kGlm5Quarter).num_full(), 22);
  for (const std::string_view pattern : {k30bHalf, k30bQuarter, k30bEighth, kGlm5Half, kGlm5Quarter}) {
    const Schedule schedule = from_pattern(pattern);
    EXPECT_EQ(schedule.pattern(), pattern);
    EXPECT_EQ(schedule.num_full() + schedule.num_shared(), schedule.num_layers());
  }
}

TEST(SchedulePattern, GreedyPatternsAreNested) {
  const auto contains = [](const char *large, const char *small) {
    const Layers a = full_layers(from_pattern(large));
    const Layers b = full_layers(from_pattern(small));
    return std::includes(a.begin(), a.end(), b.begin(), b.end());
  };
  EXPECT_TRUE(contains(k30bQuarter, k30bEighth));
  EXPECT_TRUE(contains(k30bHalf, k30bQuarter));
  EXPECT_TRUE(contains(kGlm5Half, kGlm5Quarter));
}

TEST(SchedulePattern, RulesAAndBAgreeInCountAndDisagreeOn38Layers) {
  const Schedule a = from_period(78, 4, 2);
  const Schedule b = from_period(78, 4, 3);
  EXPECT_EQ(a.num_full(), 21);
  EXPECT_EQ(b.num_full(), 21);
  int differing = 0;
  for (size_t i = 0; i < 78; ++i) differing += a.pattern()[i] != b.pattern()[i];
  EXPECT_EQ(differing, 38);
  Layers rule_a = {0}, rule_b = {0, 1};
  for (int layer = 1; layer < 78; layer += 4) rule_a.push_back(layer);
  for (int layer = 2; layer < 78; layer += 4) rule_b.push_back(layer);
  EXPECT_EQ(full_layers(a), rule_a);  // 0 1 5 9 ... 77
  EXPECT_EQ(full_layers(b), rule_b);  // 0 1 2 6 ... 74
}

TEST(SchedulePattern, OffsetDefaultsToTwo) {
  ScheduleRequest request;
  request.num_layers = 47;
  for (const auto &[freq, count] : {std::pair{2, 24}, {4, 13}, {8, 7}}) {
    request.override.freq = freq;
    const Schedule schedule = resolve_schedule(request);
    EXPECT_EQ(schedule.num_full(), count) << freq;
    EXPECT_EQ(schedule.pattern(), from_period(47, freq, 2).pattern());
  }
}

TEST(SchedulePattern, ExtremePeriods) {
  EXPECT_EQ(from_period(6, 1, 1).pattern(), "FFFFFF");
  EXPECT_EQ(from_period(6, 4, 1).pattern(), "FSSSFS");
  EXPECT_EQ(from_period(6, INT64_MAX, 1).pattern(), "FSSSSS");
  EXPECT_EQ(from_period(6, 4, INT64_MAX).pattern(), "FFFFFF");
  EXPECT_EQ(from_period(1, 4, 2).pattern(), "F");
}

TEST(SchedulePattern, RefusesLetters) {
  ScheduleRequest request;
  request.num_layers = 4;
  request.override.pattern = "FSXF";
  expect_refused(request, IC_ERROR_PARSE, {"'X'", "layer 2", "F, S"});
  request.override.pattern = "FsSF";
  expect_refused(request, IC_ERROR_PARSE, {"'s'", "layer 1"});
  request.override.pattern = "FS\nF";
  expect_refused(request, IC_ERROR_PARSE, {"0x0a", "layer 2"});
}

TEST(SchedulePattern, RefusesLengths) {
  ScheduleRequest request;
  request.num_layers = 4;
  for (const char *pattern : {"", "FSS", "FSSSF"}) {
    request.override.pattern = pattern;
    expect_refused(request, IC_ERROR_INVALID_ARGUMENT,
                   {"pattern has " + std::to_string(std::string_view(pattern).size()) + " letters", "allowed: 4"});
  }
  // vLLM's documented example for V3.2 is the beginning of the GLM-5 pattern: as long as V3.2, too short for GLM-5.
  request.num_layers = 78;
  request.override.pattern = std::string(kGlm5Half, 61);
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"61 letters", "78"});
}

TEST(SchedulePattern, RefusesFirstLayerShared) {
  ScheduleRequest request;
  request.num_layers = 4;
  request.override.pattern = "SFSS";
  expect_refused(request, IC_ERROR_SCHEDULE_INVALID, {"layer 0", "Shared"});
}

TEST(SchedulePattern, RefusesPeriods) {
  ScheduleRequest request;
  request.num_layers = 4;
  for (const int64_t freq : {0, -1, -7}) {
    request.override.freq = freq;
    expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"freq is " + std::to_string(freq), "1 and more"});
  }
  request.override.freq = 2;
  for (const int64_t offset : {0, -3}) {
    request.override.offset = offset;
    expect_refused(request, IC_ERROR_INVALID_ARGUMENT,
                   {"offset is " + std::to_string(offset), "1 and more", "layer 0"});
  }
  request.override.freq.reset();
  request.override.offset = 3;
  expect_refused(request, IC_ERROR_INVALID_ARGUMENT, {"offset is 3 without freq"});
}

TEST(SchedulePattern, FirstDifference) {
  EXPECT_EQ(first_difference("FFSS", "FFSS"), -1);
  EXPECT_EQ(first_difference("FFSS", "FFFS"), 2);
  EXPECT_EQ(first_difference("", ""), -1);
}

}  // namespace
}  // namespace ic::test

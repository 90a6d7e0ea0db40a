// SPDX-License-Identifier: Apache-2.0
// Text and recall losses of the five schedules.
#include <gtest/gtest.h>

#include <algorithm>

#include "golden.h"
#include "schedules.h"

namespace {

class GoldenLosses : public testing::TestWithParam<const char *> {};

TEST_P(GoldenLosses, TextAndRecall) {
  const golden::Losses expected = golden::losses(GetParam());
  const tiny_lm::Corpus corpus = golden::corpus();
  ASSERT_EQ(corpus.text.size(), expected.text_rows.size());
  ASSERT_EQ(corpus.recall.size(), 8U);

  tiny_lm::Engine engine(golden::model(), expected.pattern, golden::device(), golden::pool());
  const tiny_lm::Evaluation result = evaluate(&engine, expected.pattern, corpus);
  EXPECT_LE(golden::relative(result.text_loss, expected.text), 2e-5);
  ASSERT_TRUE(result.recall_loss.has_value());
  EXPECT_LE(golden::relative(*result.recall_loss, expected.recall), 5e-4);
  const auto full = std::count(expected.pattern.begin(), expected.pattern.end(), 'F');
  EXPECT_EQ(result.full_layers.size(), static_cast<size_t>(full));
  EXPECT_EQ(result.stats.indexer_calls, full * 18);
}

TEST(GoldenSchedules, ProgramAndGoldenValuesMeanTheSameSchedules) {
  for (const tiny_lm::NamedSchedule &schedule : tiny_lm::kSchedules) {
    EXPECT_EQ(golden::losses(schedule.name).pattern, schedule.pattern);
  }
}

INSTANTIATE_TEST_SUITE_P(Schedules, GoldenLosses,
                         testing::Values("all_full", "searched_1_2", "uniform_1_2", "uniform_1_4", "uniform_1_8"),
                         [](const auto &name) { return std::string(name.param); });

}  // namespace

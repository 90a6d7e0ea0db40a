// SPDX-License-Identifier: Apache-2.0
// One row of one schedule: small enough for the sanitizers.
#include <gtest/gtest.h>

#include "golden.h"

namespace {

TEST(GoldenRow, OneRowOfOneSchedule) {
  const golden::Losses expected = golden::losses("searched_1_2");
  tiny_lm::Corpus corpus = golden::corpus();
  constexpr size_t kRow = 1;
  corpus.text = {corpus.text[kRow]};
  corpus.recall.clear();
  tiny_lm::Engine engine(golden::model(), expected.pattern, golden::device(), golden::pool());
  const tiny_lm::Evaluation result = evaluate(&engine, expected.pattern, corpus);
  EXPECT_LE(golden::relative(result.text_loss, expected.text_rows[kRow]), 2e-5);
  EXPECT_EQ(result.stats.indexer_calls, 8);
  EXPECT_FALSE(result.recall_loss.has_value());
}

}  // namespace

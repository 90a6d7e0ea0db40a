// SPDX-License-Identifier: Apache-2.0
// Logits and index sets at the golden positions of text row 0.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "golden.h"

namespace {

constexpr int kGoldenLayers[] = {0, 4, 9, 15};

/// The selection of one row, and how clear it is.
struct RowSet {
  std::vector<int32_t> indices;
  double gap = 0;  // k-th minus next score, as a part of the spread of all visible scores; 1 when nothing is left out
};

RowSet row_set(const tiny_lm::IndexerStep &step, const ic_index_view &view, int row) {
  const int visible = step.batch->key_end[row];
  tiny_lm::SharedArray<float> row_scores(golden::device(), static_cast<size_t>(visible));
  const tiny_lm::ModelConfig &c = golden::model().config;
  ic_queries queries = *step.queries;
  queries.q = static_cast<const float *>(queries.q) + row * c.index_heads * c.index_dim;
  queries.w += row * queries.w_row_stride;
  ic_scores_args args = IC_SCORES_ARGS_INIT;
  args.row_begin = row;
  args.row_count = 1;
  args.num_columns = visible;
  args.queries = &queries;
  args.keys = step.keys;
  args.scores = row_scores.data();
  args.workspace = step.library->workspace.get();
  args.workspace_size = step.library->workspace_size;
  tiny_lm::check(ic_indexer_scores(step.library->indexer.get(), step.batch, &args, golden::device()->stream()));
  golden::device()->wait();
  std::vector<float> scores(row_scores.data(), row_scores.data() + visible);

  RowSet set;
  const int32_t length = golden::read_device(view.lengths + row, 1)[0];
  set.indices = golden::read_device(view.indices + row * view.row_stride, length);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  const auto k = static_cast<size_t>(c.index_topk);
  const double spread = static_cast<double>(scores.front()) - scores.back();
  set.gap = scores.size() > k ? (static_cast<double>(scores[k - 1]) - scores[k]) / spread : 1.0;
  return set;
}

class GoldenPositions : public testing::TestWithParam<const char *> {
 protected:
  void SetUp() override {
    positions_ = golden::positions();
    pattern_ = golden::losses(GetParam()).pattern;
    tiny_lm::EngineOptions options;
    options.inspect = [this](const tiny_lm::IndexerStep &step, const ic_index_view &view) {
      for (const int32_t position : positions_) sets_[step.layer].push_back(row_set(step, view, position));
    };
    tiny_lm::Engine engine(golden::model(), pattern_, golden::device(), golden::pool(), options);
    logits_ = engine.feed(golden::corpus().text[0].data(), tiny_lm::kWindow);
  }

  std::vector<int32_t> positions_;
  std::string pattern_;
  std::map<int, std::vector<RowSet>> sets_;  // per Full layer, per golden position
  tiny_lm::Matrix logits_;
};

TEST_P(GoldenPositions, Logits) {
  std::vector<float> values = golden::logits(GetParam());
  std::vector<double> errors;
  for (size_t i = 0; i < positions_.size(); ++i) {
    const Eigen::Map<const tiny_lm::RowVector> expected(values.data() + i * 256, 256);
    errors.push_back((logits_.row(positions_[i]) - expected).norm() / expected.norm());
  }
  std::sort(errors.begin(), errors.end());
  EXPECT_LE(errors[errors.size() / 2], 2e-4);
  EXPECT_LE(errors[errors.size() - 1 - 4], 1e-3) << "more than 4 rows";
  EXPECT_LE(errors.back(), 0.1);
}

TEST_P(GoldenPositions, IndexSets) {
  for (const int layer : kGoldenLayers) {
    const auto source = static_cast<int>(pattern_.rfind('F', static_cast<size_t>(layer)));
    const std::vector<int32_t> expected = golden::index_sets(GetParam(), layer);
    const std::vector<RowSet> &sets = sets_.at(source);
    ASSERT_EQ(sets.size(), positions_.size());
    int clear_rows = 0;
    for (size_t i = 0; i < sets.size(); ++i) {
      if (sets[i].gap <= 1e-4) continue;
      ++clear_rows;
      const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(i * 64);
      EXPECT_EQ(sets[i].indices, std::vector<int32_t>(begin, begin + 64))
          << "layer " << layer << ", position " << positions_[i] << ", gap " << sets[i].gap;
    }
    EXPECT_GE(clear_rows, 26) << "layer " << layer << ": less than 80 % of the rows can be compared";
  }
}

INSTANTIATE_TEST_SUITE_P(Schedules, GoldenPositions, testing::Values("all_full", "searched_1_2"),
                         [](const auto &name) { return std::string(name.param); });

}  // namespace

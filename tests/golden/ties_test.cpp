// SPDX-License-Identifier: Apache-2.0
// The golden losses notice the tie rule: with ties to the larger position the same model misses them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "golden.h"

namespace {

enum class Ties { kSmallerPosition, kLargerPosition };

/// Selects by itself from the scores of the library, and publishes the result under the layer's name.
class OwnSelection {
 public:
  explicit OwnSelection(Ties ties) : ties_(ties) {}

  void operator()(const tiny_lm::IndexerStep &step) {
    const int rows = step.batch->num_rows;
    const int columns = step.batch->max_key_end;
    const int k = golden::model().config.index_topk;
    score(step, rows, columns);

    ic_export_header header = {};
    header.magic = 0x58494349;
    header.version = 1;
    header.source_layer = step.layer;
    header.num_rows = rows;
    header.k = k;
    ic_schedule_info schedule = IC_SCHEDULE_INFO_INIT;
    tiny_lm::check(ic_schedule_get_info(step.library->schedule.get(), &schedule));
    header.schedule_hash = schedule.hash;
    ic_indexer_info indexer = IC_INDEXER_INFO_INIT;
    tiny_lm::check(ic_indexer_get_info(step.library->indexer.get(), &indexer));
    header.numerics_id = indexer.numerics_id;

    const auto row_count = static_cast<size_t>(rows);
    std::vector<int32_t> body(row_count + row_count * static_cast<size_t>(k), -1);
    golden::pool()->parallel_for(rows, [&](int64_t row) {
      const int visible = step.batch->key_end[row];
      body[static_cast<size_t>(row)] = std::min(k, visible);
      select(scores_->data() + row * columns, visible, k, body.data() + rows + row * k);
    });
    std::vector<unsigned char> block(sizeof header + body.size() * sizeof body[0]);
    std::memcpy(block.data(), &header, sizeof header);
    std::memcpy(block.data() + sizeof header, body.data(), body.size() * sizeof body[0]);
    tiny_lm::check(ic_cache_import(step.library->cache.get(), step.layer, 0, block.data(), block.size(), nullptr,
                                   golden::device()->stream()));
    golden::device()->wait();
  }

 private:
  void score(const tiny_lm::IndexerStep &step, int rows, int columns) {
    const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(columns);
    scores_ = std::make_shared<tiny_lm::SharedArray<float>>(golden::device(), count);
    size_t size = 0;
    tiny_lm::check(ic_indexer_scores_workspace_size(step.library->indexer.get(), rows, columns, &size));
    ASSERT_LE(size, step.library->workspace_size);
    ic_scores_args args = IC_SCORES_ARGS_INIT;
    args.row_count = IC_ALL_ROWS;
    args.queries = step.queries;
    args.keys = step.keys;
    args.scores = scores_->data();
    args.workspace = step.library->workspace.get();
    args.workspace_size = step.library->workspace_size;
    tiny_lm::check(ic_indexer_scores(step.library->indexer.get(), step.batch, &args, golden::device()->stream()));
    golden::device()->wait();
  }

  void select(const float *scores, int visible, int k, int32_t *indices) const {
    std::vector<int32_t> order(static_cast<size_t>(visible));
    std::iota(order.begin(), order.end(), 0);
    if (visible > k) {
      const auto better = [&](int32_t a, int32_t b) {
        if (scores[a] != scores[b]) return scores[a] > scores[b];
        return ties_ == Ties::kSmallerPosition ? a < b : a > b;
      };
      std::nth_element(order.begin(), order.begin() + k - 1, order.end(), better);
      order.resize(static_cast<size_t>(k));
      std::sort(order.begin(), order.end());
    }
    std::copy(order.begin(), order.end(), indices);
  }

  Ties ties_;
  std::shared_ptr<tiny_lm::SharedArray<float>> scores_;  // shared, because std::function copies
};

double text_loss(const std::string &pattern, Ties ties) {
  tiny_lm::Corpus corpus = golden::corpus();
  corpus.recall.clear();
  tiny_lm::EngineOptions options;
  options.select = OwnSelection(ties);
  tiny_lm::Engine engine(golden::model(), pattern, golden::device(), golden::pool(), options);
  return evaluate(&engine, pattern, corpus).text_loss;
}

TEST(GoldenTies, ToTheSmallerPositionMeetsTheLosses) {
  const golden::Losses expected = golden::losses("uniform_1_2");
  EXPECT_LE(golden::relative(text_loss(expected.pattern, Ties::kSmallerPosition), expected.text), 2e-5);
}

TEST(GoldenTies, TurnedRoundMissesThem) {
  const golden::Losses expected = golden::losses("uniform_1_2");
  EXPECT_GT(golden::relative(text_loss(expected.pattern, Ties::kLargerPosition), expected.text), 1e-4);
}

}  // namespace

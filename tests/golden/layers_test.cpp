// SPDX-License-Identifier: Apache-2.0
// How layers are compared, by another way: sets by set operations, similarity by runs of single layers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>

#include "golden.h"
#include "layer_overlap.h"
#include "layer_similarity.h"

namespace {

constexpr int kK = 64;
const std::string kAllFull(16, 'F');

tiny_lm::Corpus two_rows() {
  const tiny_lm::Corpus all = golden::corpus();
  return {{all.text[4]}, {all.recall[1]}};
}

/// The set of one row in an exported block.
std::vector<int32_t> exported_set(const std::vector<uint64_t> &block, int row) {
  const auto *header = reinterpret_cast<const ic_export_header *>(block.data());
  const auto *lengths = reinterpret_cast<const int32_t *>(header + 1);
  const int32_t *indices = lengths + header->num_rows + static_cast<ptrdiff_t>(row) * header->k;
  return std::vector<int32_t>(indices, indices + lengths[row]);
}

TEST(LayerOverlap, IsThatOfTheSetsThemselves) {
  const std::string pattern = "FSSFFSSSSSFSSSSF";
  const std::vector<int> layers = {0, 3, 4, 10, 15};
  double recall[5][5] = {};
  double jaccard[5][5] = {};
  int64_t rows = 0;
  tiny_lm::Engine engine(golden::model(), pattern, golden::device(), golden::pool());
  const auto add = [&](const tiny_lm::Window &window) {
    tiny_lm::Trace trace;
    engine.restart();
    engine.feed(window.data(), tiny_lm::kWindow, &trace);
    for (int row = 0; row < tiny_lm::kWindow; ++row) {
      if (row + 1 <= kK) continue;  // sees no more than k keys
      ++rows;
      for (size_t i = 0; i < 5; ++i) {
        const auto a = exported_set(trace.publications[static_cast<size_t>(layers[i])], row);
        ASSERT_EQ(a.size(), static_cast<size_t>(kK));
        for (size_t j = 0; j < 5; ++j) {
          const auto b = exported_set(trace.publications[static_cast<size_t>(layers[j])], row);
          std::vector<int32_t> both;
          std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
          const auto common = static_cast<double>(both.size());
          recall[i][j] += common / kK;
          jaccard[i][j] += common / (2 * kK - common);
        }
      }
    }
  };
  const tiny_lm::Corpus corpus = two_rows();
  add(corpus.text[0]);
  add(corpus.recall[0]);

  const auto found = layer_overlap(golden::model(), pattern, corpus, golden::device(), golden::pool());
  EXPECT_EQ(found.layers, layers);
  EXPECT_EQ(found.k, kK);
  EXPECT_EQ(found.rows, rows);
  for (size_t i = 0; i < 5; ++i) {
    for (size_t j = 0; j < 5; ++j) {
      EXPECT_NEAR(found.recall[i][j], recall[i][j] / static_cast<double>(rows), 1e-6) << i << " " << j;
      EXPECT_NEAR(found.jaccard[i][j], jaccard[i][j] / static_cast<double>(rows), 1e-6) << i << " " << j;
    }
  }
  EXPECT_EQ(found.recall[2][2], 1);
  EXPECT_LT(found.recall[0][4], 0.9) << "the layers of this model do not select alike";
}

/// Share of a layer's attention that lies on another layer's keys, mean over heads and rows: what the log-sum-exp over
/// the common keys alone has of that over all its own.
double mass_by_log_sums(const tiny_lm::Window &window, int layer, int other) {
  const int heads = golden::model().config.num_heads;
  std::vector<double> share(tiny_lm::kWindow, 0.0);
  tiny_lm::EngineOptions options;
  options.num_slots = 16;
  tiny_lm::Trace trace;
  tiny_lm::Engine(golden::model(), kAllFull, golden::device(), golden::pool())
      .feed(window.data(), tiny_lm::kWindow, &trace);
  options.inspect_attention = [&](const tiny_lm::AttentionStep &step) {
    if (step.layer != layer) return;
    const auto log_sums = [&](const std::function<std::vector<int32_t>(int)> &set_of_row) {
      constexpr int kStride = IC_K_PADDED(kK);
      tiny_lm::SharedArray<int32_t> indices(golden::device(), size_t{tiny_lm::kWindow} * kStride);
      tiny_lm::SharedArray<int32_t> lengths(golden::device(), tiny_lm::kWindow);
      for (int row = 0; row < tiny_lm::kWindow; ++row) {
        const std::vector<int32_t> set = set_of_row(row);
        int32_t *to = indices.data() + static_cast<ptrdiff_t>(row) * kStride;
        std::fill(std::copy(set.begin(), set.end(), to), to + kStride, -1);
        lengths[static_cast<size_t>(row)] = static_cast<int32_t>(set.size());
      }
      ic_index_view view = IC_INDEX_VIEW_INIT;
      view.indices = indices.data();
      view.lengths = lengths.data();
      view.row_stride = kStride;
      view.num_rows = tiny_lm::kWindow;
      view.k = kK;
      view.kind = IC_INDEX_LOGICAL;
      view.source_layer = -1;
      tiny_lm::SharedMatrix out(golden::device(), tiny_lm::kWindow, heads * golden::model().config.kv_rank);
      tiny_lm::SharedMatrix lse(golden::device(), tiny_lm::kWindow, heads);
      ic_attention_args args = *step.attention;
      args.out = out.data();
      args.lse = lse.data();
      tiny_lm::check(ic_attention_run(step.library->attention.get(), step.batch, 0, &view, &args,
                                      step.library->workspace.get(), step.library->workspace_size,
                                      golden::device()->stream()));
      golden::device()->wait();
      return tiny_lm::Matrix(lse);
    };
    const auto &own = trace.publications[static_cast<size_t>(layer)];
    const auto &others = trace.publications[static_cast<size_t>(other)];
    const tiny_lm::Matrix all = log_sums([&](int row) { return exported_set(own, row); });
    const tiny_lm::Matrix common = log_sums([&](int row) {
      const auto a = exported_set(own, row);
      const auto b = exported_set(others, row);
      std::vector<int32_t> both;
      std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
      return both;
    });
    for (int row = 0; row < tiny_lm::kWindow; ++row) {
      for (int head = 0; head < heads; ++head) {
        share[static_cast<size_t>(row)] += std::exp(double{common(row, head)} - all(row, head)) / heads;
      }
    }
  };
  tiny_lm::Engine engine(golden::model(), kAllFull, golden::device(), golden::pool(), options);
  engine.feed(window.data(), tiny_lm::kWindow);
  double sum = 0;
  for (int row = kK; row < tiny_lm::kWindow; ++row) sum += share[static_cast<size_t>(row)];
  return sum / (tiny_lm::kWindow - kK);
}

TEST(LayerOverlap, MassIsWhatTheCommonKeysHaveOfTheSoftmax) {
  tiny_lm::Corpus corpus = two_rows();
  corpus.recall.clear();
  const auto found = layer_overlap(golden::model(), kAllFull, corpus, golden::device(), golden::pool());
  const int pairs[][2] = {{1, 0}, {0, 1}, {9, 8}, {15, 2}, {2, 15}};
  for (const auto &[layer, other] : pairs) {
    const double mass = found.mass[static_cast<size_t>(layer)][static_cast<size_t>(other)];
    EXPECT_NEAR(mass, mass_by_log_sums(corpus.text[0], layer, other), 1e-5) << layer << " " << other;
    EXPECT_LT(mass, 0.999);
  }
  EXPECT_NEAR(found.mass[3][3], 1, 1e-6);
  EXPECT_NE(found.mass[15][2], found.mass[2][15]) << "it has a direction";
}

/// Attention output of one layer, behind the value projection, when it attends with another layer's indices.
std::vector<std::vector<double>> values_with(const tiny_lm::Trace &trace, int layer, int other) {
  const tiny_lm::ModelConfig &c = golden::model().config;
  std::vector<float> latent;
  tiny_lm::EngineOptions options;
  // The layer's own selection is replaced by the other layer's published one.
  options.select = [&](const tiny_lm::IndexerStep &step) {
    const auto &block = trace.publications[static_cast<size_t>(step.layer == layer ? other : step.layer)];
    tiny_lm::check(ic_cache_import(step.library->cache.get(), step.layer, 0, block.data(),
                                   block.size() * sizeof(uint64_t), nullptr, golden::device()->stream()));
  };
  options.inspect_attention = [&](const tiny_lm::AttentionStep &step) {
    if (step.layer != layer) return;
    latent = golden::read_device(static_cast<const float *>(step.attention->out),
                                 int64_t{tiny_lm::kWindow} * c.num_heads * c.kv_rank);
  };
  tiny_lm::Engine engine(golden::model(), kAllFull, golden::device(), golden::pool(), options);
  engine.resume(trace, layer);

  const auto &up = golden::model().layers[static_cast<size_t>(layer)].up_value;
  std::vector<std::vector<double>> values(tiny_lm::kWindow);
  for (size_t row = 0; row < values.size(); ++row) {
    for (size_t head = 0; head < up.size(); ++head) {
      const float *x = latent.data() + (row * up.size() + head) * static_cast<size_t>(c.kv_rank);
      for (Eigen::Index v = 0; v < up[head].rows(); ++v) {
        double sum = 0;
        for (Eigen::Index d = 0; d < up[head].cols(); ++d) sum += double{up[head](v, d)} * x[d];
        values[row].push_back(sum);
      }
    }
  }
  return values;
}

TEST(LayerSimilarity, IsThatOfRunsWithTheOtherLayersIndices) {
  tiny_lm::Corpus corpus = two_rows();
  corpus.recall.clear();
  const auto found = layer_similarity(golden::model(), corpus, golden::device(), golden::pool());
  ASSERT_EQ(found.size(), 16U);

  tiny_lm::Trace trace;
  tiny_lm::Engine engine(golden::model(), kAllFull, golden::device(), golden::pool());
  engine.feed(corpus.text[0].data(), tiny_lm::kWindow, &trace);
  const int pairs[][2] = {{1, 0}, {5, 4}, {9, 2}, {15, 0}, {15, 14}};
  for (const auto &[layer, other] : pairs) {
    const auto own = values_with(trace, layer, layer);
    const auto shared = values_with(trace, layer, other);
    double sum = 0;
    for (size_t row = kK; row < own.size(); ++row) {
      double dot = 0;
      double own_square = 0;
      double shared_square = 0;
      for (size_t d = 0; d < own[row].size(); ++d) {
        dot += own[row][d] * shared[row][d];
        own_square += own[row][d] * own[row][d];
        shared_square += shared[row][d] * shared[row][d];
      }
      sum += dot / std::sqrt(own_square * shared_square);
    }
    const double similarity = found[static_cast<size_t>(layer)][static_cast<size_t>(other)];
    EXPECT_NEAR(similarity, sum / (tiny_lm::kWindow - kK), 1e-5) << layer << " " << other;
    EXPECT_LT(similarity, 0.999);
    EXPECT_GT(similarity, -1);
  }
  EXPECT_EQ(found[7][7], 1);
  EXPECT_EQ(found[7][8], 0);
}

}  // namespace

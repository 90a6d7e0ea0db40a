// SPDX-License-Identifier: Apache-2.0
// Similarity of attention outputs under the indices of other layers.
#include "layer_similarity.h"

#include <cmath>

namespace tiny_lm {
namespace {

double cosine(const Matrix &a, const Matrix &b, Eigen::Index row) {
  const double norms = static_cast<double>(a.row(row).norm()) * b.row(row).norm();
  return norms > 0 ? a.row(row).dot(b.row(row)) / norms : 0.0;
}

}  // namespace

LayerTable layer_similarity(const Model &model, const Corpus &corpus, Device *device, ThreadPool *pool) {
  const ModelConfig &c = model.config;
  const auto layers = static_cast<size_t>(c.num_layers);
  LayerTable similarity(layers, std::vector<double>(layers, 0.0));
  SharedMatrix latent(device, kWindow, c.num_heads * c.kv_rank);
  const int first_row = first_compared_row(c);
  int64_t rows = 0;

  EngineOptions options;
  options.num_slots = c.num_layers;
  options.inspect_attention = [&](const AttentionStep &step) {
    const auto layer = static_cast<size_t>(step.layer);
    const LayerWeights &w = model.layers[layer];
    const auto *own_latent = static_cast<const float *>(step.attention->out);
    const Matrix own = project_values(c, w, Eigen::Map<const Matrix>(own_latent, latent.rows(), latent.cols()));
    ic_attention_args attention = *step.attention;
    attention.out = latent.data();
    for (size_t other = 0; other < layer; ++other) {
      ic_index_view view = IC_INDEX_VIEW_INIT;
      check(ic_cache_get_view(step.library->cache.get(), static_cast<int32_t>(other), &view));
      check(ic_attention_run(step.library->attention.get(), step.batch, 0, &view, &attention,
                             step.library->workspace.get(), step.library->workspace_size, device->stream()));
      device->wait();
      const Matrix values = project_values(c, w, latent);
      for (int row = first_row; row < kWindow; ++row) similarity[layer][other] += cosine(own, values, row);
    }
  };
  Engine engine(model, std::string(layers, 'F'), device, pool, options);
  const auto add_window = [&](const Window &window) {
    engine.restart();
    engine.feed(window.data(), kWindow);
    rows += kWindow - first_row;
  };
  for (const Window &window : corpus.text) add_window(window);
  for (const Window &window : corpus.recall) add_window(window);

  for (size_t i = 0; i < layers; ++i) {
    for (size_t j = 0; j < i; ++j) similarity[i][j] /= static_cast<double>(rows);
    similarity[i][i] = 1;
  }
  return similarity;
}

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// Overlap of the index sets of layers.
#include "layer_overlap.h"

#include <algorithm>

#include "error.h"

namespace tiny_lm {
namespace {

LayerTable square(size_t size) { return LayerTable(size, std::vector<double>(size, 0.0)); }

}  // namespace

int first_compared_row(const ModelConfig &config) {
  if (config.index_topk >= kWindow) {
    throw Error(kExitUsage, "k is " + std::to_string(config.index_topk) + ": no token of " + std::to_string(kWindow) +
                                " sees more keys, so all layers select the same");
  }
  return config.index_topk;  // row r sees r + 1 keys
}

LayerOverlap layer_overlap(const Model &model, const std::string &pattern, const Corpus &corpus, Device *device,
                           ThreadPool *pool) {
  const int first_row = first_compared_row(model.config);
  std::vector<Device::Memory> masses;  // per layer [tokens, k]; of the Full ones
  for (int layer = 0; layer < model.config.num_layers; ++layer) {
    masses.push_back(
        device->memory(sizeof(float) * kWindow * static_cast<size_t>(model.config.index_topk), Reach::kLibrary));
  }
  Device::Memory workspace;
  size_t workspace_size = 0;
  EngineOptions options;
  options.num_slots = model.config.num_layers;  // all layers' index sets stay readable behind the forward
  options.inspect_attention = [&](const AttentionStep &step) {
    if (!step.library->is_full(step.layer)) return;
    ic_index_view own = IC_INDEX_VIEW_INIT;
    check(ic_cache_get_view(step.library->cache.get(), step.layer, &own));
    ic_mass_args args = IC_MASS_ARGS_INIT;
    args.q = step.attention->q;
    args.kv = step.attention->kv;
    args.mass = static_cast<float *>(masses[static_cast<size_t>(step.layer)].get());
    check(ic_attention_mass(step.library->attention.get(), step.batch, 0, &own, &args, workspace.get(), workspace_size,
                            device->stream()));
    device->wait();
  };
  Engine engine(model, pattern, device, pool, options);

  LayerOverlap result;
  result.layers = engine.full_layers();
  result.k = model.config.index_topk;
  const size_t layers = result.layers.size();
  result.recall = result.jaccard = result.mass = square(layers);
  check(ic_attention_mass_workspace_size(engine.library().attention.get(), kWindow, result.k, &workspace_size));
  workspace = device->memory(std::max(workspace_size, size_t{256}), Reach::kLibrary);
  SharedArray<float> recall(device, kWindow);
  SharedArray<float> jaccard(device, kWindow);
  SharedArray<float> mass(device, kWindow);
  ic_overlap_args args = IC_OVERLAP_ARGS_INIT;
  args.recall = recall.data();
  args.jaccard = jaccard.data();
  args.mass_recall = mass.data();

  const auto add_window = [&](const Window &window) {
    engine.restart();
    engine.feed(window.data(), kWindow);
    std::vector<ic_index_view> views(layers, ic_index_view IC_INDEX_VIEW_INIT);
    for (size_t i = 0; i < layers; ++i) {
      check(ic_cache_get_view(engine.library().cache.get(), result.layers[i], &views[i]));
    }
    for (size_t i = 0; i < layers; ++i) {
      args.mass = static_cast<const float *>(masses[static_cast<size_t>(result.layers[i])].get());
      for (size_t j = 0; j < layers; ++j) {
        check(ic_index_overlap(device->context(), &views[i], &views[j], &args, device->stream()));
        device->wait();
        for (auto row = static_cast<size_t>(first_row); row < kWindow; ++row) {
          result.recall[i][j] += recall[row];
          result.jaccard[i][j] += jaccard[row];
          result.mass[i][j] += mass[row];
        }
      }
    }
    result.rows += kWindow - first_row;
  };
  for (const Window &window : corpus.text) add_window(window);
  for (const Window &window : corpus.recall) add_window(window);

  for (LayerTable *table : {&result.recall, &result.jaccard, &result.mass}) {
    for (std::vector<double> &row : *table) {
      for (double &value : row) value /= static_cast<double>(result.rows);
    }
  }
  return result;
}

}  // namespace tiny_lm

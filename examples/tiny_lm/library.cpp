// SPDX-License-Identifier: Apache-2.0
// What an engine makes once: schedule, indexer, top-k, attention, cache, workspace.
#include "library.h"

#include <algorithm>
#include <cmath>

namespace tiny_lm {
namespace {

Owner<ic_indexer> create_indexer(ic_context *context, const ModelConfig &config) {
  ic_indexer_desc desc = IC_INDEXER_DESC_INIT;
  desc.num_heads = config.index_heads;
  desc.head_dim = config.index_dim;
  desc.dtype = IC_DTYPE_F32;
  ic_indexer *handle = nullptr;
  check(ic_indexer_create(context, &desc, &handle));
  return Owner<ic_indexer>(handle);
}

Owner<ic_topk> create_topk(ic_context *context, const ModelConfig &config) {
  ic_topk_desc desc = IC_TOPK_DESC_INIT;
  desc.k = config.index_topk;
  ic_topk *handle = nullptr;
  check(ic_topk_create(context, &desc, &handle));
  return Owner<ic_topk>(handle);
}

Owner<ic_attention> create_attention(ic_context *context, const ModelConfig &config) {
  ic_attention_desc desc = IC_ATTENTION_DESC_INIT;
  desc.num_heads = config.num_heads;
  desc.d_latent = config.kv_rank;
  desc.d_rope = config.rope_dim;
  desc.kv_dtype = IC_DTYPE_F32;
  desc.q_dtype = IC_DTYPE_F32;
  desc.softmax_scale = 1.0F / std::sqrt(static_cast<float>(config.nope_dim + config.rope_dim));
  ic_attention *handle = nullptr;
  check(ic_attention_create(context, &desc, &handle));
  return Owner<ic_attention>(handle);
}

Owner<ic_cache> create_cache(const Library &library, int max_rows, int num_slots) {
  ic_cache_desc desc = IC_CACHE_DESC_INIT;
  desc.schedule = library.schedule.get();
  desc.indexer = library.indexer.get();
  desc.topk = library.topk.get();
  desc.attention = library.attention.get();
  desc.max_rows = max_rows;
  desc.num_slots = num_slots;
  ic_cache *handle = nullptr;
  check(ic_cache_create(library.device.context(), &desc, &handle));
  return Owner<ic_cache>(handle);
}

}  // namespace

// Which layers have an indexer comes from the model's config, which of them run it from the pattern.
Owner<ic_schedule> create_schedule(const ModelConfig &config, const std::string &pattern) {
  ic_schedule_desc desc = IC_SCHEDULE_DESC_INIT;
  desc.num_layers = config.num_layers;
  desc.config_json = config.json.c_str();
  desc.pattern = pattern.c_str();
  ic_schedule *handle = nullptr;
  check(ic_schedule_create(&desc, &handle), kExitPattern);
  return Owner<ic_schedule>(handle);
}

Library::Library(const ModelConfig &config, const std::string &pattern, int max_tokens, int num_slots,
                 Device *device_of_all)
    : device(*device_of_all),
      schedule(create_schedule(config, pattern)),
      indexer(create_indexer(device.context(), config)),
      topk(create_topk(device.context(), config)),
      attention(create_attention(device.context(), config)),
      cache(create_cache(*this, max_tokens, num_slots)) {
  size_t forward_size = 0;
  size_t attention_size = 0;
  check(ic_forward_workspace_size(cache.get(), max_tokens, max_tokens, &forward_size));
  check(ic_attention_workspace_size(attention.get(), max_tokens, config.index_topk, &attention_size));
  workspace_size = std::max({forward_size, attention_size, size_t{256}});
  workspace = device.memory(workspace_size, Reach::kLibrary);
}

bool Library::is_full(int layer) const {
  ic_layer_info info = IC_LAYER_INFO_INIT;
  check(ic_schedule_get_layer(schedule.get(), layer, &info));
  return info.mode == IC_LAYER_FULL;
}

}  // namespace tiny_lm

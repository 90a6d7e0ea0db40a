// SPDX-License-Identifier: Apache-2.0
// The library as its users see it: the C API on device 0, with owners for handles and exceptions for statuses.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "device.h"
#include "indexcache.h"

namespace bench {

struct Destroy {
  void operator()(ic_context *handle) const { ic_context_destroy(handle); }
  void operator()(ic_schedule *handle) const { ic_schedule_destroy(handle); }
  void operator()(ic_indexer *handle) const { ic_indexer_destroy(handle); }
  void operator()(ic_topk *handle) const { ic_topk_destroy(handle); }
  void operator()(ic_attention *handle) const { ic_attention_destroy(handle); }
  void operator()(ic_cache *handle) const { ic_cache_destroy(handle); }
};
template <class Handle>
using Owner = std::unique_ptr<Handle, Destroy>;

inline void check(ic_status status) {
  if (status == IC_OK) return;
  char message[512] = "";
  ic_last_error(message, sizeof message);
  throw std::runtime_error(message);
}

/// One context for all benchmarks, made when it is first asked for.
inline ic_context *context() {
  static const Owner<ic_context> owner = [] {
    ic_context_desc desc = IC_CONTEXT_DESC_INIT;
    desc.backend = IC_BACKEND_CUDA;
    ic_context *handle = nullptr;
    check(ic_context_create(&desc, &handle));
    return Owner<ic_context>(handle);
  }();
  return owner.get();
}

inline Owner<ic_indexer> make_indexer(int32_t heads, int32_t dim, int32_t dtype) {
  ic_indexer_desc desc = IC_INDEXER_DESC_INIT;
  desc.num_heads = heads;
  desc.head_dim = dim;
  desc.dtype = dtype;
  ic_indexer *handle = nullptr;
  check(ic_indexer_create(context(), &desc, &handle));
  return Owner<ic_indexer>(handle);
}

inline Owner<ic_topk> make_topk(int32_t k) {
  ic_topk_desc desc = IC_TOPK_DESC_INIT;
  desc.k = k;
  ic_topk *handle = nullptr;
  check(ic_topk_create(context(), &desc, &handle));
  return Owner<ic_topk>(handle);
}

/// Layer 0 is Full, layer 1 Shared.
inline Owner<ic_cache> make_cache(const ic_indexer *indexer, const ic_topk *topk, int32_t max_rows) {
  ic_schedule_desc schedule_desc = IC_SCHEDULE_DESC_INIT;
  schedule_desc.num_layers = 2;
  schedule_desc.pattern = "FS";
  ic_schedule *schedule_handle = nullptr;
  check(ic_schedule_create(&schedule_desc, &schedule_handle));
  const Owner<ic_schedule> schedule(schedule_handle);
  ic_cache_desc desc = IC_CACHE_DESC_INIT;
  desc.schedule = schedule.get();
  desc.indexer = indexer;
  desc.topk = topk;
  desc.max_rows = max_rows;
  ic_cache *handle = nullptr;
  check(ic_cache_create(context(), &desc, &handle));
  return Owner<ic_cache>(handle);
}

}  // namespace bench

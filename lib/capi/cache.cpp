// SPDX-License-Identifier: Apache-2.0
// ic_cache_*: creation, generations, views, faults.
#include "core/cache.h"

#include <limits>

#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"

namespace {

using namespace ic;

constexpr int32_t kMaxCacheRows = 1 << 20;
constexpr int32_t kMaxSlots = 4096;

/// The desc with defaults filled in; fails when its handles do not fit together.
ic_cache_desc read_cache_desc(const ic_cache_desc *desc) {
  ic_cache_desc given = read_struct(desc, "desc");
  require_pointer(given.schedule, "desc->schedule");
  require_pointer(given.indexer, "desc->indexer");
  require_pointer(given.topk, "desc->topk");
  require_flags(given.flags, IC_CACHE_SCORES, "desc->flags");
  require_zero(given.reserved, "desc->reserved");
  require_range(given.max_rows, 1, kMaxCacheRows, "desc->max_rows");
  require_range(given.num_slots, 0, kMaxSlots, "desc->num_slots");
  require_aligned(given.epoch, 4, "desc->epoch");
  const ic_context *context = given.indexer->context.get();
  if (given.topk->context.get() != context)
    fail(IC_ERROR_HANDLE_MISMATCH, "desc->topk and desc->indexer are of different contexts");
  if (given.attention != nullptr && given.attention->context.get() != context)
    fail(IC_ERROR_HANDLE_MISMATCH, "desc->attention and desc->indexer are of different contexts");
  if (given.topk->order != IC_ORDER_POSITION)
    fail(IC_ERROR_HANDLE_MISMATCH, "desc->topk has order %d; a cache needs IC_ORDER_POSITION", given.topk->order);
  if (given.num_slots == 0) given.num_slots = 1;
  return given;
}

size_t memory_size(const ic_cache_desc &desc) noexcept {
  const SlotLayout slot(desc.max_rows, desc.topk->k_padded, (desc.flags & IC_CACHE_SCORES) != 0, desc.epoch != nullptr);
  return CacheLayout{slot, desc.num_slots}.bytes();
}

}  // namespace

extern "C" ic_status ic_cache_memory_size(const ic_cache_desc *desc, size_t *size) {
  return guarded([&] {
    require_array(size, alignof(size_t), "size");
    *size = memory_size(read_cache_desc(desc));
  });
}

extern "C" ic_status ic_cache_create(ic_context *context, const ic_cache_desc *desc, ic_cache **out) {
  return guarded([&] {
    require_array(out, alignof(void *), "out");
    *out = nullptr;
    require_pointer(context, "context");
    const ic_cache_desc given = read_cache_desc(desc);
    if (given.indexer->context.get() != context)
      fail(IC_ERROR_HANDLE_MISMATCH, "desc->indexer is of another context than the one given");
    if (given.memory != nullptr)
      require_workspace(given.memory, given.memory_size, memory_size(given), "desc->memory");
    else if (given.memory_size != 0)
      fail(IC_ERROR_NULL_POINTER, "desc->memory is NULL and memory_size is %zu", given.memory_size);
    *out = new ic_cache(context, given);
  });
}

extern "C" void ic_cache_destroy(ic_cache *cache) { Ref<ic_cache>::release(cache); }

extern "C" ic_status ic_cache_begin(ic_cache *cache, const ic_batch *batch) {
  return guarded([&] {
    require_pointer(cache, "cache");
    const Batch given = read_batch(batch, cache->max_rows());
    if (cache->backend().host_visible()) check_batch_values(given);
    cache->begin(given);
  });
}

extern "C" ic_status ic_cache_reset(ic_cache *cache) {
  return guarded([&] {
    require_pointer(cache, "cache");
    cache->reset();
  });
}

extern "C" ic_status ic_cache_get_info(const ic_cache *cache, ic_cache_info *info) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_output(info, "info");
    ic_cache_info value{};
    value.generation = cache->publications().generation();
    value.num_rows = cache->publications().rows();
    value.max_rows = cache->max_rows();
    value.num_slots = cache->num_slots();
    value.k = cache->topk().k;
    value.row_stride = cache->topk().k_padded;
    value.numerics_id = cache->numerics_id();
    write_struct(info, value);
  });
}

extern "C" ic_status ic_cache_get_view(const ic_cache *cache, int32_t source_layer, ic_index_view *view) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_output(view, "view");
    cache->publications().require(source_layer);
    write_struct(view, cache->view(source_layer, {0, cache->publications().rows()}));
  });
}

extern "C" ic_status ic_cache_faults(ic_cache *cache, int32_t clear, uint32_t *faults, ic_stream stream) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_array(faults, 4, "faults");
    require_range(clear, 0, 1, "clear");
    require_stream(cache->backend(), stream);
    *faults = cache->backend().read_faults(cache->fault(), clear == 1, stream);
  });
}

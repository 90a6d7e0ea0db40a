// SPDX-License-Identifier: Apache-2.0
// ic_forward.
#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"
#include "core/cache.h"
#include "core/dtype.h"

namespace {

using namespace ic;

WriteKeysParams read_new_keys(const ic_new_keys *keys, const PoolView &pool, const ic_cache &cache) {
  const ic_new_keys given = read_struct(keys, "args->new_keys");
  const ic_indexer &indexer = cache.indexer();
  const VectorLayout layout = index_key_layout(indexer.head_dim, indexer.dtype);
  const bool e4m3 = indexer.dtype == IC_DTYPE_E4M3;
  require_range(given.count, 0, int64_t{1} << 40, "args->new_keys->count");
  if (given.count > 0) {
    require_pointer(given.keys, "args->new_keys->keys");
    require_pointer(given.slots, "args->new_keys->slots");
    if (e4m3) require_pointer(given.scales, "args->new_keys->scales");
  }
  const auto element = static_cast<size_t>(dtype_bytes(indexer.dtype));
  require_aligned(given.keys, element, "args->new_keys->keys");
  require_aligned(given.slots, 8, "args->new_keys->slots");
  require_aligned(given.scales, 4, "args->new_keys->scales");
  if (!e4m3 && given.scales != nullptr)
    fail(IC_ERROR_INVALID_ARGUMENT, "args->new_keys->scales is given; %s keys have none", dtype_name(indexer.dtype));
  WriteKeysParams params{};
  params.keys = given.keys;
  params.key_stride_bytes = resolve_stride(given.key_stride_bytes, layout.bytes, "args->new_keys->key_stride_bytes");
  if ((static_cast<size_t>(params.key_stride_bytes) & (element - 1)) != 0)  // element sizes are powers of two
    fail(IC_ERROR_MISALIGNED, "args->new_keys->key_stride_bytes is %lld; it must be a multiple of %zu",
         static_cast<long long>(params.key_stride_bytes), element);
  params.scales = given.scales;
  params.slots = given.slots;
  params.count = given.count;
  params.dtype = indexer.dtype;
  params.head_dim = indexer.head_dim;
  params.pool = pool;
  params.fault = cache.fault();
  return params;
}

/// Everything that a call with device work needs beyond its plan.
ForwardRequest read_request(const ic_forward_args &given, const Publications::Plan &plan, RowRange part,
                            const ic_cache &cache) {
  const Batch &batch = cache.batch();
  ForwardRequest request;
  request.plan = plan;
  request.mode = given.mode;
  request.part = part;
  if (plan.full || given.new_keys != nullptr) {
    const PoolView keys = read_index_keys(given.keys, cache.indexer(), batch, "args->keys");
    if (given.new_keys != nullptr) request.new_keys = read_new_keys(given.new_keys, keys, cache);
    request.keys = keys;
  }
  if (plan.full && part.count > 0) {
    request.queries = read_queries(given.queries, cache.indexer(), "args->queries");
    require_aligned(given.hint, 4, "args->hint");
  }
  if (given.attention != nullptr) {
    if (cache.attention() == nullptr)
      fail(IC_ERROR_HANDLE_MISMATCH, "args->attention is given, but the cache was created without an ic_attention");
    request.attention =
        read_attention_args(given.attention, *cache.attention(), batch, "args->attention", "args->attention->kv");
  }
  if ((plan.full || given.attention != nullptr) && part.count > 0) {
    const size_t needed = cache.forward_workspace_size(part.count, batch.max_key_end);
    require_workspace(given.workspace, given.workspace_size, needed, "args->workspace");
  }
  request.workspace = given.workspace;
  request.workspace_size = given.workspace_size;
  if (cache.backend().host_visible()) {
    if (request.new_keys)
      check_slot_values(request.new_keys->slots, request.new_keys->count, request.keys, "args->keys");
    if (plan.full) check_pool_values(batch, part, request.keys, "args->keys");
    if (request.attention) check_pool_values(batch, part, request.attention->kv, "args->attention->kv");
  }
  return request;
}

}  // namespace

extern "C" ic_status ic_forward(ic_cache *cache, const ic_forward_args *args, ic_index_view *out, ic_stream stream) {
  return guarded([&] {
    require_pointer(cache, "cache");
    const ic_forward_args given = read_struct(args, "args");
    if (out != nullptr) require_output(out, "out");
    require_stream(cache->backend(), stream);
    require_flags(given.flags, 0, "args->flags");
    require_zero(given.reserved, "args->reserved");
    if (given.candidates != nullptr)
      fail(IC_ERROR_UNSUPPORTED, "args->candidates is given; scoring inside a candidate list is not implemented");
    const Publications::Plan plan = cache->publications().plan(given.layer, given.mode);
    const RowRange part = read_part(given.row_begin, given.row_count, cache->batch());
    if (!plan.full && given.new_keys == nullptr && given.attention == nullptr)
      cache->share(plan, given.mode);
    else
      cache->forward(read_request(given, plan, part, *cache), stream);
    if (out != nullptr) write_struct(out, cache->view(plan.source, part));
  });
}

extern "C" ic_status ic_forward_workspace_size(const ic_cache *cache, int32_t max_rows, int32_t max_key_end,
                                               size_t *size) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, cache->max_rows(), "max_rows");
    require_range(max_key_end, 0, kMaxKeyEnd, "max_key_end");
    *size = cache->forward_workspace_size(max_rows, max_key_end);
  });
}

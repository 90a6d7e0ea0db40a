// SPDX-License-Identifier: Apache-2.0
// ic_indexer_prepare_queries and ic_indexer_prepare_keys.
#include <cmath>

#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"
#include "core/dtype.h"
#include "core/operators.h"

namespace {

using namespace ic;

constexpr uint32_t kPrepareFlags =
    IC_PREPARE_ROPE_INTERLEAVED | IC_PREPARE_ROPE_LAST | IC_PREPARE_HADAMARD | IC_PREPARE_UE8M0;

void require_unset(const void *pointer, const char *name) {
  if (pointer != nullptr) fail(IC_ERROR_INVALID_ARGUMENT, "%s is given; this function does not use it", name);
}

/// What queries and keys have in common.
PrepareParams read_common(const ic_prepare_args &given, const ic_indexer &indexer, int32_t num_heads) {
  require_flags(given.flags, kPrepareFlags, "args->flags");
  require_zero(given.reserved, "args->reserved");
  require_zero(given.reserved2, "args->reserved2");
  require_range(given.count, 0, int64_t{1} << 40, "args->count");
  if (given.x_dtype != IC_DTYPE_F32 && given.x_dtype != IC_DTYPE_F16 && given.x_dtype != IC_DTYPE_BF16)
    fail(IC_ERROR_INVALID_ARGUMENT, "args->x_dtype is %d; allowed: IC_DTYPE_F32, _F16, _BF16", given.x_dtype);
  if ((given.flags & IC_PREPARE_UE8M0) != 0 && indexer.dtype != IC_DTYPE_E4M3)
    fail(IC_ERROR_INVALID_ARGUMENT, "args->flags has IC_PREPARE_UE8M0; the indexer's type is %s, which has no scales",
         dtype_name(indexer.dtype));
  if (given.count > 0) require_pointer(given.x, "args->x");
  require_aligned(given.x, static_cast<size_t>(dtype_bytes(given.x_dtype)), "args->x");
  require_range(given.rope_dim, 0, indexer.head_dim, "args->rope_dim");
  if (given.rope_dim % 2 != 0) fail(IC_ERROR_INVALID_ARGUMENT, "args->rope_dim is %d; it must be even", given.rope_dim);
  if (given.rope_dim > 0) {
    require_range(given.num_positions, 1, INT32_MAX, "args->num_positions");
    require_array(given.cos_table, 4, "args->cos_table");
    require_array(given.sin_table, 4, "args->sin_table");
    if (given.count > 0) require_array(given.positions, 4, "args->positions");
  }
  PrepareParams params{};
  params.x = given.x;
  params.x_row_stride = resolve_stride(given.x_row_stride, int64_t{num_heads} * indexer.head_dim, "args->x_row_stride");
  params.count = given.count;
  params.x_dtype = given.x_dtype;
  params.dtype = indexer.dtype;
  params.num_heads = num_heads;
  params.head_dim = indexer.head_dim;
  params.positions = given.rope_dim > 0 ? given.positions : nullptr;
  params.cos_table = given.cos_table;
  params.sin_table = given.sin_table;
  params.num_positions = given.num_positions;
  params.rope_dim = given.rope_dim;
  params.flags = given.flags;
  return params;
}

void check_positions(const PrepareParams &params) {
  if (params.positions == nullptr) return;
  for (int64_t i = 0; i < params.count; ++i)
    if (params.positions[i] < 0 || params.positions[i] >= params.num_positions)
      fail(IC_ERROR_OUT_OF_RANGE, "positions[%lld] is %d; the tables have rows 0 to %d", static_cast<long long>(i),
           params.positions[i], params.num_positions - 1);
}

}  // namespace

extern "C" ic_status ic_indexer_prepare_queries(const ic_indexer *indexer, const ic_prepare_args *args,
                                                ic_stream stream) {
  return guarded([&] {
    require_pointer(indexer, "indexer");
    Backend &backend = *indexer->context->backend;
    const ic_prepare_args given = read_struct(args, "args");
    require_stream(backend, stream);
    PrepareParams params = read_common(given, *indexer, indexer->num_heads);
    require_unset(given.norm_weight, "args->norm_weight");
    require_unset(given.norm_bias, "args->norm_bias");
    if (given.norm_eps != 0.0f)
      fail(IC_ERROR_INVALID_ARGUMENT, "args->norm_eps is %g; allowed: 0 (queries have no LayerNorm)",
           static_cast<double>(given.norm_eps));
    require_unset(given.pool, "args->pool");
    require_unset(given.slots, "args->slots");
    require_range(given.page_tokens, 0, 0, "args->page_tokens");
    if (given.count > 0) require_pointer(given.q_out, "args->q_out");
    require_aligned(given.q_out, static_cast<size_t>(dtype_bytes(indexer->dtype)), "args->q_out");
    if (indexer->dtype == IC_DTYPE_E4M3 && given.count > 0)
      require_array(given.q_scale_out, 4, "args->q_scale_out");
    else if (indexer->dtype != IC_DTYPE_E4M3)
      require_unset(given.q_scale_out, "args->q_scale_out");
    params.q_out = given.q_out;
    params.q_out_stride = resolve_stride(given.q_out_row_stride, int64_t{indexer->num_heads} * indexer->head_dim,
                                         "args->q_out_row_stride");
    params.q_scale_out = given.q_scale_out;
    if (backend.host_visible()) check_positions(params);
    if (given.count > 0) backend.prepare_queries(params, stream);
  });
}

extern "C" ic_status ic_indexer_prepare_keys(const ic_indexer *indexer, const ic_prepare_args *args, ic_stream stream) {
  return guarded([&] {
    require_pointer(indexer, "indexer");
    Backend &backend = *indexer->context->backend;
    const ic_prepare_args given = read_struct(args, "args");
    require_stream(backend, stream);
    PrepareParams params = read_common(given, *indexer, 1);
    require_unset(given.q_out, "args->q_out");
    require_unset(given.q_scale_out, "args->q_scale_out");
    require_range(given.q_out_row_stride, 0, 0, "args->q_out_row_stride");
    require_aligned(given.norm_weight, 4, "args->norm_weight");
    require_aligned(given.norm_bias, 4, "args->norm_bias");
    if (given.norm_weight == nullptr && given.norm_bias != nullptr)
      fail(IC_ERROR_NULL_POINTER, "args->norm_weight is NULL, but args->norm_bias is given");
    if (given.norm_weight != nullptr && !(given.norm_eps > 0.0f && std::isfinite(given.norm_eps)))
      fail(IC_ERROR_INVALID_ARGUMENT, "args->norm_eps is %g; allowed: finite and positive",
           static_cast<double>(given.norm_eps));
    if (given.count > 0) require_pointer(given.slots, "args->slots");
    require_aligned(given.slots, 8, "args->slots");
    params.norm_eps = given.norm_eps;
    params.norm_weight = given.norm_weight;
    params.norm_bias = given.norm_bias;
    params.pool = slot_pool_view(read_struct(given.pool, "args->pool"),
                                 index_key_layout(indexer->head_dim, indexer->dtype), given.page_tokens, "args->pool");
    params.slots = given.slots;
    if (backend.host_visible()) {
      check_positions(params);
      check_slot_values(params.slots, params.count, params.pool, "args->pool");
    }
    if (given.count > 0) backend.prepare_keys(params, stream);
  });
}

// SPDX-License-Identifier: Apache-2.0
// ic_indexer_*: creation, identity, scores.
#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"
#include "core/dtype.h"
#include "core/operators.h"

namespace {

using namespace ic;

void check(const ic_indexer_desc &desc, const Backend &backend) {
  require_flags(desc.flags, 0, "desc->flags");
  require_range(desc.num_heads, 1, 128, "desc->num_heads");
  if (desc.head_dim != 32 && desc.head_dim != 64 && desc.head_dim != 128)
    fail(IC_ERROR_INVALID_ARGUMENT, "desc->head_dim is %d; allowed: 32, 64, 128", desc.head_dim);
  if (desc.dtype == IC_DTYPE_FP4)
    fail(IC_ERROR_UNSUPPORTED, "desc->dtype is IC_DTYPE_FP4; fp4 keys are not implemented");
  if (dtype_bytes(desc.dtype) == 0)
    fail(IC_ERROR_INVALID_ARGUMENT, "desc->dtype is %d; allowed: IC_DTYPE_F32, _F16, _BF16, _E4M3", desc.dtype);
  if ((backend.indexer_dtypes() >> desc.dtype & 1u) == 0)
    fail(IC_ERROR_UNSUPPORTED, "desc->dtype is %s; this backend has no indexer for it", dtype_name(desc.dtype));
}

ScoreLimits limits_of(const ic_indexer &indexer, int32_t max_rows, int32_t max_key_end) noexcept {
  return {max_rows, max_key_end, indexer.num_heads, indexer.head_dim, indexer.dtype, 0};
}

}  // namespace

extern "C" ic_status ic_indexer_create(ic_context *context, const ic_indexer_desc *desc, ic_indexer **out) {
  return guarded([&] {
    require_array(out, alignof(void *), "out");
    *out = nullptr;
    require_pointer(context, "context");
    const ic_indexer_desc given = read_struct(desc, "desc");
    check(given, *context->backend);
    *out = new ic_indexer(context, given);
  });
}

extern "C" void ic_indexer_destroy(ic_indexer *indexer) { Ref<ic_indexer>::release(indexer); }

extern "C" ic_status ic_indexer_get_info(const ic_indexer *indexer, ic_indexer_info *info) {
  return guarded([&] {
    require_pointer(indexer, "indexer");
    require_output(info, "info");
    const Backend &backend = *indexer->context->backend;
    ic_indexer_info value{};
    value.numerics_id = backend.numerics_id(indexer->num_heads, indexer->head_dim, indexer->dtype);
    value.error_bound = backend.error_bound(indexer->num_heads, indexer->head_dim, indexer->dtype);
    value.key_bytes = index_key_bytes(indexer->head_dim, indexer->dtype);
    write_struct(info, value);
  });
}

extern "C" ic_status ic_indexer_scores_workspace_size(const ic_indexer *indexer, int32_t max_rows, int32_t max_key_end,
                                                      size_t *size) {
  return guarded([&] {
    require_pointer(indexer, "indexer");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, INT32_MAX, "max_rows");
    require_range(max_key_end, 0, kMaxKeyEnd, "max_key_end");
    *size = indexer->context->backend->scores_workspace_size(limits_of(*indexer, max_rows, max_key_end));
  });
}

extern "C" ic_status ic_indexer_scores(const ic_indexer *indexer, const ic_batch *batch, const ic_scores_args *args,
                                       ic_stream stream) {
  return guarded([&] {
    require_pointer(indexer, "indexer");
    Backend &backend = *indexer->context->backend;
    const Batch rows = read_batch(batch, INT32_MAX);
    const ic_scores_args given = read_struct(args, "args");
    require_stream(backend, stream);
    require_flags(given.flags, IC_SCORES_CLEAN, "args->flags");
    require_zero(given.reserved, "args->reserved");
    const RowRange part = read_part(given.row_begin, given.row_count, rows);
    require_range(given.first_column, 0, rows.max_key_end, "args->first_column");
    require_range(given.num_columns, 0, kMaxKeyEnd, "args->num_columns");
    ScoresParams params{};
    params.rows = rows.rows(part, nullptr);
    params.query = read_queries(given.queries, *indexer, "args->queries");
    params.keys = read_index_keys(given.keys, *indexer, rows, "args->keys");
    params.first_column = given.first_column;
    params.num_columns = given.num_columns == 0 ? rows.max_key_end - given.first_column : given.num_columns;
    params.score_stride = resolve_stride(given.score_stride, params.num_columns, "args->score_stride");
    params.others = (given.flags & IC_SCORES_CLEAN) != 0 ? OtherColumns::kClean : OtherColumns::kKeep;
    if (part.count > 0 && params.num_columns > 0) require_pointer(given.scores, "args->scores");
    require_aligned(given.scores, 4, "args->scores");
    params.scores = given.scores;
    const size_t needed = backend.scores_workspace_size(limits_of(*indexer, part.count, rows.max_key_end));
    require_workspace(given.workspace, given.workspace_size, needed, "args->workspace");
    params.workspace = given.workspace;
    params.workspace_size = given.workspace_size;
    if (backend.host_visible()) {
      check_batch_values(rows);
      check_pool_values(rows, part, params.keys, "args->keys");
    }
    if (part.count > 0 && params.num_columns > 0) backend.scores(params, stream);
  });
}

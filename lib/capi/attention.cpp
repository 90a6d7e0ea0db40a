// SPDX-License-Identifier: Apache-2.0
// ic_attention_*: creation, attention alone, and its mass.
#include <cmath>

#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"
#include "core/dtype.h"
#include "core/operators.h"

namespace {

using namespace ic;

void require_float_dtype(int32_t dtype, const char *name) {
  if (dtype != IC_DTYPE_F32 && dtype != IC_DTYPE_BF16)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s is %d; allowed: IC_DTYPE_F32, IC_DTYPE_BF16", name, dtype);
}

void require_width(int32_t width, int32_t lowest, int32_t highest, const char *name) {
  if (width < lowest || width > highest || width % 16 != 0)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s is %d; allowed: multiples of 16 from %d to %d", name, width, lowest, highest);
}

void check(const ic_attention_desc &desc, const Backend &backend) {
  require_flags(desc.flags, 0, "desc->flags");
  require_range(desc.num_heads, 1, 1024, "desc->num_heads");
  require_width(desc.d_latent, 16, 1024, "desc->d_latent");
  require_width(desc.d_rope, 0, 256, "desc->d_rope");
  if (desc.kv_dtype != IC_DTYPE_F32 && desc.kv_dtype != IC_DTYPE_BF16 && desc.kv_dtype != IC_DTYPE_E4M3)
    fail(IC_ERROR_INVALID_ARGUMENT, "desc->kv_dtype is %d; allowed: IC_DTYPE_F32, _BF16, _E4M3", desc.kv_dtype);
  require_float_dtype(desc.q_dtype, "desc->q_dtype");
  if (desc.out_dtype != 0) require_float_dtype(desc.out_dtype, "desc->out_dtype");
  if (desc.kv_dtype == IC_DTYPE_E4M3 && (desc.d_latent != 512 || desc.d_rope != 64))
    fail(IC_ERROR_INVALID_ARGUMENT,
         "desc->kv_dtype is e4m3 with d_latent %d, d_rope %d; 656-byte tokens have 512 and 64", desc.d_latent,
         desc.d_rope);
  if (!(desc.softmax_scale > 0.0f) || !std::isfinite(desc.softmax_scale))
    fail(IC_ERROR_INVALID_ARGUMENT, "desc->softmax_scale is %g; allowed: finite and positive",
         static_cast<double>(desc.softmax_scale));
  if ((backend.attention_dtypes() >> desc.kv_dtype & 1u) == 0)
    fail(IC_ERROR_UNSUPPORTED, "desc->kv_dtype is %s; this backend has no attention for it", dtype_name(desc.kv_dtype));
}

/// The batch of a call on indices that are not from a cache; without one, as many rows as there are lists.
Batch read_rows(const ic_batch *batch, int32_t row_begin, const ic_index_view &view) {
  Batch rows;
  if (batch != nullptr) {
    rows = read_batch(batch, INT32_MAX);
  } else {
    if (view.kind != IC_INDEX_SLOT) fail(IC_ERROR_NULL_POINTER, "batch is NULL; logical indices need one");
    rows.num_rows = view.num_rows;
    rows.num_seqs = 1;
  }
  require_range(row_begin, 0, batch == nullptr ? 0 : rows.num_rows, "row_begin");
  if (view.num_rows > rows.num_rows - row_begin)
    fail(IC_ERROR_INVALID_ARGUMENT, "indices->num_rows is %d from row %d; the batch has %d rows", view.num_rows,
         row_begin, rows.num_rows);
  return rows;
}

void set_lists(AttendParams *params, const Batch &batch, int32_t row_begin, const ic_index_view &view) {
  params->rows = batch.rows({row_begin, view.num_rows}, nullptr);
  params->indices = view.indices;
  params->index_stride = view.row_stride;
  params->lengths = view.lengths;
  params->num_indices = view.k;
  params->slots = view.kind == IC_INDEX_SLOT ? 1 : 0;
}

AttendLimits limits_of(const ic_attention &attention, int32_t max_rows, int32_t max_k) noexcept {
  return {max_rows, attention.num_heads, attention.d_latent, attention.d_rope, attention.kv_dtype, max_k};
}

}  // namespace

extern "C" ic_status ic_attention_create(ic_context *context, const ic_attention_desc *desc, ic_attention **out) {
  return guarded([&] {
    require_array(out, alignof(void *), "out");
    *out = nullptr;
    require_pointer(context, "context");
    const ic_attention_desc given = read_struct(desc, "desc");
    check(given, *context->backend);
    *out = new ic_attention(context, given);
  });
}

extern "C" void ic_attention_destroy(ic_attention *attention) { Ref<ic_attention>::release(attention); }

extern "C" ic_status ic_attention_workspace_size(const ic_attention *attention, int32_t max_rows, int32_t max_k,
                                                 size_t *size) {
  return guarded([&] {
    require_pointer(attention, "attention");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, INT32_MAX, "max_rows");
    require_range(max_k, 1, 1 << 24, "max_k");
    *size = attention->context->backend->attend_workspace_size(limits_of(*attention, max_rows, max_k));
  });
}

extern "C" ic_status ic_attention_run(const ic_attention *attention, const ic_batch *batch, int32_t row_begin,
                                      const ic_index_view *indices, const ic_attention_args *args, void *workspace,
                                      size_t workspace_size, ic_stream stream) {
  return guarded([&] {
    require_pointer(attention, "attention");
    Backend &backend = *attention->context->backend;
    const ic_index_view view = read_index_view(indices, "indices");
    require_stream(backend, stream);
    const Batch rows = read_rows(batch, row_begin, view);
    AttendParams params = read_attention_args(args, *attention, rows, "args", "args->kv");
    set_lists(&params, rows, row_begin, view);
    const size_t needed = backend.attend_workspace_size(limits_of(*attention, view.num_rows, view.k));
    require_workspace(workspace, workspace_size, needed, "workspace");
    params.workspace = workspace;
    params.workspace_size = workspace_size;
    if (view.num_rows > 0) backend.attend(params, stream);
  });
}

extern "C" ic_status ic_attention_mass_workspace_size(const ic_attention *attention, int32_t max_rows, int32_t max_k,
                                                      size_t *size) {
  return guarded([&] {
    require_pointer(attention, "attention");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, INT32_MAX, "max_rows");
    require_range(max_k, 1, 1 << 24, "max_k");
    *size = attention->context->backend->attention_mass_workspace_size(limits_of(*attention, max_rows, max_k));
  });
}

extern "C" ic_status ic_attention_mass(const ic_attention *attention, const ic_batch *batch, int32_t row_begin,
                                       const ic_index_view *indices, const ic_mass_args *args, void *workspace,
                                       size_t workspace_size, ic_stream stream) {
  return guarded([&] {
    require_pointer(attention, "attention");
    Backend &backend = *attention->context->backend;
    const ic_index_view view = read_index_view(indices, "indices");
    require_stream(backend, stream);
    const Batch rows = read_rows(batch, row_begin, view);
    AttentionMassParams params = read_mass_args(args, *attention, rows, view.k, "args", "args->kv");
    set_lists(&params.attend, rows, row_begin, view);
    const size_t needed = backend.attention_mass_workspace_size(limits_of(*attention, view.num_rows, view.k));
    require_workspace(workspace, workspace_size, needed, "workspace");
    params.attend.workspace = workspace;
    params.attend.workspace_size = workspace_size;
    if (view.num_rows > 0) backend.attention_mass(params, stream);
  });
}

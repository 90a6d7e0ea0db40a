// SPDX-License-Identifier: Apache-2.0
// ic_topk_*: creation, selection from scores, merging.
#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"
#include "core/operators.h"

namespace {

using namespace ic;

constexpr int32_t kMaxParts = 1024;

void check(const ic_topk_desc &desc, const Backend &backend) {
  require_flags(desc.flags, 0, "desc->flags");
  require_zero(desc.reserved, "desc->reserved");
  require_range(desc.order, 0, IC_ORDER_ANY, "desc->order");
  if (desc.force_first != 0 || desc.force_last != 0)
    fail(IC_ERROR_UNSUPPORTED,
         "desc->force_first is %d, force_last %d; forced entries are not implemented (allowed: 0)", desc.force_first,
         desc.force_last);
  require_range(desc.k, 1, 4096, "desc->k");
  if (backend.max_k() < desc.k)
    fail(IC_ERROR_UNSUPPORTED, "this backend selects at most %d keys; desc->k is %d", backend.max_k(), desc.k);
}

SelectionOut read_out(const ic_topk &topk, int32_t rows, int32_t *indices, int64_t index_stride, int32_t *lengths,
                      float *scores) {
  if (rows > 0) {
    require_pointer(indices, "args->indices");
    require_pointer(lengths, "args->lengths");
  }
  require_aligned(indices, 4, "args->indices");
  require_aligned(lengths, 4, "args->lengths");
  require_aligned(scores, 4, "args->selected_scores");
  SelectionOut out{};
  out.indices = indices;
  out.lengths = lengths;
  out.scores = scores;
  out.index_stride = resolve_stride(index_stride, topk.k_padded, "args->index_stride");
  out.k = topk.k;
  out.k_padded = topk.k_padded;
  out.order = topk.order;
  return out;
}

}  // namespace

extern "C" ic_status ic_topk_create(ic_context *context, const ic_topk_desc *desc, ic_topk **out) {
  return guarded([&] {
    require_array(out, alignof(void *), "out");
    *out = nullptr;
    require_pointer(context, "context");
    const ic_topk_desc given = read_struct(desc, "desc");
    check(given, *context->backend);
    *out = new ic_topk(context, given);
  });
}

extern "C" void ic_topk_destroy(ic_topk *topk) { Ref<ic_topk>::release(topk); }

extern "C" ic_status ic_topk_select_workspace_size(const ic_topk *topk, int32_t max_rows, int32_t max_end,
                                                   size_t *size) {
  return guarded([&] {
    require_pointer(topk, "topk");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, INT32_MAX, "max_rows");
    require_range(max_end, 0, kMaxKeyEnd, "max_end");
    *size = topk->context->backend->select_workspace_size(max_rows, max_end, topk->k);
  });
}

extern "C" ic_status ic_topk_select(const ic_topk *topk, const ic_select_args *args, ic_stream stream) {
  return guarded([&] {
    require_pointer(topk, "topk");
    Backend &backend = *topk->context->backend;
    const ic_select_args given = read_struct(args, "args");
    require_stream(backend, stream);
    require_range(given.num_rows, 0, INT32_MAX, "args->num_rows");
    require_range(given.max_end, 0, kMaxKeyEnd, "args->max_end");
    if (given.num_rows > 0) {
      if (given.max_end > 0) require_pointer(given.scores, "args->scores");
      require_pointer(given.end, "args->end");
    }
    require_aligned(given.scores, 4, "args->scores");
    require_aligned(given.begin, 4, "args->begin");
    require_aligned(given.end, 4, "args->end");
    SelectParams params{};
    params.scores = given.scores;
    params.score_stride = resolve_stride(given.score_stride, given.max_end, "args->score_stride");
    params.begin = given.begin;
    params.end = given.end;
    params.rows = given.num_rows;
    params.max_end = given.max_end;
    params.out =
        read_out(*topk, given.num_rows, given.indices, given.index_stride, given.lengths, given.selected_scores);
    const size_t needed = backend.select_workspace_size(given.num_rows, given.max_end, topk->k);
    require_workspace(given.workspace, given.workspace_size, needed, "args->workspace");
    params.workspace = given.workspace;
    params.workspace_size = given.workspace_size;
    if (backend.host_visible())
      for (int32_t row = 0; row < given.num_rows; ++row) {
        if (given.end[row] > given.max_end)
          fail(IC_ERROR_OUT_OF_RANGE, "end[%d] is %d; args->max_end is %d", row, given.end[row], given.max_end);
        if (given.begin != nullptr && given.begin[row] < 0)
          fail(IC_ERROR_OUT_OF_RANGE, "begin[%d] is %d; allowed: at least 0", row, given.begin[row]);
      }
    if (given.num_rows > 0) backend.select(params, stream);
  });
}

extern "C" ic_status ic_topk_merge_workspace_size(const ic_topk *topk, int32_t max_rows, int32_t max_parts,
                                                  size_t *size) {
  return guarded([&] {
    require_pointer(topk, "topk");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, INT32_MAX, "max_rows");
    require_range(max_parts, 1, kMaxParts, "max_parts");
    *size = topk->context->backend->merge_workspace_size(max_rows, max_parts, topk->k);
  });
}

extern "C" ic_status ic_topk_merge(const ic_topk *topk, const ic_merge_args *args, ic_stream stream) {
  return guarded([&] {
    require_pointer(topk, "topk");
    Backend &backend = *topk->context->backend;
    const ic_merge_args given = read_struct(args, "args");
    require_stream(backend, stream);
    require_range(given.num_rows, 0, INT32_MAX, "args->num_rows");
    require_range(given.num_parts, 1, kMaxParts, "args->num_parts");
    if (given.num_rows > 0) {
      require_pointer(given.in_indices, "args->in_indices");
      require_pointer(given.in_scores, "args->in_scores");
      require_pointer(given.in_lengths, "args->in_lengths");
    }
    require_aligned(given.in_indices, 4, "args->in_indices");
    require_aligned(given.in_scores, 4, "args->in_scores");
    require_aligned(given.in_lengths, 4, "args->in_lengths");
    MergeParams params{};
    params.indices = given.in_indices;
    params.scores = given.in_scores;
    params.lengths = given.in_lengths;
    params.index_stride = resolve_stride(given.in_stride, topk->k_padded, "args->in_stride");
    params.part_stride = resolve_stride(given.in_part_stride, given.num_rows * params.index_stride,
                                        "args->in_part_stride", int64_t{1} << 52);
    params.length_stride = given.num_rows;
    params.parts = given.num_parts;
    params.rows = given.num_rows;
    params.out =
        read_out(*topk, given.num_rows, given.indices, given.index_stride, given.lengths, given.selected_scores);
    const size_t needed = backend.merge_workspace_size(given.num_rows, given.num_parts, topk->k);
    require_workspace(given.workspace, given.workspace_size, needed, "args->workspace");
    params.workspace = given.workspace;
    params.workspace_size = given.workspace_size;
    if (given.num_rows > 0) backend.merge(params, stream);
  });
}

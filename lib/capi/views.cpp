// SPDX-License-Identifier: Apache-2.0
// Checks of batches, queries, pools and attention arguments.
#include "capi/views.h"

#include "capi/validate.h"
#include "core/dtype.h"

namespace ic {

Batch read_batch(const ic_batch *batch, int32_t max_rows) {
  const ic_batch given = read_struct(batch, "batch");
  if ((given.flags & IC_BATCH_TREE_DRAFT) != 0)
    fail(IC_ERROR_UNSUPPORTED,
         "batch->flags has IC_BATCH_TREE_DRAFT; a row sees a range of keys, tree-shaped drafts are not implemented");
  require_flags(given.flags, IC_BATCH_KEEP, "batch->flags");
  require_range(given.num_rows, 0, max_rows, "batch->num_rows");
  require_range(given.num_seqs, given.num_rows > 0 ? 1 : 0, INT32_MAX, "batch->num_seqs");
  require_range(given.max_key_end, 0, kMaxKeyEnd, "batch->max_key_end");
  require_range(given.num_block_tables, 0, kMaxBlockTables, "batch->num_block_tables");
  if (given.unit_tokens != 0 && given.unit_tokens != 1)
    fail(IC_ERROR_UNSUPPORTED, "batch->unit_tokens is %d; pooled keys are not implemented (allowed: 0 or 1)",
         given.unit_tokens);
  if ((given.interleave != 0 && given.interleave != 1) || given.interleave_rank != 0)
    fail(IC_ERROR_UNSUPPORTED,
         "batch->interleave is %d, interleave_rank %d; keys interleaved over ranks are not implemented (allowed: 0 or "
         "1, rank 0)",
         given.interleave, given.interleave_rank);
  if (given.num_rows > 0) require_pointer(given.key_end, "batch->key_end");
  require_aligned(given.row_seq, 4, "batch->row_seq");
  require_aligned(given.key_begin, 4, "batch->key_begin");
  require_aligned(given.key_end, 4, "batch->key_end");
  require_aligned(given.key_offsets, 8, "batch->key_offsets");
  if (given.num_block_tables > 0) require_array(given.block_tables, alignof(ic_block_table), "batch->block_tables");

  Batch out;
  out.num_rows = given.num_rows;
  out.num_seqs = given.num_seqs;
  out.max_key_end = given.max_key_end;
  out.num_block_tables = given.num_block_tables;
  out.row_seq = given.row_seq;
  out.key_begin = given.key_begin;
  out.key_end = given.key_end;
  out.key_offsets = given.key_offsets;
  out.capture_id = given.capture_id;
  out.keep = (given.flags & IC_BATCH_KEEP) != 0;
  for (int32_t i = 0; i < given.num_block_tables; ++i) {
    static constexpr const char *kNames[kMaxBlockTables] = {
        "batch->block_tables[0]", "batch->block_tables[1]", "batch->block_tables[2]", "batch->block_tables[3]",
        "batch->block_tables[4]", "batch->block_tables[5]", "batch->block_tables[6]", "batch->block_tables[7]"};
    const char *name = kNames[i];
    ic_block_table table = given.block_tables[i];
    if (!is_page_size(table.page_tokens))
      fail(IC_ERROR_INVALID_ARGUMENT, "%s.page_tokens is %d; allowed: 1, 16, 32, 64, 128", name, table.page_tokens);
    require_range(table.num_blocks, 0, INT32_MAX, {name, "num_blocks", "."});
    if (table.num_blocks > 0) require_pointer(table.pages, {name, "pages", "."});
    require_aligned(table.pages, 4, {name, "pages", "."});
    table.stride = resolve_stride(table.stride, table.num_blocks, {name, "stride", "."});
    out.block_tables[static_cast<size_t>(i)] = table;
  }
  return out;
}

RowRange read_part(int32_t row_begin, int32_t row_count, const Batch &batch) {
  require_range(row_begin, 0, batch.num_rows, "args->row_begin");
  const int32_t rest = batch.num_rows - row_begin;
  if (row_count == IC_ALL_ROWS) return {row_begin, rest};
  if (row_count < 0 || row_count > rest)
    fail(IC_ERROR_INVALID_ARGUMENT, "args->row_count is %d from row %d; allowed: 0 to %d, or IC_ALL_ROWS (-1)",
         row_count, row_begin, rest);
  return {row_begin, row_count};
}

QueryView read_queries(const ic_queries *queries, const ic_indexer &indexer, const char *name) {
  const ic_queries given = read_struct(queries, name);
  require_array(given.q, static_cast<size_t>(dtype_bytes(indexer.dtype)), {name, "q"});
  require_array(given.w, 4, {name, "w"});
  require_aligned(given.q_scale, 4, {name, "q_scale"});
  QueryView view{};
  view.q = given.q;
  view.q_row_stride =
      resolve_stride(given.q_row_stride, int64_t{indexer.num_heads} * indexer.head_dim, {name, "q_row_stride"});
  view.w = given.w;
  view.w_row_stride = resolve_stride(given.w_row_stride, indexer.num_heads, {name, "w_row_stride"});
  view.q_scale = given.q_scale;
  view.q_scale_row_stride = resolve_stride(given.q_scale_row_stride, indexer.num_heads, {name, "q_scale_row_stride"});
  view.num_heads = indexer.num_heads;
  view.head_dim = indexer.head_dim;
  view.dtype = indexer.dtype;
  return view;
}

PoolView read_index_keys(const ic_pool *pool, const ic_indexer &indexer, const Batch &batch, const char *name) {
  return pool_view(read_struct(pool, name), index_key_layout(indexer.head_dim, indexer.dtype), batch, name);
}

namespace {

/// What attention reads: queries, pool and sink. The arguments' structs have the same fields for that.
template <class Args>
AttendParams read_attention_inputs(const Args &given, const ic_attention &attention, const Batch &batch,
                                   const char *name, const char *kv_name) {
  const int64_t q_width = int64_t{attention.num_heads} * (attention.d_latent + attention.d_rope);
  require_array(given.q, static_cast<size_t>(dtype_bytes(attention.q_dtype)), {name, "q"});
  require_aligned(given.sink, 4, {name, "sink"});
  AttendParams params{};
  params.q = given.q;
  params.q_row_stride = resolve_stride(given.q_row_stride, q_width, {name, "q_row_stride"});
  params.q_dtype = attention.q_dtype;
  params.kv = pool_view(read_struct(given.kv, kv_name),
                        kv_layout(attention.d_latent, attention.d_rope, attention.kv_dtype), batch, kv_name);
  params.kv_dtype = attention.kv_dtype;
  params.num_heads = attention.num_heads;
  params.d_latent = attention.d_latent;
  params.d_rope = attention.d_rope;
  params.softmax_scale = attention.softmax_scale;
  params.sink = given.sink;
  return params;
}

}  // namespace

AttendParams read_attention_args(const ic_attention_args *args, const ic_attention &attention, const Batch &batch,
                                 const char *name, const char *kv_name) {
  const ic_attention_args given = read_struct(args, name);
  const int64_t out_width = int64_t{attention.num_heads} * attention.d_latent;
  AttendParams params = read_attention_inputs(given, attention, batch, name, kv_name);
  require_array(given.out, static_cast<size_t>(dtype_bytes(attention.out_dtype)), {name, "out"});
  require_aligned(given.lse, 4, {name, "lse"});
  params.out_dtype = attention.out_dtype;
  params.out = given.out;
  params.out_row_stride = resolve_stride(given.out_row_stride, out_width, {name, "out_row_stride"});
  params.lse = given.lse;
  params.lse_row_stride = resolve_stride(given.lse_row_stride, attention.num_heads, {name, "lse_row_stride"});
  return params;
}

AttentionMassParams read_mass_args(const ic_mass_args *args, const ic_attention &attention, const Batch &batch,
                                   int32_t k, const char *name, const char *kv_name) {
  const ic_mass_args given = read_struct(args, name);
  AttentionMassParams params{};
  params.attend = read_attention_inputs(given, attention, batch, name, kv_name);
  require_array(given.mass, 4, {name, "mass"});
  params.mass = given.mass;
  params.mass_row_stride = resolve_stride(given.mass_row_stride, k, {name, "mass_row_stride"});
  return params;
}

ic_index_view read_index_view(const ic_index_view *view, const char *name) {
  const ic_index_view given = read_struct(view, name);
  require_range(given.num_rows, 0, INT32_MAX, {name, "num_rows"});
  require_range(given.k, 1, 1 << 24, {name, "k"});
  if (given.kind != IC_INDEX_LOGICAL && given.kind != IC_INDEX_SLOT)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s->kind is %d; allowed: IC_INDEX_LOGICAL, IC_INDEX_SLOT", name, given.kind);
  if (given.num_rows > 0) {
    require_pointer(given.indices, {name, "indices"});
    require_pointer(given.lengths, {name, "lengths"});
  }
  require_aligned(given.indices, 4, {name, "indices"});
  require_aligned(given.lengths, 4, {name, "lengths"});
  require_range(given.row_stride, given.k, INT32_MAX, {name, "row_stride"});
  return given;
}

}  // namespace ic

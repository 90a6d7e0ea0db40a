// SPDX-License-Identifier: Apache-2.0
// The plain data that every operation hands to a backend: checked views of the caller's memory, the shape beside each
// pointer. Both backends take the same structs, so an operation is described once.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace ic {

using Stream = CUstream_st *;

/// One vector per key: index keys or latent KV. Contiguous when page_tokens is 0.
struct PoolView {
  uint8_t *data;         // contiguous: [capacity] vectors; paged: [capacity] pages
  float *scales;         // [capacity], contiguous e4m3 index keys only; paged scales lie behind the page's vectors
  int64_t stride_bytes;  // from one vector (contiguous) or page (paged) to the next
  int64_t capacity;      // vectors or pages
  int32_t page_tokens;   // 0 = contiguous
  int32_t num_blocks;    // columns of the block table; a key beyond them is not there
  const int32_t *block_table;  // [num_seqs, block_table_stride], entries outside [0, capacity) are not there
  int64_t block_table_stride;  // entries
  const int64_t *key_offsets;  // [num_seqs] contiguous: vector that holds key 0 of a sequence; null = 0
};

/// The query rows of one call. Row r sees the keys [key_begin[r], key_end[r]) of sequence seq[r].
struct RowsView {
  int32_t count;
  int32_t num_seqs;
  int32_t max_key_end;       // a key_end above it makes the row empty and sets *fault
  const int32_t *seq;        // [count]; null = all 0; outside [0, num_seqs): empty row and *fault
  const int32_t *key_begin;  // [count]; null = all 0
  const int32_t *key_end;    // [count]
  uint32_t *fault;           // sticky IC_FAULT_* bits, ORed; null = not reported
};

/// Indexer queries of the same rows.
struct QueryView {
  const void *q;               // [count, num_heads, head_dim] of dtype, heads dense
  int64_t q_row_stride;        // elements
  const float *w;              // [count, num_heads]
  int64_t w_row_stride;        // elements
  const float *q_scale;        // [count, num_heads]; null = none
  int64_t q_scale_row_stride;  // elements
  int32_t num_heads;
  int32_t head_dim;
  int32_t dtype;  // IC_DTYPE_*: of q and of the keys
  int32_t reserved;
};

/// Where a selection goes. k_padded entries are written in every row.
struct SelectionOut {
  int32_t *indices;      // [rows, index_stride]
  int32_t *lengths;      // [rows]
  float *scores;         // [rows, index_stride]; null = not wanted. Behind the length: -inf
  int64_t index_stride;  // elements, >= k_padded
  int32_t k;
  int32_t k_padded;  // k rounded up to 128
  int32_t order;     // IC_ORDER_*
  uint32_t flags;    // IC_TOPK_*
};

/// What becomes of the columns of a row that hold no visible key.
enum class OtherColumns : int32_t {
  kKeep = 0,        // stay as they are
  kClean = 1,       // -inf
  kMarkAbsent = 2,  // keys inside the row's range that are not there become NaN, the rest stays: for a selection
};

/// Scores of every visible key into a caller's matrix: scores[r][s - first_column].
struct ScoresParams {
  RowsView rows;
  QueryView query;
  PoolView keys;
  float *scores;         // [count, num_columns]
  int64_t score_stride;  // elements
  int32_t first_column;  // position that column 0 stands for
  int32_t num_columns;
  OtherColumns others;
  int32_t reserved;
  void *workspace;
  size_t workspace_size;
};

/// Score and select in one pass: what a Full layer runs.
struct ScoreSelectParams {
  RowsView rows;
  QueryView query;
  PoolView keys;
  SelectionOut out;
  void *workspace;
  size_t workspace_size;
};

/// Selection from a score matrix. Row r offers the columns [begin[r], end[r]); its indices are column numbers.
struct SelectParams {
  const float *scores;   // [rows, score_stride]
  int64_t score_stride;  // elements
  const int32_t *begin;  // [rows]; null = all 0
  const int32_t *end;    // [rows]
  int32_t rows;
  int32_t max_end;  // an end above it makes the row empty
  SelectionOut out;
  void *workspace;
  size_t workspace_size;
};

/// Selection from per-part selections of disjoint keys (tensor- or context-parallel ranks).
struct MergeParams {
  const int32_t *indices;  // [parts, rows, index_stride]
  const float *scores;     // same shape
  const int32_t *lengths;  // [parts, rows]
  int64_t index_stride;    // elements between rows
  int64_t part_stride;     // elements between parts of indices and scores
  int64_t length_stride;   // elements between parts of lengths
  int32_t parts;
  int32_t rows;
  SelectionOut out;
  void *workspace;
  size_t workspace_size;
};

/// Sparse MLA over selected keys.
struct AttendParams {
  RowsView rows;           // key_end unused: visibility is the index list
  const int32_t *indices;  // [count, index_stride]: logical positions, or slots when slots = 1
  int64_t index_stride;
  const int32_t *lengths;  // [count]; null = num_indices each
  int32_t num_indices;     // entries a row may have
  int32_t slots;           // 1: indices are physical slots (page * page_tokens + offset, or a flat vector number)
  const void *q;           // [count, num_heads, d_latent + d_rope]
  int64_t q_row_stride;    // elements
  int32_t q_dtype;         // IC_DTYPE_F32 or IC_DTYPE_BF16
  int32_t out_dtype;       // likewise
  PoolView kv;             // tokens of d_latent + d_rope elements, or 656-byte tokens
  int32_t kv_dtype;        // IC_DTYPE_F32, IC_DTYPE_BF16 or IC_DTYPE_E4M3 (the 656-byte layout)
  int32_t num_heads;
  int32_t d_latent;
  int32_t d_rope;
  float softmax_scale;
  int32_t reserved;
  const float *sink;       // [num_heads]; null = none. Joins the denominator, not the LSE
  void *out;               // [count, num_heads, d_latent] of out_dtype
  int64_t out_row_stride;  // elements
  float *lse;              // [count, num_heads], natural log; null = not wanted
  int64_t lse_row_stride;  // elements
  void *workspace;
  size_t workspace_size;
};

/// How much of its attention each row gives to every entry of its list.
struct AttentionMassParams {
  AttendParams attend;      // out and lse are not looked at
  float *mass;              // [count, mass_row_stride]; entries [0, num_indices) of every row are written
  int64_t mass_row_stride;  // elements, >= num_indices
};

/// Rotary embedding and the other steps between a projection and the indexer (§ Preparation in the header).
struct PrepareParams {
  const void *x;         // queries [count, num_heads, head_dim]; keys [count, head_dim]; of x_dtype
  int64_t x_row_stride;  // elements
  int64_t count;         // rows
  int32_t x_dtype;       // IC_DTYPE_F32, IC_DTYPE_BF16 or IC_DTYPE_F16
  int32_t dtype;         // IC_DTYPE_* to be written
  int32_t num_heads;     // 1 for keys
  int32_t head_dim;
  const int32_t *positions;  // [count] row of the cos/sin tables
  const float *cos_table;    // [num_positions, rope_dim / 2]
  const float *sin_table;    // likewise
  int32_t num_positions;
  int32_t rope_dim;  // 0 = no rotation
  uint32_t flags;    // IC_PREPARE_*
  float norm_eps;
  const float *norm_weight;  // [head_dim]; null = no LayerNorm (keys only)
  const float *norm_bias;    // [head_dim]; null = 0
  uint32_t *fault;
  // queries
  void *q_out;           // [count, num_heads, head_dim] of dtype, rows q_out_stride apart
  int64_t q_out_stride;  // elements
  float *q_scale_out;    // [count, num_heads], e4m3 only
  // keys: into the pool at slots
  PoolView pool;
  const int64_t *slots;  // [count]; -1 = skip
};

/// Ready keys into a pool.
struct WriteKeysParams {
  const void *keys;  // [count, head_dim] of dtype
  int64_t key_stride_bytes;
  const float *scales;   // [count], e4m3 only
  const int64_t *slots;  // [count]; -1 = skip
  int64_t count;
  int32_t dtype;
  int32_t head_dim;
  PoolView pool;
  uint32_t *fault;
};

/// Rows of one publication that a consumer may use: their lengths, 0 where the stamp is of another source or epoch.
struct CheckStampsParams {
  const int32_t *lengths;  // [count]
  const uint64_t *stamps;  // [count]: source layer in the high half, epoch in the low one
  const uint32_t *epoch;   // the caller's word
  int32_t source_layer;
  int32_t count;
  int32_t *checked_lengths;  // [count]
  uint32_t *fault;
};

/// Marks rows as published by a source in the current epoch.
struct StampParams {
  uint64_t *stamps;  // [count]
  const uint32_t *epoch;
  int32_t source_layer;
  int32_t count;
};

/// Rows of a selection, moved: destination row r = source row rows[r], or an empty row.
struct GatherRowsParams {
  const int32_t *rows;  // [count]; null = r itself. -1 = empty row; outside [-1, source_rows): empty and *fault
  int32_t count;
  int32_t source_rows;
  int32_t width;           // entries per row that are copied
  int32_t padded_width;    // entries per row that are written: -1 (scores: -inf) behind width
  const int32_t *indices;  // [source_rows, index_stride]
  int64_t index_stride;
  const int32_t *lengths;  // [source_rows]
  const float *scores;     // [source_rows, index_stride]; null = none
  int32_t *out_indices;    // [count, out_stride]
  int64_t out_stride;
  int32_t *out_lengths;  // [count]
  float *out_scores;     // [count, out_stride]; null = none
  uint32_t *fault;
};

/// A publication as a block that leaves the library: a header of 64 bytes, int32 lengths[count], int32 indices[count,
/// k] and, when they are given, float scores[count, k].
struct ExportParams {
  uint32_t header[16];
  const int32_t *indices;  // [count, index_stride]
  int64_t index_stride;
  const int32_t *lengths;  // [count]
  const float *scores;     // [count, index_stride]; null = none
  int32_t count;
  int32_t k;
  void *block;  // where to; aligned to 8
};

/// What is behind the header of a block, into a publication. A row that is no ascending list inside the row's range
/// becomes empty and sets *rows.fault.
struct ImportParams {
  RowsView rows;
  const void *body;  // host memory: as in ExportParams
  int32_t k;
  int32_t k_padded;  // entries written per row
  int32_t *indices;  // [count, k_padded]
  int32_t *lengths;  // [count]
  float *scores;     // [count, k_padded]; null = the block's are not wanted
};

/// Logical positions to slots.
struct RemapParams {
  RowsView rows;           // key ranges unused
  const int32_t *indices;  // [count, index_stride]
  int64_t index_stride;
  const int32_t *lengths;      // [count]
  int32_t k_padded;            // entries written per row
  int32_t page_tokens;         // 0 = flat
  const int32_t *block_table;  // [num_seqs, block_table_stride]
  int64_t block_table_stride;
  int32_t num_blocks;
  int32_t reserved;
  const int64_t *key_offsets;  // flat: [num_seqs]; null = 0
  int32_t *slots;              // [count, slot_stride]
  int64_t slot_stride;
  int32_t *out_lengths;  // [count]
};

/// Order in which masses are added, in fp32: entry j to lane j % kOverlapLanes, ascending; then lane i and i + half of
/// the lanes, until one is left. Lanes begin with +0.
inline constexpr int32_t kOverlapLanes = 512;

/// Row-wise comparison of two ascending index sets.
struct OverlapParams {
  const int32_t *a;  // [count, a_stride]
  int64_t a_stride;
  const int32_t *a_lengths;  // [count]
  int32_t a_k;
  int32_t b_k;
  const int32_t *b;  // [count, b_stride]
  int64_t b_stride;
  const int32_t *b_lengths;  // [count]
  int32_t count;
  int32_t reserved;
  int32_t *intersection;  // [count]; each output may be null
  float *recall;
  float *jaccard;
  float *mass_recall;  // sum of the mass of A and B / sum of the mass of A; 1 when that is 0
  const float *mass;   // [count, mass_stride], one weight per entry of a; read for mass_recall only
  int64_t mass_stride;
};

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// The score matrix of all rows would be far too large, so rows go in chunks whose matrix has a fixed size. Keys that
// are not there are marked by the scores and skipped by the selection.
#include "cuda/score_select.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/numerics.h"
#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/topk/launch.h"

namespace ic::cuda {
namespace {

/// Scores of one chunk. At least one row of 2^24 keys; three rows of 200K keys per processor, which is what the
/// selection of long rows has at a time.
constexpr int64_t kMatrixBytes = int64_t{320} << 20;
constexpr int32_t kRowsPerProcessor = 3;

/// Columns of the matrix; rows start on 256 bytes.
int64_t row_columns(int32_t max_key_end) { return (int64_t{std::max(max_key_end, 1)} + 63) / 64 * 64; }

/// Bytes of the matrix of every call with at most these many rows and keys: rounding to whole rows must not make a
/// smaller call need more.
int64_t matrix_bytes(int32_t max_rows, int32_t max_key_end) {
  return std::min(std::max(max_rows, 1) * row_columns(max_key_end) * 4, kMatrixBytes);
}

/// Rows of a chunk: whole waves of the selection, where there is room for one.
int32_t chunk_rows_of(int32_t rows, int64_t columns, const LaunchLimits &limits) {
  const auto fit = static_cast<int32_t>(std::min<int64_t>(rows, kMatrixBytes / (columns * 4)));
  const int32_t wave = kRowsPerProcessor * limits.num_processors;
  return fit < rows && fit > wave ? fit - fit % wave : fit;
}

/// Rows [first, first + count) of a view.
RowsView slice(const RowsView &rows, int32_t first, int32_t count) {
  RowsView part = rows;
  part.count = count;
  if (rows.seq != nullptr) part.seq = rows.seq + first;
  if (rows.key_begin != nullptr) part.key_begin = rows.key_begin + first;
  part.key_end = rows.key_end + first;
  return part;
}

QueryView slice(const QueryView &query, int64_t first) {
  QueryView part = query;
  part.q = static_cast<const uint8_t *>(query.q) + first * query.q_row_stride * dtype_bytes(query.dtype);
  part.w = query.w + first * query.w_row_stride;
  if (query.q_scale != nullptr) part.q_scale = query.q_scale + first * query.q_scale_row_stride;
  return part;
}

SelectionOut slice(const SelectionOut &out, int64_t first) {
  SelectionOut part = out;
  part.indices = out.indices + first * out.index_stride;
  part.lengths = out.lengths + first;
  if (out.scores != nullptr) part.scores = out.scores + first * out.index_stride;
  return part;
}

}  // namespace

cudaError_t launch_scores(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.query.dtype == IC_DTYPE_F32) return launch_scores_f32(params, limits, stream);
  const QueryView &query = params.query;
  if (has_wgmma_scores(limits.sm90a, query.num_heads, query.head_dim, query.dtype)) {
    return launch_scores_sm90(params, limits, stream);
  }
  return launch_scores_mma(params, limits, stream);
}

size_t score_select_workspace_bytes(const ScoreLimits &limits, const LaunchLimits &launch) {
  return static_cast<size_t>(matrix_bytes(limits.max_rows, limits.max_key_end)) +
         select_workspace_bytes(limits.max_rows, limits.max_key_end, limits.k, launch);
}

cudaError_t launch_score_select(const ScoreSelectParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count <= 0) return cudaSuccess;
  const int32_t max_key_end = params.rows.max_key_end;
  const int64_t columns = row_columns(max_key_end);
  const int32_t chunk_rows = chunk_rows_of(params.rows.count, columns, limits);
  const int64_t matrix_size = matrix_bytes(params.rows.count, max_key_end);
  auto *matrix = static_cast<float *>(params.workspace);
  for (int32_t first = 0; first < params.rows.count; first += chunk_rows) {
    const RowsView rows = slice(params.rows, first, std::min(chunk_rows, params.rows.count - first));
    ScoresParams scores = {};
    scores.rows = rows;
    scores.query = slice(params.query, first);
    scores.keys = params.keys;
    scores.scores = matrix;
    scores.score_stride = columns;
    scores.num_columns = std::max(max_key_end, 1);  // a row with a larger end is reported even if no key exists
    scores.others = OtherColumns::kMarkAbsent;
    cudaError_t error = launch_scores(scores, limits, stream);
    if (error != cudaSuccess) return error;

    SelectRowsParams select = {};
    select.rows = rows;
    select.rows.fault = nullptr;  // the scores have reported
    select.scores = matrix;
    select.score_stride = columns;
    select.nan_is_absent = 1;
    select.out = slice(params.out, first);
    select.workspace = reinterpret_cast<uint8_t *>(matrix) + matrix_size;
    select.workspace_size = params.workspace_size - static_cast<size_t>(matrix_size);
    error = launch_select(select, limits, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace ic::cuda

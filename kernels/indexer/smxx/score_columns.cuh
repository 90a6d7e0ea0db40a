// SPDX-License-Identifier: Apache-2.0
// What a score matrix gets in each column: the same rules for every kernel that writes scores.
#pragma once

#include <cstdint>

#include "kernels/views/rows.cuh"

namespace ic::cuda {

/// The positions that a row sees inside the window of columns.
__device__ inline RowRange window_range(const ScoresParams &p, int32_t row, uint32_t *fault) {
  const RowRange range = row_range(p.rows, row, fault);
  const int64_t window_end = int64_t{p.first_column} + p.num_columns;
  const int32_t first = max(range.begin, p.first_column);
  const auto last = static_cast<int32_t>(min(int64_t{range.end}, window_end));
  return first < last ? RowRange{range.seq, first, last} : RowRange{range.seq, 0, 0};
}

/// -0 as +0, NaN as -inf.
__device__ inline float finish_score(float sum) { return fmaxf(__fadd_rn(sum, 0.0f), -INFINITY); }

/// Into a column inside the row's window range, whose key is there or not.
__device__ inline void store_score(OtherColumns others, float *to, float score, bool there) {
  if (there) {
    *to = score;
  } else if (others != OtherColumns::kKeep) {
    *to = others == OtherColumns::kClean ? -INFINITY : __int_as_float(0x7fc00000);
  }
}

/// The score of a position inside the row's window range.
__device__ inline void write_score(const ScoresParams &p, int32_t row, int32_t position, float sum, bool there) {
  store_score(p.others, p.scores + row * p.score_stride + (position - p.first_column), finish_score(sum), there);
}

/// -inf into the columns outside the row's window range: columns first, first + step, ...
__device__ inline void clean_columns(const ScoresParams &p, int32_t row, const RowRange &range, int64_t first,
                                     int64_t step) {
  float *scores = p.scores + row * p.score_stride;
  for (int64_t c = first; c < p.num_columns; c += step) {
    const int64_t position = p.first_column + c;
    if (position < range.begin || position >= range.end) scores[c] = -INFINITY;
  }
}

}  // namespace ic::cuda

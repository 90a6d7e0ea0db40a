// SPDX-License-Identifier: Apache-2.0
// Rows of a selection on Hopper: their ranges and parts, and what needs no selection.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/params.h"
#include "kernels/topk/launch.h"
#include "kernels/topk/order_key.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

/// Part of a row: columns [begin, end), of which base + [0, ...) lie on 16 bytes.
struct Span {
  int32_t base;  // begin rounded down to four
  int32_t begin;
  int32_t end;
  __device__ int32_t count() const { return end - begin; }
  __device__ int32_t num_words() const { return (end - base + 31) / 32; }  // of bits
};

/// A row's range as the caller gave it: loaded at least a row ahead, because nothing hides such a load once copies are
/// under way.
class RowWords {
 public:
  __device__ void load(const RowsView &rows, int32_t row) {
    if (row < 0) return;
    end_ = rows.key_end[row];
    if (rows.key_begin != nullptr) begin_ = rows.key_begin[row];
    if (rows.seq != nullptr) seq_ = rows.seq[row];
  }
  /// As row_range(): an illegal row is empty.
  __device__ Span span(const RowsView &rows) const {
    const int32_t begin = max(begin_, 0);
    if (end_ > rows.max_key_end || end_ <= begin || seq_ < 0 || seq_ >= rows.num_seqs) return {0, 0, 0};
    return {begin & ~3, begin, end_};
  }

 private:
  int32_t begin_ = 0;
  int32_t end_ = 0;
  int32_t seq_ = 0;
};

/// This block's part of a row.
template <class S>
__device__ inline Span slice(const Span &row, int32_t rank) {
  if constexpr (S::kCluster == 1) {
    return row;
  } else {
    const int32_t columns = row.end - row.base;
    const int32_t each = (columns + 32 * S::kCluster - 1) / (32 * S::kCluster) * 32;
    const int32_t from = row.base + min(rank * each, columns);
    return {from, max(from, row.begin), min(from + each, row.end)};
  }
}

/// A row without a selection: all its columns, or none. By all threads of a block.
template <int kThreads>
__device__ inline void write_all(const SelectRowsParams &p, int32_t row, const Span &span) {
  const SelectionOut &out = p.out;
  const float *scores = p.scores + row * p.score_stride;
  const int32_t count = span.count();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += kThreads) {
    out.indices[row * out.index_stride + i] = i < count ? span.begin + i : -1;
    if (out.scores != nullptr) {
      out.scores[row * out.index_stride + i] =
          i < count ? score_of_key(order_key(scores[span.begin + i], false)) : -INFINITY;
    }
  }
  if (threadIdx.x == 0) out.lengths[row] = count;
}

/// Whether the 16 bytes that hold the row's last column could reach beyond the matrix.
__device__ inline bool ends_unsafely(const RowsView &rows, int32_t row, int32_t end) {
  return row == rows.count - 1 && ((end + 3) & ~3) > rows.max_key_end;
}

}  // namespace ic::cuda::sm90

#endif

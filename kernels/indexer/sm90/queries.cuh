// SPDX-License-Identifier: Apache-2.0
// Queries and weights of a warpgroup, in the two ways that a head sum can be laid over the lanes of a quad.
//
// The sum of one (row, key) is four chains, chain c over the heads with h / 2 % 4 == c ascending, then
// (0 + 1) + (2 + 3). A matrix instruction gives lane t of a quad the columns 8 n + 2 t and the next:
//   kMany  rows of queries interleaved in pairs of heads: the lane holds all heads of one row, so the four chains are
//          four registers of one lane and nothing is shuffled. Four rows (64 heads) or eight (32) per warpgroup
//   few    one row, heads in their own order: the lane holds the heads of chain t, the chains meet by shuffles
#pragma once

#include <cstdint>

#include "kernels/indexer/sm90/pipeline.cuh"
#include "kernels/ptx/wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

template <int kHeads, bool kMany>
struct QueryLayout {
  static constexpr int kGroupRows = kMany ? 512 / kHeads : 1;  // of a thread block
  static constexpr int kWarpgroupRows = kMany ? kGroupRows / 2 : 1;
  static constexpr int kColumns = kMany ? 256 : kHeads;  // of a warpgroup's product
  static constexpr uint32_t kBytes = kColumns * kKeyBytes;

  /// Row of the group and head of a column of the warpgroup's queries.
  static __device__ int row_of(int warpgroup, int column) {
    if constexpr (!kMany) return 0;
    const int quad = column / 2 % 4;
    return warpgroup * kWarpgroupRows + (kHeads == 64 ? quad : column / 128 * 4 + quad);
  }
  static __device__ int head_of(int column) {
    if constexpr (!kMany) return column;
    return (kHeads == 64 ? column / 8 : column % 128 / 8) * 2 + column % 2;
  }
};

/// Queries of a warpgroup's columns into shared memory, for its matrix instructions.
template <int kHeads, bool kMany, int kThreads>
__device__ void copy_queries(const QueryView &query, bool aligned, int32_t group_row, int32_t num_rows, int warpgroup,
                             uint8_t *to, int thread) {
  using Layout = QueryLayout<kHeads, kMany>;
  constexpr int kPieces = kKeyBytes / 16;
  constexpr int kAtOnce = Layout::kColumns * kPieces / kThreads < 8 ? Layout::kColumns * kPieces / kThreads : 8;
  static_assert(kThreads % kPieces == 0 && Layout::kColumns * kPieces % (kAtOnce * kThreads) == 0);
  const auto *q = static_cast<const uint8_t *>(query.q);
#pragma unroll 1
  for (int i = thread; i < Layout::kColumns * kPieces; i += kAtOnce * kThreads) {
    uint4 values[kAtOnce];
    const auto column_of = [&](int n) { return i / kPieces + n * (kThreads / kPieces); };
    const auto source_of = [&](int n) {  // rows behind the last are never stored
      const int64_t row = min(int64_t{group_row} + Layout::row_of(warpgroup, column_of(n)), int64_t{num_rows} - 1);
      return q + row * query.q_row_stride + Layout::head_of(column_of(n)) * kKeyBytes + i % kPieces * 16;
    };
    if (aligned) {
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) values[n] = *reinterpret_cast<const uint4 *>(source_of(n));
    } else {
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const uint8_t *from = source_of(n);
        uint32_t words[4] = {};
#pragma unroll
        for (int byte = 0; byte < 16; ++byte) words[byte / 4] |= static_cast<uint32_t>(from[byte]) << byte % 4 * 8;
        values[n] = {words[0], words[1], words[2], words[3]};
      }
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int column = column_of(n);
      *reinterpret_cast<uint4 *>(to + column * kKeyBytes + ((i % kPieces ^ (column & 7)) * 16)) = values[n];
    }
  }
  ptx::fence_async_proxy();
}

/// w' = fl(w * q_scale) of kCount heads of a row, kStep apart.
template <int kCount, int kStep>
__device__ inline void load_weights(float *w, const QueryView &query, int64_t row, int head) {
  const float *from = query.w + row * query.w_row_stride + head;
#pragma unroll
  for (int i = 0; i < kCount; ++i) w[i] = from[i * kStep];
  if (query.q_scale == nullptr) return;
  from = query.q_scale + row * query.q_scale_row_stride + head;
#pragma unroll
  for (int i = 0; i < kCount; ++i) w[i] = __fmul_rn(w[i], from[i * kStep]);
}

}  // namespace ic::cuda::sm90

#endif

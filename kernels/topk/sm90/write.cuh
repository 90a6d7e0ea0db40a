// SPDX-License-Identifier: Apache-2.0
// From bits to the output row: every thread counts the bits of a run of words, and a sum over the threads gives each
// position its place. Called by all threads of a block.
#pragma once

#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/sm90/shape.cuh"
#include "kernels/topk/smxx/order_key.cuh"

namespace ic::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A row without a selection: all its columns, or none.
template <class S>
__device__ inline void write_all(const SelectRowsParams &p, int32_t row, const Span &span) {
  const SelectionOut &out = p.out;
  const float *scores = p.scores + row * p.score_stride;
  const int32_t count = span.count();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += S::kThreads) {
    out.indices[row * out.index_stride + i] = i < count ? span.begin + i : -1;
    if (out.scores != nullptr) {
      out.scores[row * out.index_stride + i] =
          i < count ? score_of_key(order_key(scores[span.begin + i], false)) : -INFINITY;
    }
  }
  if (threadIdx.x == 0) out.lengths[row] = count;
}

/// This block's chosen columns. The first of them has place `start`.
/// num_ties: so many of `ties` are chosen too, the first ones
/// rank: of the block in its cluster; count: of the whole row
template <class S>
__device__ inline void write_chosen(const SelectRowsParams &p, bool bulk_output, int32_t row, const Span &part,
                                    const uint32_t *ties, int32_t num_ties, int32_t start, int32_t rank,
                                    int32_t count) {
  const SelectionOut &out = p.out;
  const int tid = static_cast<int>(threadIdx.x);
  uint32_t *bits = column_bits<S>();
  uint32_t *totals = tile_totals<S>();
  const int32_t num_tiles = (part.num_words() + 31) / 32;
  // What tiles have in front of a warp's tile `t`, added up from its last one on.
  const auto in_front = [&](int32_t t) {
    const int32_t other = t - 1 - lane_id();
    const bool is_new = other >= 0 && (t < S::kWarps || lane_id() < S::kWarps);
    return __reduce_add_sync(kWarp, is_new ? totals[other] : 0u);
  };
  if (num_ties > 0) {  // uniform
    for (int32_t t = warp_id(); t < num_tiles; t += S::kWarps) {
      const uint32_t own = __reduce_add_sync(kWarp, static_cast<uint32_t>(__popc(ties[32 * t + lane_id()])));
      if (lane_id() == 0) totals[t] = own;
    }
    __syncthreads();
    int32_t left = num_ties;
    for (int32_t t = warp_id(); t < num_tiles; t += S::kWarps) {
      left -= static_cast<int32_t>(in_front(t));
      uint32_t chosen = ties[32 * t + lane_id()];
      const int32_t own = __popc(chosen);
      const int32_t mine = left - (warp_inclusive_sum(own) - own);
      for (int32_t more = own - max(mine, 0); more > 0; --more) chosen &= chosen - 1;
      bits[32 * t + lane_id()] |= chosen;
    }
    __syncthreads();
  }
  for (int32_t t = warp_id(); t < num_tiles; t += S::kWarps) {
    const uint32_t own = __reduce_add_sync(kWarp, static_cast<uint32_t>(__popc(bits[32 * t + lane_id()])));
    if (lane_id() == 0) totals[t] = own;
  }
  __syncthreads();

  const float *scores = p.scores + row * p.score_stride;
  int32_t *indices = out.indices + row * out.index_stride;
  float *out_scores = out.scores == nullptr ? nullptr : out.scores + row * out.index_stride;
  const auto put = [&](int32_t place, int32_t column) {
    if constexpr (S::kCluster == 1) {
      ranked<S>()[place] = column;
    } else {
      indices[place] = column;
      if (out_scores != nullptr) out_scores[place] = score_of_key(order_key(scores[column], false));
    }
  };
  for (int32_t t = warp_id(); t < num_tiles; t += S::kWarps) {
    start += static_cast<int32_t>(in_front(t));
    uint32_t word = bits[32 * t + lane_id()];
    if (!__any_sync(kWarp, word != 0)) continue;
    const int32_t own = __popc(word);
    int32_t place = start + warp_inclusive_sum(own) - own;
    const int32_t column = part.base + kTileColumns * t;
    for (uint32_t full = __ballot_sync(kWarp, own > kMostAlone); full != 0; full &= full - 1) {
      const int lane = __ffs(static_cast<int>(full)) - 1;
      const uint32_t other = __shfl_sync(kWarp, word, lane);
      const int32_t first = __shfl_sync(kWarp, place, lane);
      if (has_bit(other, lane_id())) put(first + bits_in_front(other, lane_id()), column + 32 * lane + lane_id());
    }
    if (own > kMostAlone) word = 0;
    while (word != 0) put(place++, column + 32 * lane_id() + take_first_bit(&word));
  }
  if constexpr (S::kCluster == 1) {
    for (int32_t i = count + tid; i < out.k_padded; i += S::kThreads) ranked<S>()[i] = -1;
    ptx::fence_async();
    __syncthreads();
    if (bulk_output) {
      if (tid == 0) ptx::bulk_store(indices, shared_address(ranked<S>()), static_cast<uint32_t>(out.k_padded) * 4);
    } else {
      for (int32_t i = tid; i < out.k_padded; i += S::kThreads) indices[i] = ranked<S>()[i];
    }
    if (out_scores != nullptr) {
      for (int32_t i = tid; i < out.k_padded; i += S::kThreads) {
        const int32_t column = ranked<S>()[i];
        out_scores[i] = column < 0 ? -INFINITY : score_of_key(order_key(scores[column], false));
      }
    }
  } else if (rank == 0) {
    for (int32_t i = count + tid; i < out.k_padded; i += S::kThreads) {
      indices[i] = -1;
      if (out_scores != nullptr) out_scores[i] = -INFINITY;
    }
  }
  if (rank == 0 && tid == 0) out.lengths[row] = count;
}

#endif

}  // namespace ic::cuda

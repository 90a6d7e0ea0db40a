// SPDX-License-Identifier: Apache-2.0
// From bits to the output row: every thread counts the bits of a run of words, and a sum over the threads gives each
// position its place. Called by all threads of a block.
#pragma once

#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/order_key.cuh"
#include "kernels/topk/sm90_windows/shape.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// This block's chosen columns. The first of them has place `start`.
/// num_ties: so many of `ties` are chosen too, the first ones
/// rank: of the block in its cluster; count: of the whole row
template <class S>
__device__ inline void write_chosen(const SelectRowsParams &p, bool bulk_output, int32_t row, const Span &part,
                                    const uint32_t *ties, int32_t num_ties, int32_t start, int32_t rank,
                                    int32_t count) {
  const SelectionOut &out = p.out;
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  uint32_t *bits = column_bits<S>();
  // Each warp has a run of tiles, each lane a word of each of them.
  const int32_t num_tiles = (part.num_words() + 31) / 32;
  const int32_t each = (num_tiles + S::kWarps - 1) / S::kWarps;
  const int32_t first = min(warp_id() * each, num_tiles);
  const int32_t last = min(first + each, num_tiles);
  const auto in_front_of_warp = [&](const uint32_t *of, uint32_t *of_warp) {
    int32_t own = 0;
#pragma unroll 4
    for (int32_t t = first; t < last; ++t) own += __popc(of[32 * t + lane_id()]);
    own = __reduce_add_sync(kWarp, own);
    if (lane_id() == 0) of_warp[warp_id()] = static_cast<uint32_t>(own);
    __syncthreads();
    return static_cast<int32_t>(__reduce_add_sync(kWarp, lane_id() < warp_id() ? of_warp[lane_id()] : 0u));
  };
  if (num_ties > 0) {  // uniform
    int32_t left = num_ties - in_front_of_warp(ties, words.of_warp_too);
    for (int32_t t = first; t < last; ++t) {
      uint32_t chosen = ties[32 * t + lane_id()];
      const int32_t own = __popc(chosen);
      const int32_t inclusive = warp_inclusive_sum(own);
      for (int32_t more = own - max(left - (inclusive - own), 0); more > 0; --more) chosen &= chosen - 1;
      bits[32 * t + lane_id()] |= chosen;
      left -= __shfl_sync(kWarp, inclusive, 31);
    }
  }
  start += in_front_of_warp(bits, words.chosen_of_warp);  // read behind the last barrier

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
  // Several tiles at once, because a sum over the lanes is a chain of latencies; two sums in a word.
  constexpr int kTiles = S::kColumns > 4 * S::kTile ? 4 : S::kColumns > 2 * S::kTile ? 2 : 1;
  for (int32_t t = first; t < last; t += kTiles) {
    uint32_t word[kTiles];
    int32_t place[kTiles];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) word[i] = t + i < last ? bits[32 * (t + i) + lane_id()] : 0;
#pragma unroll
    for (int i = 0; i < kTiles; i += 2) {
      const int32_t own = __popc(word[i]) | (i + 1 < kTiles ? __popc(word[i + 1]) << 16 : 0);
      const int32_t inclusive = warp_inclusive_sum(own);
      const int32_t all = __shfl_sync(kWarp, inclusive, 31);
      place[i] = start + ((inclusive - own) & 0xffff);
      start += all & 0xffff;
      if (i + 1 < kTiles) place[i + 1] = start + ((inclusive - own) >> 16);
      start += all >> 16;
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int32_t column = part.base + kTileColumns * (t + i);
      const bool many = __popc(word[i]) > kMostAlone;
      for (uint32_t full = __ballot_sync(kWarp, many); full != 0; full &= full - 1) {
        const int lane = __ffs(static_cast<int>(full)) - 1;
        const uint32_t other = __shfl_sync(kWarp, word[i], lane);
        const int32_t at = __shfl_sync(kWarp, place[i], lane) + bits_in_front(other, lane_id());
        if (has_bit(other, lane_id())) put(at, column + 32 * lane + lane_id());
      }
      if (many) word[i] = 0;
      while (word[i] != 0) put(place[i]++, column + 32 * lane_id() + take_first_bit(&word[i]));
    }
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

}  // namespace ic::cuda::windows

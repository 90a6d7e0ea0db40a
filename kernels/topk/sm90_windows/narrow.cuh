// SPDX-License-Identifier: Apache-2.0
// For rows whose window was wrong, and for rows too short to be sampled: histograms of the whole part, as many as it
// takes, straight from memory. Exact for any data, and rare. Called by all threads of all blocks of a row.
#pragma once

#include "kernels/topk/sm90_windows/bins.cuh"
#include "kernels/topk/sm90_windows/compare.cuh"
#include "kernels/topk/smxx/order_key.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void cluster_barrier() {
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

/// A window inside `range` that holds the k-th of the row and no more entries than the list, or a single key. Fewer
/// than k keys: the lowest one. Fewer than k keys are above the range.
template <class S>
__device__ __noinline__ Window narrow_window(const float *scores, Span part, int32_t k, bool nan_is_absent,
                                             Window range) {
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  for (;;) {
    __syncthreads();
    if (tid == 0) words.num_above = 0;
    __syncthreads();
    const uint32_t span = range.high - range.low;
    const int shift = bin_shift<S>(span);
    uint32_t above = 0;
#pragma unroll 8
    for (int32_t i = part.begin + tid; i < part.end; i += S::kThreads) {
      const uint32_t key = order_key(scores[i], nan_is_absent);
      if (key > range.high) ++above;
      if (key - range.low <= span) atomicAdd(bins<S>() + ((key - range.low) >> shift), 1u);
    }
    above = __reduce_add_sync(kWarp, above);
    if (lane_id() == 0 && above > 0) atomicAdd(&words.num_above, above);
    __syncthreads();
    above = words.num_above;
    if constexpr (S::kCluster > 1) {  // every block adds up the bins of all
      constexpr int kOwn = S::kBins / S::kThreads;
      cluster_barrier();
      uint32_t sums[kOwn] = {};
      above = 0;
#pragma unroll 1
      for (uint32_t b = 0; b < S::kCluster; ++b) {
        const uint32_t theirs = ptx::cluster_address(shared_address(bins<S>()), b);
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
          sums[i] += ptx::cluster_load(theirs + 4 * static_cast<uint32_t>(i * S::kThreads + tid));
        }
        above += ptx::cluster_load(ptx::cluster_address(shared_address(&words.num_above), b));
      }
      cluster_barrier();
#pragma unroll
      for (int i = 0; i < kOwn; ++i) bins<S>()[i * S::kThreads + tid] = sums[i];
      __syncthreads();
    }
    Bin found[1];
    find_bins<S>({k - static_cast<int32_t>(above)}, found);
    if (found[0].index < 0) return {kKeyOfMinusInfinity, kKeyOfMinusInfinity, true};
    const uint32_t edge = range.low + (static_cast<uint32_t>(found[0].index) << shift);
    range = {edge, min(range.high - edge, (1u << shift) - 1) + edge, false};
    range.ties = range.low == range.high || range.has_bottom();
    if (range.low == range.high || found[0].count <= S::kLeastCapacity) return range;
  }
}

/// What streaming leaves behind, straight from memory: bits, list, ties and the counts.
template <class S>
__device__ __noinline__ void list_window(const float *scores, Span part, uint32_t *tie_bits, int32_t capacity,
                                         bool nan_is_absent, Window window) {
  BlockWords &words = block_words<S>();
  __syncthreads();
  if (threadIdx.x == 0) words.num_above = words.num_listed = words.num_ties = 0;
  __syncthreads();
  const Bounds bounds(window, nan_is_absent);
  int32_t num_above = 0;
  int32_t num_ties = 0;
  for (int32_t column = part.base + warp_id() * kTileColumns; column < part.end; column += S::kTile) {
    TileBits bits = {0, 0, 0};
    if (part.end - column >= kTileColumns) {
      bits = compare_tile(scores + column, bounds, part.begin - column, kTileColumns);
    } else {  // what lies behind the row may not be there
      for (int32_t w = 0; w < 32; ++w) {
        const int32_t at = column + 32 * w + lane_id();
        uint32_t key = kAbsentKey;
        if (at >= part.begin && at < part.end) key = order_key(scores[at], nan_is_absent);
        const bool above = key > window.high;
        const bool tie = window.ties && key == window.low;
        const uint32_t all_above = __brev(__ballot_sync(kWarp, above));
        const uint32_t all_ties = __brev(__ballot_sync(kWarp, tie));
        const uint32_t all_listed = __brev(__ballot_sync(kWarp, key >= window.low && !above && !tie));
        if (lane_id() == w) bits = {all_above, all_listed, all_ties};
      }
    }
    const int32_t word = (column - part.base) / 32 + lane_id();
    column_bits<S>()[word] = bits.above;
    num_above += __popc(bits.above);
    if (window.ties) {
      tie_bits[word] = bits.ties;
      num_ties += __popc(bits.ties);
    }
    append<S>(bits.listed, scores + column, column, capacity);
  }
  num_above = __reduce_add_sync(kWarp, num_above);
  num_ties = __reduce_add_sync(kWarp, num_ties);
  if (lane_id() == 0 && num_above > 0) atomicAdd(&words.num_above, static_cast<uint32_t>(num_above));
  if (lane_id() == 0 && num_ties > 0) atomicAdd(&words.num_ties, static_cast<uint32_t>(num_ties));
}

#endif

}  // namespace ic::cuda::windows

// SPDX-License-Identifier: Apache-2.0
// For rows whose window was wrong, and for rows too short to be sampled: histograms of the whole part, as many as it
// takes, straight from memory. Exact for any data, and rare. Called by all threads of all blocks of a row.
#pragma once

#include "kernels/ptx/cluster.cuh"
#include "kernels/topk/order_key.cuh"
#include "kernels/topk/sm90_windows/bins.cuh"
#include "kernels/topk/sm90_windows/compare.cuh"
#include "kernels/topk/sm90_windows/exchange.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// In no order. Loads are all under way before the first score is looked at: nothing else hides how far memory is.
template <class S, class Body>
__device__ inline void for_each_score(const float *scores, const Span &part, Body &&body) {
  constexpr int kLoads = S::kBlocksPerProcessor == 1 ? 8 : 4;
  const int tid = static_cast<int>(threadIdx.x);
  const int32_t first = (part.begin + 3) & ~3;
  const int32_t last = max(part.end & ~3, first);
#pragma unroll 1
  for (int32_t at = first + 4 * tid; at < last; at += 4 * S::kThreads * kLoads) {
    float4 v[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      v[i] = *reinterpret_cast<const float4 *>(scores + min(at + 4 * S::kThreads * i, last - 4));
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (at + 4 * S::kThreads * i >= last) break;
      body(v[i].x);
      body(v[i].y);
      body(v[i].z);
      body(v[i].w);
    }
  }
  if (tid < 4 && part.begin + tid < min(first, part.end)) body(scores[part.begin + tid]);
  if (tid < 4 && last + tid < part.end) body(scores[last + tid]);
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
    for_each_score<S>(scores, part, [&](float score) {
      const uint32_t key = order_key(score, nan_is_absent);
      if (key > range.high) ++above;
      if (key - range.low <= span) atomicAdd(bins<S>() + ((key - range.low) >> shift), 1u);
    });
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
    if (found[0].index < 0) return {kMinusInfinityKey, kMinusInfinityKey, true};
    const uint32_t edge = range.low + (static_cast<uint32_t>(found[0].index) << shift);
    range = {edge, window_end(min(range.high - edge, (1u << shift) - 1) + edge), false};
    range.ties = range.low == range.high || range.has_bottom();
    if (range.low == range.high || found[0].count <= S::kLeastCapacity) return range;
  }
}

/// What streaming leaves behind, straight from memory: bits, list, ties and the counts.
template <class S>
__device__ __noinline__ void list_window(const float *scores, Span part, uint32_t *tie_bits, int32_t capacity,
                                         bool nan_is_absent, Window window) {
  constexpr int kLoads = 8;  // under way
  BlockWords &words = block_words<S>();
  __syncthreads();
  if (threadIdx.x == 0) words.num_above = words.num_listed = words.num_ties = 0;
  __syncthreads();
  const Bounds bounds(window, nan_is_absent);
  const float low = score_of_key(window.low);
  int32_t num_above = 0;
  int32_t num_ties = 0;
  for (int32_t column = part.base + warp_id() * kTileColumns; column < part.end; column += S::kTile) {
    TileBits bits = {0, 0, 0};
    if (part.end - column >= kTileColumns) {
      bits = compare_tile(scores + column, bounds, part.begin - column, kTileColumns);
    } else {  // what lies behind the row may not be there: lanes have neighbouring columns
#pragma unroll 1
      for (int first = 0; first < 32; first += kLoads) {
        const int32_t at = column + 32 * first + lane_id();
        float score[kLoads];
#pragma unroll
        for (int i = 0; i < kLoads; ++i) score[i] = scores[min(at + 32 * i, part.end - 1)];
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          if (!nan_is_absent) score[i] = without_nan(score[i]);
          const bool inside = at + 32 * i >= part.begin && at + 32 * i < part.end;
          const bool above = inside && score[i] > bounds.above;
          const bool tie = inside && window.ties && score[i] == low;
          const bool listed = inside && score[i] >= low && !above && !tie;
          const TileBits of_all = {__brev(__ballot_sync(kWarp, above)), __brev(__ballot_sync(kWarp, listed)),
                                   __brev(__ballot_sync(kWarp, tie))};
          if (lane_id() == first + i) bits = of_all;
        }
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

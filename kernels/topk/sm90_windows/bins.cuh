// SPDX-License-Identifier: Apache-2.0
// Which bin of a histogram holds the entry of a rank. Called by all threads of a block.
#pragma once

#include "kernels/topk/sm90_windows/shape.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Bin {
  int32_t index;  // -1: there are fewer entries
  int32_t above;  // entries in higher bins
  int32_t count;
};

/// How far keys in [low, low + span] are shifted to fall into the bins.
template <class S>
__device__ inline int bin_shift(uint32_t span) {
  return max(0, 32 - S::kBinBits - __clz(static_cast<int>(span)));
}

/// The bins, from the top, that hold the entries of the ranks (1: the best); all bins become zero again. Two barriers;
/// the caller has one before.
template <class S, int kRanks>
__device__ inline void find_bins(const int32_t (&ranks)[kRanks], Bin (&found)[kRanks]) {
  constexpr int kOwn = S::kBins / S::kThreads;
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  const int first = S::kBins - (tid + 1) * kOwn;
  int32_t counts[kOwn];
  int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn / 2; ++i) {
    int2 &two = reinterpret_cast<int2 *>(bins<S>() + first)[i];
    counts[2 * i] = two.x;
    counts[2 * i + 1] = two.y;
    sum += two.x + two.y;
    two = make_int2(0, 0);
  }
  const int32_t inclusive = warp_inclusive_sum(sum);
  if (lane_id() == 31) words.of_warp[warp_id()] = static_cast<uint32_t>(inclusive);
  __syncthreads();
  int32_t before =
      static_cast<int32_t>(__reduce_add_sync(kWarp, lane_id() < warp_id() ? words.of_warp[lane_id()] : 0u)) +
      inclusive - sum;
#pragma unroll
  for (int r = 0; r < kRanks; ++r) {
    if (before < ranks[r] && ranks[r] <= before + sum) {
      int32_t above = before;
#pragma unroll
      for (int i = kOwn - 1; i >= 0; --i) {
        if (above < ranks[r] && ranks[r] <= above + counts[i]) {
          words.bin[r][0] = first + i;
          words.bin[r][1] = above;
          words.bin[r][2] = counts[i];
        }
        above += counts[i];
      }
    }
    if (tid == S::kThreads - 1 && ranks[r] > before + sum) {
      words.bin[r][0] = -1;
      words.bin[r][1] = before + sum;
      words.bin[r][2] = 0;
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRanks; ++r) found[r] = {words.bin[r][0], words.bin[r][1], words.bin[r][2]};
}

/// Smallest and largest key that the threads have; low > high: none. One barrier.
template <class S>
__device__ inline void block_range(uint32_t *low, uint32_t *high) {
  BlockWords &words = block_words<S>();
  *low = __reduce_min_sync(kWarp, *low);
  *high = __reduce_max_sync(kWarp, *high);
  if (lane_id() == 0) {
    words.of_warp[warp_id()] = *low;
    words.of_warp_too[warp_id()] = *high;
  }
  __syncthreads();
  *low = __reduce_min_sync(kWarp, lane_id() < S::kWarps ? words.of_warp[lane_id()] : 0xffffffffu);
  *high = __reduce_max_sync(kWarp, lane_id() < S::kWarps ? words.of_warp_too[lane_id()] : 0u);
}

#endif

}  // namespace ic::cuda::windows

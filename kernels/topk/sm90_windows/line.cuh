// SPDX-License-Identifier: Apache-2.0
// The k-th of a list of (key, position) pairs. Called by all threads of a block.
//
// Loops are rolled on purpose: each runs once per row, and straight-line code would miss the instruction cache.
#pragma once

#include "kernels/topk/sm90_windows/bins.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using sm90::is_above;
using sm90::Line;

/// Calls body(entry) for entries [first, last) of the list. Several are loaded before the first is looked at.
template <class S, class Body>
__device__ inline void for_each_entry(int32_t first, int32_t last, Body &&body) {
  constexpr int kLoads = 4;
  const uint2 *list = candidates<S>();
#pragma unroll 1
  for (int32_t i = first + static_cast<int32_t>(threadIdx.x); i < last; i += kLoads * S::kThreads) {
    uint2 entries[kLoads];
#pragma unroll
    for (int e = 0; e < kLoads; ++e) {
      if (i + e * S::kThreads < last) entries[e] = list[i + e * S::kThreads];
    }
#pragma unroll
    for (int e = 0; e < kLoads; ++e) {
      if (i + e * S::kThreads < last) body(entries[e]);
    }
  }
}

/// The line that exactly `wanted` of the first `count` entries are above, 0 < wanted < count. Keys lie in the window,
/// positions in the row.
template <class S>
__device__ inline Line find_line(int32_t count, int32_t wanted, const Window &window, const Span &row) {
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  uint32_t low = window.low;
  uint32_t high = window.high;
  if (tid == 0) words.num_few = 0;
  if (window.has_bottom() || high == kInfinityKey) {  // the keys' own range is smaller
    low = 0xffffffffu;
    high = 0;
    for_each_entry<S>(0, count, [&](const uint2 &entry) {
      high = max(high, entry.x);
      low = min(low, entry.x);
    });
    block_range<S>(&low, &high);
  }
  uint32_t tie_key = 0;
  bool ties = false;  // low and high are then complements of positions
#pragma unroll 1
  for (;;) {
    const uint32_t span = high - low;
    const int shift = bin_shift<S>(span);
    if (!ties) {
      for_each_entry<S>(0, count, [&](const uint2 &entry) {
        const uint32_t distance = entry.x - low;
        if (distance <= span) atomicAdd(bins<S>() + (distance >> shift), 1u);
      });
    } else {
      for_each_entry<S>(0, count, [&](const uint2 &entry) {
        const uint32_t distance = ~entry.y - low;
        if (entry.x == tie_key && distance <= span) atomicAdd(bins<S>() + (distance >> shift), 1u);
      });
    }
    __syncthreads();
    Bin bin[1];
    find_bins<S>({wanted}, bin);
    wanted -= bin[0].above;
    const uint32_t edge = low + (static_cast<uint32_t>(bin[0].index) << shift);
    const uint32_t top = min(high - edge, (1u << shift) - 1) + edge;
    if (bin[0].count == wanted) return ties ? Line{tie_key, ~edge} : Line{edge, 0xffffffffu};
    if (bin[0].count <= kMostFew) {  // ranked by comparison, in every warp
      for_each_entry<S>(0, count, [&](const uint2 &entry) {
        const uint32_t value = ties ? ~entry.y : entry.x;
        if (value - edge <= top - edge && (!ties || entry.x == tie_key)) {
          words.few[ptx::shared_fetch_add(shared_address(&words.num_few), 1)] = entry;
        }
      });
      __syncthreads();
      return sm90::line_of_few(words.few, bin[0].count, wanted);
    }
    if (edge == top) {
      tie_key = edge;
      ties = true;
      low = ~static_cast<uint32_t>(row.end - 1);
      high = ~static_cast<uint32_t>(row.begin);
    } else {
      low = edge;
      high = top;
    }
  }
}

#endif

}  // namespace ic::cuda::windows

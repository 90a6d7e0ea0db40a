// SPDX-License-Identifier: Apache-2.0
// The line below the best of a list of (key, position) pairs.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/topk/sm90_warp.cuh"

namespace ic::cuda::sm90 {

constexpr int32_t kMostFew = 32;  // entries that are ranked by comparison

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Above it are keys above `key`, and of those equal to it the positions up to `position`.
struct Line {
  uint32_t key;
  uint32_t position;
};

/// A pair as one number: the larger the better, ties by position.
__device__ inline uint64_t order_of(uint32_t key, uint32_t position) { return uint64_t{key} << 32 | ~position; }

/// In one comparison: a branch costs more than what it saves.
__device__ inline bool is_above(const uint2 &entry, const Line &line) {
  return order_of(entry.x, entry.y) >= order_of(line.key, line.position);
}

/// The line that `wanted` of `count` <= kMostFew entries are above, 0 < wanted <= count. By all lanes of a warp.
__device__ inline Line line_of_few(const uint2 (&few)[kMostFew], int32_t count, int32_t wanted) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint2 mine = few[lane];
  const uint64_t own = order_of(mine.x, mine.y);
  int32_t better = 0;
#pragma unroll 4
  for (int32_t i = 0; i < count; ++i) better += order_of(few[i].x, few[i].y) > own ? 1 : 0;
  const int last = __ffs(static_cast<int>(__ballot_sync(kWarp, lane < count && better == wanted - 1))) - 1;
  return {__shfl_sync(kWarp, mine.x, last), __shfl_sync(kWarp, mine.y, last)};
}

#endif

}  // namespace ic::cuda::sm90

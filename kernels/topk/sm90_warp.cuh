// SPDX-License-Identifier: Apache-2.0
// What the lanes of a warp do together in Hopper's selections.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/ptx/shared.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

constexpr uint32_t kWarp = 0xffffffffu;

__device__ inline int32_t warp_inclusive_sum(int32_t value) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int32_t other = __shfl_up_sync(kWarp, value, distance);
    if (lane >= distance) value += other;
  }
  return value;
}

/// Places of a list in shared memory.
struct Places {
  uint32_t begin;  // of the warp
  uint32_t count;  // of the warp
  uint32_t own;    // the lane's first
};

/// Takes `own` places for each lane. The list's counter goes on whether or not they fit.
__device__ inline Places take_places(uint32_t *counter, int32_t own) {
  const auto count = static_cast<uint32_t>(__reduce_add_sync(kWarp, own));  // so that nothing waits for the sum
  uint32_t begin = 0;
  if (threadIdx.x % 32 == 0) begin = ptx::shared_fetch_add(ptx::shared_address(counter), count);
  const auto before = static_cast<uint32_t>(warp_inclusive_sum(own) - own);
  begin = __shfl_sync(kWarp, begin, 0);
  return {begin, count, begin + before};
}

}  // namespace ic::cuda::sm90

#endif

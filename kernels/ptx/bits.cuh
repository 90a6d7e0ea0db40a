// SPDX-License-Identifier: Apache-2.0
// Places of bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

/// Zeros above the highest bit of a word that has one: __clz() without its rule for zero.
__device__ inline uint32_t leading_zeros(uint32_t word) {
  uint32_t count;
  asm("bfind.shiftamt.u32 %0, %1;" : "=r"(count) : "r"(word));
  return count;
}

}  // namespace ic::cuda::ptx

// SPDX-License-Identifier: Apache-2.0
// Shared memory by its address, as the instructions take it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

__device__ inline uint32_t shared_address(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void shared_store_pair(uint32_t address, uint2 value) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(address), "r"(value.x), "r"(value.y) : "memory");
}

/// Written out because the compiler surrounds atomicAdd with a vote of the warp.
__device__ inline uint32_t shared_fetch_add(uint32_t address, uint32_t value) {
  uint32_t old;
  asm volatile("atom.relaxed.cta.shared.add.u32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(value) : "memory");
  return old;
}

}  // namespace ic::cuda::ptx

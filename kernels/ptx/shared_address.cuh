// SPDX-License-Identifier: Apache-2.0
// Addresses of shared memory as the instructions take them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

__device__ inline uint32_t shared_address(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace ic::cuda::ptx

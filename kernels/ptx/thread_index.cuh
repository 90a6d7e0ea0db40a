// SPDX-License-Identifier: Apache-2.0
// The thread's number, read anew.
#pragma once

#include <cuda_runtime.h>

namespace ic::cuda::ptx {

/// threadIdx.x, but what is derived from it is computed where it is used: addresses of all phases of a long kernel,
/// kept over its loops, would not fit into the registers.
__device__ inline int thread_index() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

}  // namespace ic::cuda::ptx

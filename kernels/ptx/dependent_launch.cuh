// SPDX-License-Identifier: Apache-2.0
// Programmatic dependent launch (sm_90): a kernel that was launched so may start before the one in front of it on the
// stream has ended. One instruction, one inline function.
#pragma once

#include <cuda_runtime.h>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::ptx {

/// The next kernel of the stream may start its blocks where there is room, when all blocks of this one have said so.
__device__ inline void let_next_kernel_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

/// Returns when all kernels in front have ended and their stores are visible: by every thread, in front of its first
/// access of global memory. A kernel must not end without it: the next one waits for this one only.
__device__ inline void wait_for_previous_kernel() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace ic::cuda::ptx

#endif

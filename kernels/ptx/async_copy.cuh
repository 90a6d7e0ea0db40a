// SPDX-License-Identifier: Apache-2.0
// Asynchronous copies from global to shared memory (sm_80 and newer): one instruction, one inline function. A thread's
// copies form groups; they are seen by the thread itself after wait, by others after wait and a barrier.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

/// 16 bytes, both sides 16-byte aligned, past the first cache level.
__device__ inline void copy_async_16(uint32_t shared_to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_to), "l"(__cvta_generic_to_global(from))
               : "memory");
}

/// 16 bytes, or 16 zeros when `there` is false; from must be an address of global memory even then, but is not read.
__device__ inline void copy_async_16_or_zero(uint32_t shared_to, const void *from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_to), "l"(__cvta_generic_to_global(from)),
               "r"(there ? 16 : 0)
               : "memory");
}

/// 4 bytes, both sides 4-byte aligned.
__device__ inline void copy_async_4(uint32_t shared_to, const void *from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_to), "l"(__cvta_generic_to_global(from))
               : "memory");
}

/// Closes the group of the copies since the last call.
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Returns when at most kPending of the newest groups are still under way.
template <int kPending>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace ic::cuda::ptx

// SPDX-License-Identifier: Apache-2.0
// Bulk copies between global and shared memory (sm_90): addresses and sizes are multiples of 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::ptx {

/// Global to shared memory; completes on the mbarrier at `barrier`.
__device__ inline void bulk_load(uint32_t shared_to, const void *from, uint32_t bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

/// Shared to global memory, a group of its own of the calling thread. Writers of the source: fence_async(), then a
/// barrier, before.
__device__ inline void bulk_store(void *to, uint32_t shared_from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\ncp.async.bulk.commit_group;" ::"l"(to),
               "r"(shared_from), "r"(bytes)
               : "memory");
}

/// The sources of the calling thread's stores may be overwritten.
__device__ inline void bulk_stores_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ inline void bulk_stores_done() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// What this thread wrote to shared memory is visible to, and ordered with, asynchronous copies that follow.
__device__ inline void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace ic::cuda::ptx

#endif

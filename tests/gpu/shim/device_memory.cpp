// SPDX-License-Identifier: Apache-2.0
// Counts what takes or returns device memory, or pinned memory, in all objects of a program (--wrap).
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

#include "tests/allocation/counting.h"

namespace {
std::atomic<int64_t> calls{0};
}

namespace ic::test {

int64_t device_memory_calls() { return calls; }

size_t free_device_memory() {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
}

}  // namespace ic::test

extern "C" {

#define IC_COUNTED(name, parameters, ...) \
  decltype(name) __real_##name;           \
  cudaError_t __wrap_##name parameters {  \
    ++calls;                              \
    return __real_##name(__VA_ARGS__);    \
  }

IC_COUNTED(cudaMalloc, (void **memory, size_t bytes), memory, bytes)
IC_COUNTED(cudaMallocAsync, (void **memory, size_t bytes, cudaStream_t stream), memory, bytes, stream)
IC_COUNTED(cudaMallocManaged, (void **memory, size_t bytes, unsigned flags), memory, bytes, flags)
IC_COUNTED(cudaMallocHost, (void **memory, size_t bytes), memory, bytes)
IC_COUNTED(cudaHostAlloc, (void **memory, size_t bytes, unsigned flags), memory, bytes, flags)
IC_COUNTED(cudaFree, (void *memory), memory)
IC_COUNTED(cudaFreeAsync, (void *memory, cudaStream_t stream), memory, stream)
IC_COUNTED(cudaFreeHost, (void *memory), memory)

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Every CUDA call is checked: its error becomes a status and a text with the call's name.
#pragma once

#include <cuda_runtime_api.h>

#include "indexcache.h"

namespace ic::cuda {

/// IC_ERROR_CUDA for all that has no status of its own.
ic_status status_of(cudaError_t error) noexcept;

/// Fails with status_of(error). Also takes the error out of the runtime's "last error" when it can be taken out, so
/// that the caller's next cudaGetLastError() does not see what has been reported here.
[[noreturn]] void fail_cuda(cudaError_t error, const char *call);

}  // namespace ic::cuda

/// IC_CUDA_CHECK(cudaMalloc(&p, n)): fails unless the call returns cudaSuccess.
#define IC_CUDA_CHECK(call)                        \
  do {                                             \
    const cudaError_t ic_cuda_error = (call);      \
    if (ic_cuda_error != cudaSuccess) {            \
      ::ic::cuda::fail_cuda(ic_cuda_error, #call); \
    }                                              \
  } while (false)

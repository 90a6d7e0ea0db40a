// SPDX-License-Identifier: Apache-2.0
// CUDA errors to statuses.
#include "cuda/check.h"

#include <cstring>

#include "core/failure.h"

namespace ic::cuda {

ic_status status_of(cudaError_t error) noexcept {
  switch (error) {
    case cudaSuccess:
      return IC_OK;
    case cudaErrorMemoryAllocation:
      return IC_ERROR_OUT_OF_MEMORY;
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorCallRequiresNewerDriver:
      return IC_ERROR_CUDA_NO_DRIVER;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
      return IC_ERROR_CUDA_NO_DEVICE;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
      return IC_ERROR_CUDA_UNSUPPORTED_DEVICE;
    default:
      return IC_ERROR_CUDA;
  }
}

void fail_cuda(cudaError_t error, const char *call) {
  (void)cudaGetLastError();
  const auto name_length = static_cast<int>(std::strcspn(call, "("));  // the arguments say nothing to a user
  fail(status_of(error), "%.*s: %s (%s)", name_length, call, cudaGetErrorName(error), cudaGetErrorString(error));
}

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
// Current device and capture mode of a thread, saved and restored.
#include "cuda/device_guard.h"

#include <cuda_runtime_api.h>

#include "core/failure.h"
#include "cuda/check.h"

namespace ic::cuda {
namespace {

/// @param version  CUDA version of the signature that is asked for
template <class Function>
Function driver_function(const char *name, unsigned version) {
  void *address = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  IC_CUDA_CHECK(cudaGetDriverEntryPointByVersion(name, &address, version, cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess || address == nullptr)
    fail(IC_ERROR_CUDA_NO_DRIVER, "the NVIDIA driver has no function %s", name);
  return reinterpret_cast<Function>(address);
}

void check_driver(int result, const char *call) {
  if (result != 0) fail_cuda(static_cast<cudaError_t>(result), call);  // one numbering for both since CUDA 10.1
}

}  // namespace

PrimaryContext::PrimaryContext(int32_t device)
    : get_current_(driver_function<GetCurrent>("cuCtxGetCurrent", 4000)),
      set_current_(driver_function<SetCurrent>("cuCtxSetCurrent", 4000)),
      release_(driver_function<Release>("cuDevicePrimaryCtxRelease", 11000)),
      device_(0) {
  using DeviceGet = int (*)(int *, int);
  check_driver(driver_function<DeviceGet>("cuDeviceGet", 2000)(&device_, device), "cuDeviceGet");
  check_driver(driver_function<Retain>("cuDevicePrimaryCtxRetain", 7000)(&context_, device_),
               "cuDevicePrimaryCtxRetain");
}

PrimaryContext::~PrimaryContext() { (void)release_(device_); }

DeviceGuard::DeviceGuard(const PrimaryContext &primary) : primary_(primary) {
  check_driver(primary.get_current_(&previous_), "cuCtxGetCurrent");
  if (previous_ != primary.context_) check_driver(primary.set_current_(primary.context_), "cuCtxSetCurrent");
}

DeviceGuard::~DeviceGuard() {
  if (previous_ != primary_.context_) (void)primary_.set_current_(previous_);
}

CaptureModeGuard::CaptureModeGuard() noexcept {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
  mode_ = mode;
}

CaptureModeGuard::~CaptureModeGuard() {
  auto mode = static_cast<cudaStreamCaptureMode>(mode_);
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
}

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
// Device queries. None of them creates a CUDA context or changes the calling thread's device.
#include "cuda/device.h"

#include <cuda_runtime_api.h>

#include <cstdio>

#include "core/cuda.h"
#include "core/failure.h"
#include "cuda/check.h"

namespace ic {
namespace cuda {
namespace {

struct Version {
  explicit Version(int number) : major(number / 1000), minor(number % 1000 / 10) {}
  int major;
  int minor;
};

int attribute(cudaDeviceAttr attribute, int32_t device) {
  int value = 0;
  IC_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

}  // namespace

int32_t compute_capability(int32_t device) {
  return attribute(cudaDevAttrComputeCapabilityMajor, device) * 10 +
         attribute(cudaDevAttrComputeCapabilityMinor, device);
}

int32_t device_count() {
  // The driver's version tells "none" from "too old", which the runtime reports as one error.
  int driver = 0;
  int runtime = 0;
  IC_CUDA_CHECK(cudaDriverGetVersion(&driver));
  IC_CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  if (driver == 0) {
    (void)cudaGetLastError();
    fail(IC_ERROR_CUDA_NO_DRIVER, "no NVIDIA driver on this machine: libcuda.so.1 cannot be loaded");
  }
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice) {
    (void)cudaGetLastError();
    return 0;
  }
  if (status_of(error) == IC_ERROR_CUDA_NO_DRIVER) {
    (void)cudaGetLastError();
    const Version has(driver);
    const Version needs(runtime);
    fail(IC_ERROR_CUDA_NO_DRIVER,
         "the NVIDIA driver is too old or does not fit: it supports CUDA %d.%d, this library needs %d.%d (%s)",
         has.major, has.minor, needs.major, needs.minor, cudaGetErrorString(error));
  }
  if (error != cudaSuccess) fail_cuda(error, "cudaGetDeviceCount");
  return count;
}

void require_device(int32_t device) {
  const int32_t count = device_count();
  if (count == 0)
    fail(IC_ERROR_CUDA_NO_DEVICE, "device is %d; the NVIDIA driver finds no device on this machine", device);
  if (device < 0 || device >= count) fail(IC_ERROR_CUDA_NO_DEVICE, "device is %d; allowed: 0 to %d", device, count - 1);
  const int32_t has = compute_capability(device);
  if (has < kOldestCapability)
    fail(IC_ERROR_CUDA_UNSUPPORTED_DEVICE, "device %d has compute capability %d.%d; allowed: %d.%d or newer", device,
         has / 10, has % 10, kOldestCapability / 10, kOldestCapability % 10);
}

}  // namespace cuda

int32_t cuda_device_count() { return cuda::device_count(); }

ic_device_caps cuda_device_caps(int32_t device) {
  cuda::require_device(device);
  cudaDeviceProp properties;
  IC_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  ic_device_caps caps = IC_DEVICE_CAPS_INIT;
  caps.backend = IC_BACKEND_CUDA;
  caps.device = device;
  caps.compute_capability = cuda::compute_capability(device);
  caps.num_processors = properties.multiProcessorCount;
  caps.memory_bytes = properties.totalGlobalMem;
  caps.indexer_dtypes = cuda::kIndexerDtypes;
  caps.attention_dtypes = cuda::kAttentionDtypes;
  caps.max_k = cuda::kMaxK;
  IC_CUDA_CHECK(cudaDriverGetVersion(&caps.driver_version));
  IC_CUDA_CHECK(cudaRuntimeGetVersion(&caps.runtime_version));
  std::snprintf(caps.name, sizeof caps.name, "%.63s", properties.name);
  return caps;
}

}  // namespace ic

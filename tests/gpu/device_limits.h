// SPDX-License-Identifier: Apache-2.0
// Device 0 as launchers see it.
#pragma once

#include "kernels/launch.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

inline cuda::LaunchLimits device_limits(int32_t max_ctas = 0) {
  cuda_backend();  // loads the kernels
  int processors = 0, major = 0, minor = 0;
  IC_REQUIRE_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
  IC_REQUIRE_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  IC_REQUIRE_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  cuda::LaunchLimits limits{processors, max_ctas, 10 * major + minor, false};
  IC_REQUIRE_CUDA(cuda::find_sm90a(&limits));
  return limits;
}

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// Is there machine code for Hopper's own instructions? PTX has none of it: where a driver compiles that instead
// (CUDA_FORCE_PTX_JIT), kernels of sm90/ are empty and nothing may choose them.
#include <cuda_runtime.h>

#include "kernels/launch.h"

namespace ic::cuda {
namespace {

__global__ void probe_kernel() {}

}  // namespace

cudaError_t find_sm90a(LaunchLimits *limits) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (error == cudaSuccess) limits->sm90a = limits->compute_capability == 90 && attributes.ptxVersion >= 90;
  return error;
}

}  // namespace ic::cuda

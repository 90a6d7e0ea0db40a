// SPDX-License-Identifier: Apache-2.0
// Is there machine code for Hopper's own instructions? PTX has none of it: where a driver compiles that instead
// (CUDA_FORCE_PTX_JIT), kernels of sm90/ are empty and nothing may choose them. And how many clusters does the card
// run?
#include <cuda_runtime.h>

#include "kernels/launch.h"

namespace ic::cuda {
namespace {

__global__ void probe_kernel() {}

/// A cluster lies in one group of processors, and groups differ in size, also from card to card.
cudaError_t count_clusters(LaunchLimits *limits) {
  constexpr int kShared = 160 << 10;  // of the processor's 228 KB: one thread block each
  cudaError_t error = cudaFuncSetAttribute(probe_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  for (const unsigned size : {2u, 3u, 4u, 8u}) {
    if (error != cudaSuccess) break;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = size;
    cluster.val.clusterDim.y = 1;
    cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(size);
    config.blockDim = dim3(512);
    config.dynamicSmemBytes = kShared;
    config.attrs = &cluster;
    config.numAttrs = 1;
    error = cudaOccupancyMaxActiveClusters(&limits->resident_clusters[size], probe_kernel, &config);
  }
  return error;
}

}  // namespace

cudaError_t find_sm90a(LaunchLimits *limits) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (error != cudaSuccess) return error;
  limits->sm90a = limits->compute_capability == 90 && attributes.ptxVersion >= 90;
  return limits->sm90a ? count_clusters(limits) : cudaSuccess;
}

}  // namespace ic::cuda

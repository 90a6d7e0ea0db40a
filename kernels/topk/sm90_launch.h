// SPDX-License-Identifier: Apache-2.0
// Host side that Hopper's selections have in common. S: a shape, with kThreads, kCluster, kBlocksPerProcessor and
// kBytes of shared memory.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "indexcache.h"
#include "kernels/launch.h"
#include "kernels/policy/sm90.h"
#include "kernels/topk/launch.h"

namespace ic::cuda::sm90 {

inline bool on_16_bytes(const void *p, int64_t stride) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 4 == 0;
}

/// Whether a call can be served at all; its rows' length is the shape's own affair.
template <class S>
bool can_select(const SelectRowsParams &p, const LaunchLimits &limits) {
  return limits.sm90a && p.out.k <= kMostSelected && p.out.order != IC_ORDER_SCORE &&
         on_16_bytes(p.scores, p.score_stride) && (limits.max_ctas == 0 || limits.max_ctas >= S::kCluster);
}

template <class S>
cudaError_t load_kernel(const void *kernel) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(S::kBytes));
}

/// What a kernel is told beside the call.
struct LaunchFacts {
  bool bulk_output;     // rows of indices may be written by bulk copies
  bool next_may_start;  // while this kernel runs
};

/// As many clusters as rows, and no more than run at once. The kernel calls ptx::wait_for_previous_kernel().
template <class S>
cudaError_t launch_kernel(void (*kernel)(SelectRowsParams, LaunchFacts), const SelectRowsParams &params,
                          const LaunchLimits &limits, cudaStream_t stream) {
  const int64_t resident = int64_t{limits.num_processors} * S::kBlocksPerProcessor;
  const int64_t blocks = std::min(int64_t{params.rows.count} * S::kCluster, resident);
  cudaLaunchAttribute attributes[2] = {dependent_launch(limits), {}};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = S::kCluster;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(std::max(limits.grid(blocks) / S::kCluster, 1u) * S::kCluster);
  config.blockDim = dim3(S::kThreads);
  config.dynamicSmemBytes = S::kBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = S::kCluster > 1 ? 2 : 1;
  const LaunchFacts facts = {on_16_bytes(params.out.indices, params.out.index_stride), start_early(limits)};
  return cudaLaunchKernelEx(&config, kernel, params, facts);
}

}  // namespace ic::cuda::sm90

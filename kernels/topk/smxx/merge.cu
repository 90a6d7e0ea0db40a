// SPDX-License-Identifier: Apache-2.0
// One selection from the selections of several parts.
//
// Bound: reading parts * k entries of 8 bytes per row. One block per row: the parts' entries are laid end to end and
// streamed through the list in shared memory, which keeps whatever is above the k-th of all seen so far; the winners
// are then sorted, since positions interleave between parts and a part may come in any order.
#include <cuda_runtime.h>

#include "kernels/topk/launch.h"
#include "kernels/topk/smxx/append.cuh"

namespace ic::cuda {
namespace {

constexpr int kSpare = 2 * kRunTile;  // more than it needs: the list is cut less often
constexpr int kMaxParts = 4 * kListThreads;
static_assert(kMaxParts >= 1024, "the header promises as many");

__global__ void __launch_bounds__(kListThreads, 2)
    merge_kernel(const __grid_constant__ MergeParams p, ListShape shape) {
  __shared__ int32_t starts[kMaxParts + 1];
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const int32_t total = find_starts(
        starts, p.parts, [&](int32_t part) { return min(max(p.lengths[part * p.length_stride + row], 0), p.out.k); });
    const int32_t count = stream_runs<false>(shape, p.out.k, starts, p.parts, total,
                                             [&](int32_t part, int32_t i, uint32_t *key, uint32_t *position) {
                                               const int64_t at = part * p.part_stride + row * p.index_stride + i;
                                               const int32_t index = p.indices[at];
                                               const float score = p.scores[at];
                                               *position = static_cast<uint32_t>(index);
                                               *key = index >= 0 ? order_key(score, false) : kAbsentKey;
                                             });
    write_best<false>(p.out, row, shape, count);
  }
}

}  // namespace

cudaError_t load_merge() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, merge_kernel);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(merge_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(list_bytes(list_shape(4096, kSpare))));
}

size_t merge_workspace_bytes(int32_t, int32_t, int32_t, const LaunchLimits &) { return 0; }

cudaError_t launch_merge(const MergeParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows <= 0) return cudaSuccess;
  const ListShape shape = list_shape(params.out.k, kSpare);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(params.rows));
  config.blockDim = dim3(kListThreads);
  config.dynamicSmemBytes = list_bytes(shape);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, merge_kernel, params, shape);
}

}  // namespace ic::cuda

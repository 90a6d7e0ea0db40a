// SPDX-License-Identifier: Apache-2.0
// |A and B| of two ascending index sets per row, with recall, Jaccard index and the share of A's mass in the CPU
// backend's arithmetic.
//
// Bound: bytes, 4 * (|A| + |B|) per row, and 4 * |A| for the mass. One CTA per row: every thread looks its entries of A
// up in B, whose row stays in the first-level cache. Rows that are not ascending get some count between 0 and |A|.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cache/launch.h"

namespace ic::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
static_assert(kThreads == kOverlapLanes, "a thread's sums are those of one lane");

/// Whether an ascending list holds a value.
__device__ bool holds(const int32_t *list, int32_t count, int32_t value) {
  int32_t first = 0;
  int32_t last = count;  // the place of the value, if there is one, lies in [first, last)
  while (last - first > 1) {
    const int32_t middle = first + (last - first) / 2;
    if (list[middle] <= value) {
      first = middle;
    } else {
      last = middle;
    }
  }
  return last > first && list[first] == value;
}

/// Adds the lanes' sums up; all threads of the CTA take part. sums[0] is the result, for thread 0.
__device__ void add_lanes(float (&sums)[kThreads]) {
  for (int half = kThreads / 2; half > 0; half /= 2) {
    const int lane = threadIdx.x;
    if (lane < half) sums[lane] = __fadd_rn(sums[lane], sums[lane + half]);
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreads) overlap_kernel(const __grid_constant__ OverlapParams p) {
  __shared__ int32_t counts[kWarps];
  __shared__ float all_mass[kThreads];
  __shared__ float common_mass[kThreads];
  for (int64_t row = blockIdx.x; row < p.count; row += gridDim.x) {
    const int32_t *a = p.a + row * p.a_stride;
    const int32_t *b = p.b + row * p.b_stride;
    const int32_t a_count = min(max(p.a_lengths[row], 0), p.a_k);
    const int32_t b_count = min(max(p.b_lengths[row], 0), p.b_k);
    const float *mass = p.mass_recall == nullptr ? nullptr : p.mass + row * p.mass_stride;
    int32_t common = 0;
    float own_all = 0.0f;
    float own_common = 0.0f;
    for (int64_t i = threadIdx.x; i < a_count; i += kThreads) {
      const bool in_both = holds(b, b_count, a[i]);
      common += in_both ? 1 : 0;
      if (mass == nullptr) continue;
      own_all = __fadd_rn(own_all, mass[i]);
      if (in_both) own_common = __fadd_rn(own_common, mass[i]);
    }
    common = static_cast<int32_t>(__reduce_add_sync(~0u, static_cast<unsigned>(common)));
    __syncthreads();  // the last row's counts and sums have been read
    if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = common;
    all_mass[threadIdx.x] = own_all;
    common_mass[threadIdx.x] = own_common;
    __syncthreads();
    if (mass != nullptr) {
      add_lanes(all_mass);
      add_lanes(common_mass);
    }
    if (threadIdx.x != 0) continue;
    common = 0;
    for (const int32_t count : counts) common += count;
    common = min(common, min(a_count, b_count));  // lists that are none may repeat an index
    const int32_t either = a_count + b_count - common;
    if (p.intersection != nullptr) p.intersection[row] = common;
    if (p.recall != nullptr) {
      p.recall[row] = a_count == 0 ? 1.0f : __fdiv_rn(static_cast<float>(common), static_cast<float>(a_count));
    }
    if (p.jaccard != nullptr) {
      p.jaccard[row] = either == 0 ? 1.0f : __fdiv_rn(static_cast<float>(common), static_cast<float>(either));
    }
    if (mass != nullptr) p.mass_recall[row] = all_mass[0] == 0.0f ? 1.0f : __fdiv_rn(common_mass[0], all_mass[0]);
  }
}

}  // namespace

cudaError_t load_overlap() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, overlap_kernel);
}

cudaError_t launch_overlap(const OverlapParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(params.count));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, overlap_kernel, params);
}

}  // namespace ic::cuda

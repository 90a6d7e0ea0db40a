// SPDX-License-Identifier: Apache-2.0
// The second launch of the split mode: joins what the splits of a row left, in order, and finishes the row.
//
// Bound: (4 * d_latent + 8) bytes per (row, split, head) read.
//
//   work item   one (row, head); a CTA of 128 threads, a thread per column and 128th column after it
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/attention/smxx/key_list.cuh"
#include "kernels/attention/smxx/plan.h"
#include "kernels/attention/smxx/softmax.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumnsPerThread = 1024 / kThreads;

__global__ void __launch_bounds__(kThreads)
    join_splits_kernel(const __grid_constant__ AttendParams p, const __grid_constant__ AttendPlan plan) {
  const int64_t num_items = int64_t{p.rows.count} * p.num_heads;
  for (int64_t item = blockIdx.x; item < num_items; item += gridDim.x) {
    const auto row = static_cast<int32_t>(item / p.num_heads);
    const auto head = static_cast<int32_t>(item % p.num_heads);
    uint32_t reported = 0;  // by the first launch already
    const KeyList list = key_list(p, row, &reported);
    const int32_t splits = (list.count + kSplitEntries - 1) / kSplitEntries;
    SplitResult total = {-INFINITY, 0.0f};
    float sum[kColumnsPerThread] = {};
    for (int32_t split = 0; split < splits; ++split) {
      const int64_t at = (int64_t{row} * plan.splits + split) * p.num_heads + head;
      const JoinWeights weights = join(total, split_results(p)[at]);
      const float *split_sum = split_sums(p, plan.splits) + at * p.d_latent;
#pragma unroll
      for (int i = 0; i < kColumnsPerThread; ++i) {
        const int column = static_cast<int>(threadIdx.x) + i * kThreads;
        if (column < p.d_latent) sum[i] = join_sum(sum[i], split_sum[column], weights);
      }
    }
    const float factor = output_factor(p, total, head);
    if (threadIdx.x == 0) store_lse(p, total, row, head);
#pragma unroll
    for (int i = 0; i < kColumnsPerThread; ++i) {
      const int column = static_cast<int>(threadIdx.x) + i * kThreads;
      if (column < p.d_latent) store_output(p, output_at(p, row, head) + column, scaled_output(sum[i], factor));
    }
  }
}

}  // namespace

cudaError_t load_join_splits() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, join_splits_kernel);
}

cudaError_t launch_join_splits(const AttendParams &params, const AttendPlan &plan, unsigned num_ctas,
                               cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(num_ctas);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, join_splits_kernel, params, plan);
}

}  // namespace ic::cuda

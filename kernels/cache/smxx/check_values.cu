// SPDX-License-Identifier: Apache-2.0
// Checks of values in device memory for contexts that ask for them (IC_CONTEXT_CHECK_VALUES): what the operation's own
// kernel passes over without a word. Nothing here is on a fast path.
#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/cache/launch.h"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) check_rows_kernel(const __grid_constant__ RowsView rows) {
  uint32_t fault = 0;
  for (int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x; row < rows.count;
       row += int64_t{gridDim.x} * kThreads) {
    (void)row_range(rows, static_cast<int32_t>(row), &fault);
    if (rows.key_begin != nullptr && rows.key_begin[row] < 0) fault |= IC_FAULT_KEY_END;
  }
  report_fault(rows.fault, fault);
}

__global__ void __launch_bounds__(kThreads)
    check_lengths_kernel(const int32_t *lengths, int64_t count, int32_t longest, uint32_t *word) {
  uint32_t fault = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    if (lengths[i] < 0 || lengths[i] > longest) fault = IC_FAULT_INDEX;
  }
  report_fault(word, fault);
}

__global__ void raise_kernel(uint32_t *word, uint32_t bits) { report_fault(word, bits); }

cudaLaunchConfig_t config_of(int64_t items, const LaunchLimits &limits, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid((items + kThreads - 1) / kThreads));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return config;
}

}  // namespace

cudaError_t load_check_values() {
  cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, check_rows_kernel);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, check_lengths_kernel);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, raise_kernel);
  return error;
}

cudaError_t launch_check_rows(const RowsView &rows, const LaunchLimits &limits, cudaStream_t stream) {
  if (rows.count == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = config_of(rows.count, limits, stream);
  return cudaLaunchKernelEx(&config, check_rows_kernel, rows);
}

cudaError_t launch_check_lengths(const int32_t *lengths, int64_t count, int32_t longest, uint32_t *fault,
                                 const LaunchLimits &limits, cudaStream_t stream) {
  if (count == 0 || lengths == nullptr) return cudaSuccess;
  const cudaLaunchConfig_t config = config_of(count, limits, stream);
  return cudaLaunchKernelEx(&config, check_lengths_kernel, lengths, count, longest, fault);
}

cudaError_t launch_raise(uint32_t *word, uint32_t bits, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, raise_kernel, word, bits);
}

}  // namespace ic::cuda

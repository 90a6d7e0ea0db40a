// SPDX-License-Identifier: Apache-2.0
// Publications that leave the library as blocks, and blocks that become publications.
//
// Bound: bytes, those of the block, over PCIe when it lies in host memory.
//
//   export   one launch: the header comes as a kernel argument, so that a captured graph holds it and no host memory is
//            read later; one CTA per row, stores of a row one behind the other
//   import   behind the copies of the lists: one CTA per row checks that it is an ascending list inside what the row
//            sees, and fills what lies behind it. The host has checked the block, but a replayed graph copies again
#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/cache/launch.h"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeaderWords = 16;

__global__ void __launch_bounds__(kThreads) export_rows_kernel(const __grid_constant__ ExportParams p) {
  auto *words = static_cast<uint32_t *>(p.block);
  auto *lengths = reinterpret_cast<int32_t *>(words + kHeaderWords);
  int32_t *indices = lengths + p.count;
  auto *scores = reinterpret_cast<float *>(indices + int64_t{p.count} * p.k);
  if (blockIdx.x == 0 && threadIdx.x < kHeaderWords) words[threadIdx.x] = p.header[threadIdx.x];
  for (int64_t row = blockIdx.x; row < p.count; row += gridDim.x) {
    if (threadIdx.x == 0) lengths[row] = p.lengths[row];
    for (int32_t i = threadIdx.x; i < p.k; i += kThreads) {
      indices[row * p.k + i] = p.indices[row * p.index_stride + i];
      if (p.scores != nullptr) scores[row * p.k + i] = p.scores[row * p.index_stride + i];
    }
  }
}

__global__ void __launch_bounds__(kThreads) check_imported_kernel(const __grid_constant__ ImportParams p) {
  uint32_t fault = 0;
  for (int64_t row = blockIdx.x; row < p.rows.count; row += gridDim.x) {
    int32_t *indices = p.indices + row * p.k_padded;
    const int32_t length = p.lengths[row];
    uint32_t row_fault = 0;
    bool wrong = length < 0 || length > p.k;
    if (!wrong && length > 0) {
      const RowRange sees = row_range(p.rows, static_cast<int32_t>(row), &row_fault);
      int32_t last = -1;
      for (int32_t i = threadIdx.x; i < length; i += kThreads) {
        const int32_t before = i == 0 ? sees.begin - 1 : indices[i - 1];
        last = indices[i];
        wrong |= last <= before || last >= sees.end;
      }
    }
    wrong = __syncthreads_or(wrong ? 1 : 0) != 0;  // and all threads have read the length and their neighbours
    if (wrong) row_fault |= IC_FAULT_INDEX;
    if (threadIdx.x == 0) {
      fault |= row_fault;
      if (wrong) p.lengths[row] = 0;
    }
    for (int32_t i = (wrong ? 0 : length) + threadIdx.x; i < p.k_padded; i += kThreads) indices[i] = -1;
    if (p.scores == nullptr) continue;
    float *scores = p.scores + row * p.k_padded;
    for (int32_t i = (wrong ? 0 : p.k) + threadIdx.x; i < p.k_padded; i += kThreads) scores[i] = -INFINITY;
  }
  report_fault(p.rows.fault, fault);
}

cudaLaunchConfig_t config_of(int64_t ctas, const LaunchLimits &limits, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(ctas));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return config;
}

}  // namespace

cudaError_t load_transport() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, export_rows_kernel);
  if (error != cudaSuccess) return error;
  return cudaFuncGetAttributes(&attributes, check_imported_kernel);
}

cudaError_t launch_export_rows(const ExportParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  const cudaLaunchConfig_t config = config_of(params.count, limits, stream);  // no rows: a header
  return cudaLaunchKernelEx(&config, export_rows_kernel, params);
}

cudaError_t launch_check_imported(const ImportParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = config_of(params.rows.count, limits, stream);
  return cudaLaunchKernelEx(&config, check_imported_kernel, params);
}

}  // namespace ic::cuda

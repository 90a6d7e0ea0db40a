// SPDX-License-Identifier: Apache-2.0
// Attention mass in fp32 on the CUDA cores: the mean over the heads of each entry's softmax weight. For analysis; any
// width, mix of types and alignment.
//
// Bound: twice 2 * (d_latent + d_rope) flop per (row, head, key) on the fp32 units; scores are made twice, so that
// nothing is kept per head and key. Three launches, whose work items share nothing:
//
//   denominators   (row, split of 512 entries, 8 heads)   maximum and denominator of the split, as attention has them
//   scales         (row, head), a thread each             joins the splits in order; 1 / (denominator and sink)
//   masses         (row, 64 entries)                      all heads in turn; one fma chain per key, heads ascending
//
// A row does not depend on its batch: every sum has one order.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "indexcache.h"
#include "kernels/attention/launch.h"
#include "kernels/attention/smxx/f32_tile.cuh"
#include "kernels/attention/smxx/key_list.cuh"
#include "kernels/attention/smxx/plan.h"
#include "kernels/attention/smxx/softmax.cuh"
#include "kernels/views/pool.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kScaleThreads = 128;

struct MassPlan {
  int32_t splits;      // of the longest list
  int32_t blocks;      // of the longest list
  int32_t head_tiles;  // per row
  int32_t page_shift;
};

/// What makes a head's scores probabilities: exp(score - base) * factor.
struct HeadScale {
  float base;
  float factor;  // 0 for a head without weight
};

/// The workspace: [row][split][head] of SplitResult, then [row][head] of HeadScale.
__device__ inline HeadScale *head_scales(const AttendParams &p, int32_t splits) {
  return reinterpret_cast<HeadScale *>(static_cast<uint8_t *>(p.workspace) +
                                       split_results_bytes(int64_t{p.rows.count} * splits * p.num_heads));
}

template <int kKvDtype>
__global__ void __launch_bounds__(kF32TileThreads)
    denominators_kernel(const __grid_constant__ AttendParams p, const __grid_constant__ MassPlan plan) {
  __shared__ F32Tile tile;
  const int own_head = threadIdx.x / 32;
  const int64_t num_items = int64_t{p.rows.count} * plan.splits * plan.head_tiles;
  uint32_t fault = 0;
  for (int64_t item = blockIdx.x; item < num_items; item += gridDim.x) {
    const auto head = static_cast<int32_t>(item % plan.head_tiles) * kF32TileHeads;
    const int64_t row_split = item / plan.head_tiles;
    const auto row = static_cast<int32_t>(row_split / plan.splits);
    const int32_t begin = static_cast<int32_t>(row_split % plan.splits) * kSplitEntries;
    const int32_t heads = min(kF32TileHeads, p.num_heads - head);
    const KeyList list = key_list(p, row, &fault);
    const int32_t end = min(list.count, begin + kSplitEntries);
    if (begin >= end) continue;

    __syncthreads();  // nobody reads the last item's tile any more
    load_queries(p, row, head, heads, tile);
    SplitResult state = {-INFINITY, 0.0f};
    for (int32_t block = begin; block < end; block += kF32TileKeys) {
      find_keys<kKvDtype>(p, list, plan.page_shift, block, end, tile, &fault);
      __syncthreads();
      score_block<kKvDtype>(p, tile);
      __syncthreads();
      (void)weigh(tile, state);
    }
    if (own_head < heads && threadIdx.x % 32 == 0) {
      split_results(p)[row_split * p.num_heads + head + own_head] = state;
    }
  }
  report_fault(p.rows.fault, fault);
}

__global__ void __launch_bounds__(kScaleThreads)
    scales_kernel(const __grid_constant__ AttendParams p, const __grid_constant__ MassPlan plan) {
  const int64_t count = int64_t{p.rows.count} * p.num_heads;
  const int64_t stride = int64_t{gridDim.x} * kScaleThreads;
  for (int64_t at = int64_t{blockIdx.x} * kScaleThreads + threadIdx.x; at < count; at += stride) {
    const auto row = static_cast<int32_t>(at / p.num_heads);
    const auto head = static_cast<int32_t>(at % p.num_heads);
    uint32_t reported = 0;  // by the first launch already
    const KeyList list = key_list(p, row, &reported);
    const int32_t splits = (list.count + kSplitEntries - 1) / kSplitEntries;
    SplitResult total = {-INFINITY, 0.0f};
    for (int32_t split = 0; split < splits; ++split) {
      (void)join(total, split_results(p)[(int64_t{row} * plan.splits + split) * p.num_heads + head]);
    }
    const float factor = output_factor(p, total, head);
    head_scales(p, plan.splits)[at] = {exponent_base(total.maximum), factor < 0.0f ? 0.0f : factor};
  }
}

template <int kKvDtype>
__global__ void __launch_bounds__(kF32TileThreads)
    masses_kernel(const __grid_constant__ AttentionMassParams params, const __grid_constant__ MassPlan plan) {
  __shared__ F32Tile tile;
  const AttendParams &p = params.attend;
  const int64_t num_items = int64_t{p.rows.count} * plan.blocks;
  const bool has_key = threadIdx.x < kF32TileKeys;
  for (int64_t item = blockIdx.x; item < num_items; item += gridDim.x) {
    const auto row = static_cast<int32_t>(item / plan.blocks);
    const int32_t first = static_cast<int32_t>(item % plan.blocks) * kF32TileKeys;
    uint32_t reported = 0;  // by the first launch already
    const KeyList list = key_list(p, row, &reported);
    float sum = 0.0f;
    bool present = false;
    if (first < list.count) {
      __syncthreads();  // nobody reads the last item's tile any more
      find_keys<kKvDtype>(p, list, plan.page_shift, first, list.count, tile, &reported);
      // The thread's own address: nobody else has written it.
      present = has_key && tile.key_at[threadIdx.x] != nullptr;
      const HeadScale *scales = head_scales(p, plan.splits) + int64_t{row} * p.num_heads;
      for (int32_t head = 0; head < p.num_heads; head += kF32TileHeads) {
        const int32_t heads = min(kF32TileHeads, p.num_heads - head);
        load_queries(p, row, head, heads, tile);
        __syncthreads();
        score_block<kKvDtype>(p, tile);
        __syncthreads();
        if (!has_key) continue;
        for (int32_t h = 0; h < heads; ++h) {
          const HeadScale scale = scales[head + h];
          sum = __fmaf_rn(expf(__fsub_rn(tile.score[h][threadIdx.x], scale.base)), scale.factor, sum);
        }
      }
    }
    const int32_t entry = first + static_cast<int32_t>(threadIdx.x);
    if (has_key && entry < p.num_indices) {
      params.mass[row * params.mass_row_stride + entry] =
          present ? __fdiv_rn(sum, static_cast<float>(p.num_heads)) : 0.0f;
    }
  }
}

template <int kKvDtype>
cudaError_t load() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, denominators_kernel<kKvDtype>);
  return error == cudaSuccess ? cudaFuncGetAttributes(&attributes, masses_kernel<kKvDtype>) : error;
}

template <int kKvDtype>
cudaError_t launch(const AttentionMassParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  const AttendParams &p = params.attend;
  MassPlan plan = {};
  plan.splits = (p.num_indices + kSplitEntries - 1) / kSplitEntries;
  plan.blocks = (p.num_indices + kF32TileKeys - 1) / kF32TileKeys;
  plan.head_tiles = (p.num_heads + kF32TileHeads - 1) / kF32TileHeads;
  plan.page_shift = std::max(page_shift(p.kv), 0);
  const int64_t rows = p.rows.count;
  cudaLaunchConfig_t config = {};
  config.stream = stream;
  config.gridDim = dim3(limits.grid(rows * plan.splits * plan.head_tiles));
  config.blockDim = dim3(kF32TileThreads);
  cudaError_t error = cudaLaunchKernelEx(&config, denominators_kernel<kKvDtype>, p, plan);
  if (error != cudaSuccess) return error;
  config.gridDim = dim3(limits.grid((rows * p.num_heads + kScaleThreads - 1) / kScaleThreads));
  config.blockDim = dim3(kScaleThreads);
  error = cudaLaunchKernelEx(&config, scales_kernel, p, plan);
  if (error != cudaSuccess) return error;
  config.gridDim = dim3(limits.grid(rows * plan.blocks));
  config.blockDim = dim3(kF32TileThreads);
  return cudaLaunchKernelEx(&config, masses_kernel<kKvDtype>, params, plan);
}

}  // namespace

cudaError_t load_attention_mass() {
  cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, scales_kernel);
  if (error == cudaSuccess) error = load<IC_DTYPE_F32>();
  if (error == cudaSuccess) error = load<IC_DTYPE_BF16>();
  if (error == cudaSuccess) error = load<IC_DTYPE_E4M3>();
  return error;
}

size_t attention_mass_workspace_bytes(const AttendLimits &limits) {
  const int64_t heads = int64_t{std::max(limits.max_rows, 0)} * limits.num_heads;
  const int64_t splits = (limits.num_indices + kSplitEntries - 1) / kSplitEntries;
  static_assert(sizeof(HeadScale) == sizeof(SplitResult), "one rounding for both arrays");
  return static_cast<size_t>(split_results_bytes(heads * splits) + split_results_bytes(heads));
}

cudaError_t launch_attention_mass(const AttentionMassParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.attend.rows.count == 0) return cudaSuccess;
  switch (params.attend.kv_dtype) {
    case IC_DTYPE_F32:
      return launch<IC_DTYPE_F32>(params, limits, stream);
    case IC_DTYPE_BF16:
      return launch<IC_DTYPE_BF16>(params, limits, stream);
    case IC_DTYPE_E4M3:
      return launch<IC_DTYPE_E4M3>(params, limits, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ic::cuda

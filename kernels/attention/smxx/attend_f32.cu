// SPDX-License-Identifier: Apache-2.0
// Sparse MLA in fp32 on the CUDA cores: any width, any mix of types, any alignment. For small models, tests and what
// the tensor cores do not take; accurate rather than fast.
//
// Bound: 2 * (2 * d_latent + d_rope) flop per (row, head, key) on the fp32 units.
//
//   work item   a row (or one split of it) x a tile of 8 heads; one CTA of 8 warps
//   block       64 entries of the list
//   scores      a warp per key, lanes along the dimensions, 8 heads at once; lanes are added by a fixed tree
//   weights     a warp per head; exp(score - running maximum) with the accurate expf
//   values      a thread per column, 8 heads at once: one fma chain over the keys of a split
#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/attention/smxx/f32_tile.cuh"
#include "kernels/attention/smxx/key_list.cuh"
#include "kernels/attention/smxx/plan.h"
#include "kernels/attention/smxx/softmax.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = kF32TileThreads;
constexpr int kHeads = kF32TileHeads;
constexpr int kBlockKeys = kF32TileKeys;
constexpr int kColumnsPerThread = 1024 / kThreads;
static_assert(kSplitEntries % kBlockKeys == 0, "splits are whole blocks");

struct Shared : F32Tile {
  alignas(16) float weight[kBlockKeys][kHeads];
  float rescale[kHeads];
  JoinWeights join[kHeads];
  float factor[kHeads];
};
static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of every chip");

/// Weights of a block and the state of its split; a warp per head.
__device__ void weigh_block(Shared &shared, SplitResult &state) {
  const int h = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const BlockWeights weights = weigh(shared, state);
  shared.weight[lane][h] = weights.first;
  shared.weight[lane + 32][h] = weights.second;
  if (lane == 0) shared.rescale[h] = weights.rescale;
}

using Sums = float[kColumnsPerThread][kHeads];

template <int kKvDtype>
__device__ void add_values(const AttendParams &p, const Shared &shared, Sums &sum) {
#pragma unroll
  for (int i = 0; i < kColumnsPerThread; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kThreads;
    if (column >= p.d_latent) break;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) sum[i][h] = __fmul_rn(sum[i][h], shared.rescale[h]);
#pragma unroll 4
    for (int key = 0; key < kBlockKeys; ++key) {
      const uint8_t *token = shared.key_at[key];
      if (token == nullptr) continue;
      const float v = load_element<kKvDtype>(token, column);
      const float4 low = *reinterpret_cast<const float4 *>(&shared.weight[key][0]);
      const float4 high = *reinterpret_cast<const float4 *>(&shared.weight[key][4]);
      const float weights[kHeads] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sum[i][h] = __fmaf_rn(weights[h], v, sum[i][h]);
    }
  }
}

template <int kKvDtype>
__global__ void __launch_bounds__(kThreads)
    attend_f32_kernel(const __grid_constant__ AttendParams p, const __grid_constant__ AttendPlan plan) {
  __shared__ Shared shared;
  const int own_head = threadIdx.x / 32;
  const bool walks = plan.splits == 0;
  uint32_t fault = 0;

  for (int64_t item = blockIdx.x; item < plan.num_items; item += gridDim.x) {
    const auto head = static_cast<int32_t>(item % plan.head_tiles) * kHeads;
    const int64_t row_split = item / plan.head_tiles;
    const auto row = static_cast<int32_t>(walks ? row_split : row_split / plan.splits);
    const auto split = static_cast<int32_t>(walks ? 0 : row_split % plan.splits);
    const int32_t heads = min(kHeads, p.num_heads - head);
    const KeyList list = key_list(p, row, &fault);
    const int32_t begin = split * kSplitEntries;
    const int32_t end = walks ? list.count : min(list.count, begin + kSplitEntries);
    if (begin >= end) {
      if (walks) store_empty_row(p, row, head, heads);
      continue;
    }

    __syncthreads();  // nobody reads the last item's queries any more
    load_queries(p, row, head, heads, shared);

    SplitResult row_state = {-INFINITY, 0.0f};
    Sums row_sum = {};
    for (int32_t from = begin; from < end; from += kSplitEntries) {
      const int32_t to = min(end, from + kSplitEntries);
      SplitResult state = {-INFINITY, 0.0f};
      Sums sum = {};
      for (int32_t block = from; block < to; block += kBlockKeys) {
        __syncthreads();
        find_keys<kKvDtype>(p, list, plan.page_shift, block, to, shared, &fault);
        __syncthreads();
        score_block<kKvDtype>(p, shared);
        __syncthreads();
        weigh_block(shared, state);
        __syncthreads();
        add_values<kKvDtype>(p, shared, sum);
      }
      if (!walks) {
        if (own_head < heads && threadIdx.x % 32 == 0) {
          split_results(p)[row_split * p.num_heads + head + own_head] = state;
        }
        float *out = split_sums(p, plan.splits) + (row_split * p.num_heads + head) * p.d_latent;
#pragma unroll
        for (int i = 0; i < kColumnsPerThread; ++i) {
          const int column = static_cast<int>(threadIdx.x) + i * kThreads;
          if (column >= p.d_latent) break;
#pragma unroll
          for (int h = 0; h < kHeads; ++h) {
            if (h < heads) out[int64_t{h} * p.d_latent + column] = sum[i][h];
          }
        }
        continue;
      }
      const JoinWeights weights = join(row_state, state);
      if (threadIdx.x % 32 == 0) {
        shared.join[own_head] = weights;
        if (to == end && own_head < heads) {
          shared.factor[own_head] = output_factor(p, row_state, head + own_head);
          store_lse(p, row_state, row, head + own_head);
        }
      }
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kColumnsPerThread; ++i) {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) row_sum[i][h] = join_sum(row_sum[i][h], sum[i][h], shared.join[h]);
      }
    }
    if (!walks) continue;
#pragma unroll
    for (int i = 0; i < kColumnsPerThread; ++i) {
      const int column = static_cast<int>(threadIdx.x) + i * kThreads;
      if (column >= p.d_latent) break;
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        if (h >= heads) continue;
        store_output(p, output_at(p, row, head + h) + column, scaled_output(row_sum[i][h], shared.factor[h]));
      }
    }
  }
  report_fault(p.rows.fault, fault);
}

template <int kKvDtype>
cudaError_t load() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, attend_f32_kernel<kKvDtype>);
}

template <int kKvDtype>
cudaError_t launch(const AttendParams &params, const AttendPlan &plan, unsigned num_ctas, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(num_ctas);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, attend_f32_kernel<kKvDtype>, params, plan);
}

}  // namespace

cudaError_t load_attend_f32() {
  cudaError_t error = load<IC_DTYPE_F32>();
  if (error == cudaSuccess) error = load<IC_DTYPE_BF16>();
  if (error == cudaSuccess) error = load<IC_DTYPE_E4M3>();
  return error;
}

cudaError_t launch_attend_f32(const AttendParams &params, const AttendPlan &plan, unsigned num_ctas,
                              cudaStream_t stream) {
  switch (params.kv_dtype) {
    case IC_DTYPE_F32:
      return launch<IC_DTYPE_F32>(params, plan, num_ctas, stream);
    case IC_DTYPE_BF16:
      return launch<IC_DTYPE_BF16>(params, plan, num_ctas, stream);
    case IC_DTYPE_E4M3:
      return launch<IC_DTYPE_E4M3>(params, plan, num_ctas, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ic::cuda

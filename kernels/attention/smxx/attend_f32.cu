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
#include "kernels/attention/smxx/key_list.cuh"
#include "kernels/attention/smxx/plan.h"
#include "kernels/attention/smxx/softmax.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kHeads = kF32TileHeads;
constexpr int kBlockKeys = 64;
constexpr int kMaxDim = 1024 + 256;
constexpr int kColumnsPerThread = 1024 / kThreads;
constexpr int kFp8TokenBytes = 656;
constexpr int kFp8Latent = 512;
constexpr int kFp8RopeAt = 528;
static_assert(kWarps == kHeads, "a warp per head in the softmax");
static_assert(kSplitEntries % kBlockKeys == 0, "splits are whole blocks");

__device__ inline float f32_from_bf16(uint16_t code) { return __uint_as_float(static_cast<uint32_t>(code) << 16); }

__device__ inline float f32_from_e4m3(uint32_t code) {
  // The bits of e4m3 at the same place in an fp32 stand for the value * 2^-120 (exponent biases 7 and 127).
  const float magnitude = __fmul_rn(__uint_as_float((code & 0x7fu) << 20), 0x1p120f);
  const uint32_t bits = (code & 0x7fu) == 0x7fu ? 0x7fc00000u : __float_as_uint(magnitude);
  return __uint_as_float(bits | (code & 0x80u) << 24);
}

template <int kKvDtype>
__device__ inline float load_element(const uint8_t *token, int d) {
  if constexpr (kKvDtype == IC_DTYPE_F32) {
    return reinterpret_cast<const float *>(token)[d];
  } else if constexpr (kKvDtype == IC_DTYPE_BF16) {
    return f32_from_bf16(reinterpret_cast<const uint16_t *>(token)[d]);
  } else {
    if (d >= kFp8Latent) {
      return f32_from_bf16(reinterpret_cast<const uint16_t *>(token + kFp8RopeAt)[d - kFp8Latent]);
    }
    const float scale = reinterpret_cast<const float *>(token + kFp8Latent)[d / 128];
    return __fmul_rn(f32_from_e4m3(token[d]), scale);
  }
}

struct Shared {
  float query[kHeads][kMaxDim];
  const uint8_t *key_at[kBlockKeys];
  float score[kHeads][kBlockKeys];
  alignas(16) float weight[kBlockKeys][kHeads];
  float rescale[kHeads];
  JoinWeights join[kHeads];
  float factor[kHeads];
};
static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of every chip");

/// The sums of eight values over the lanes: lane l receives that of value l / 4.
__device__ inline float add_lanes(const float (&value)[kHeads]) {
  const int lane = threadIdx.x % 32;
  float four[4], two[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool upper = (lane & 16) != 0;
    const float other = __shfl_xor_sync(~0u, upper ? value[i] : value[i + 4], 16);
    four[i] = __fadd_rn(upper ? value[i + 4] : value[i], other);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool upper = (lane & 8) != 0;
    const float other = __shfl_xor_sync(~0u, upper ? four[i] : four[i + 2], 8);
    two[i] = __fadd_rn(upper ? four[i + 2] : four[i], other);
  }
  const bool upper = (lane & 4) != 0;
  const float other = __shfl_xor_sync(~0u, upper ? two[0] : two[1], 4);
  float sum = __fadd_rn(upper ? two[1] : two[0], other);
  sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 2));
  return __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 1));
}

template <int kKvDtype>
__device__ void score_block(const AttendParams &p, Shared &shared) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int dim = p.d_latent + p.d_rope;
  for (int key = warp; key < kBlockKeys; key += kWarps) {
    const uint8_t *token = shared.key_at[key];
    if (token == nullptr) {
      if (lane < kHeads) shared.score[lane][key] = -INFINITY;
      continue;
    }
    float dot[kHeads] = {};
#pragma unroll 4
    for (int d = lane; d < dim; d += 32) {
      const float k = load_element<kKvDtype>(token, d);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) dot[h] = __fmaf_rn(shared.query[h][d], k, dot[h]);
    }
    const float sum = add_lanes(dot);
    if (lane % 4 == 0) shared.score[lane / 4][key] = __fmul_rn(sum, p.softmax_scale);
  }
}

/// Weights of a block and the state of its split; a warp per head.
__device__ void weigh_block(Shared &shared, SplitResult &state) {
  const int h = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const float first = shared.score[h][lane];
  const float second = shared.score[h][lane + 32];
  float top = fmaxf(first, second);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, distance));
  top = fmaxf(top, state.maximum);
  const float base = exponent_base(top);
  const float rescale = expf(__fsub_rn(state.maximum, base));
  const float weights[2] = {expf(__fsub_rn(first, base)), expf(__fsub_rn(second, base))};
  float sum = __fadd_rn(weights[0], weights[1]);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, distance));
  state.denominator = __fmaf_rn(state.denominator, rescale, sum);
  state.maximum = top;
  shared.weight[lane][h] = weights[0];
  shared.weight[lane + 32][h] = weights[1];
  if (lane == 0) shared.rescale[h] = rescale;
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
  const int dim = p.d_latent + p.d_rope;
  const int64_t token_bytes = kKvDtype == IC_DTYPE_E4M3 ? kFp8TokenBytes : dim * (kKvDtype == IC_DTYPE_F32 ? 4 : 2);
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
    for (int i = threadIdx.x; i < kHeads * dim; i += kThreads) {
      const int h = i / dim;
      const int64_t at = row * p.q_row_stride + int64_t{head} * dim + i;
      float q = 0.0f;
      if (h < heads) {
        q = p.q_dtype == IC_DTYPE_F32 ? static_cast<const float *>(p.q)[at]
                                      : f32_from_bf16(static_cast<const uint16_t *>(p.q)[at]);
      }
      shared.query[h][i % dim] = q;
    }

    SplitResult row_state = {-INFINITY, 0.0f};
    Sums row_sum = {};
    for (int32_t from = begin; from < end; from += kSplitEntries) {
      const int32_t to = min(end, from + kSplitEntries);
      SplitResult state = {-INFINITY, 0.0f};
      Sums sum = {};
      for (int32_t block = from; block < to; block += kBlockKeys) {
        __syncthreads();
        if (threadIdx.x < kBlockKeys) {
          const int32_t index = load_index(list, block + static_cast<int32_t>(threadIdx.x), to);
          const int32_t page = load_page(p, list, plan.page_shift, index);
          shared.key_at[threadIdx.x] = token_address(p, list, plan.page_shift, index, page, token_bytes, &fault);
        }
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

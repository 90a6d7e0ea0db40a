// SPDX-License-Identifier: Apache-2.0
// Scores of 8 heads and 64 keys in fp32 on the CUDA cores, and the running softmax over them: what attention in fp32
// and the attention mass have in common. One CTA of 8 warps holds a tile; __syncthreads() is the caller's.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/attention/smxx/fp8_token.h"
#include "kernels/attention/smxx/key_list.cuh"
#include "kernels/attention/smxx/plan.h"
#include "kernels/attention/smxx/softmax.cuh"

namespace ic::cuda {

constexpr int kF32TileThreads = 256;
constexpr int kF32TileKeys = 64;
static_assert(kF32TileThreads / 32 == kF32TileHeads, "a warp per head in the softmax");
static_assert(kF32TileKeys == 2 * 32, "two keys per lane in the softmax");

/// In shared memory.
struct F32Tile {
  float query[kF32TileHeads][1024 + 256];
  const uint8_t *key_at[kF32TileKeys];       // null: skipped
  float score[kF32TileHeads][kF32TileKeys];  // of a skipped key: -inf
};

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
    if (d >= kFp8Latent) return f32_from_bf16(reinterpret_cast<const uint16_t *>(token + kFp8RopeAt)[d - kFp8Latent]);
    const float scale = reinterpret_cast<const float *>(token + kFp8ScalesAt)[d / kFp8Group];
    return __fmul_rn(f32_from_e4m3(token[d]), scale);
  }
}

/// Queries of `heads` heads from `head` on; zeros for the rest of the tile.
__device__ inline void load_queries(const AttendParams &p, int32_t row, int32_t head, int32_t heads, F32Tile &tile) {
  const int dim = p.d_latent + p.d_rope;
  for (int i = threadIdx.x; i < kF32TileHeads * dim; i += kF32TileThreads) {
    const int h = i / dim;
    const int64_t at = row * p.q_row_stride + int64_t{head} * dim + i;
    float q = 0.0f;
    if (h < heads) {
      q = p.q_dtype == IC_DTYPE_F32 ? static_cast<const float *>(p.q)[at]
                                    : f32_from_bf16(static_cast<const uint16_t *>(p.q)[at]);
    }
    tile.query[h][i % dim] = q;
  }
}

/// Addresses of the entries [first, end) of a list, at most kF32TileKeys of them.
template <int kKvDtype>
__device__ inline void find_keys(const AttendParams &p, const KeyList &list, int32_t page_shift, int32_t first,
                                 int32_t end, F32Tile &tile, uint32_t *fault) {
  if (threadIdx.x >= kF32TileKeys) return;
  const int64_t token_bytes =
      kKvDtype == IC_DTYPE_E4M3 ? kFp8TokenBytes : (p.d_latent + p.d_rope) * (kKvDtype == IC_DTYPE_F32 ? 4 : 2);
  const int32_t index = load_index(list, first + static_cast<int32_t>(threadIdx.x), end);
  const int32_t page = load_page(p, list, page_shift, index);
  tile.key_at[threadIdx.x] = token_address(p, list, page_shift, index, page, token_bytes, fault);
}

/// The sums of eight values over the lanes: lane l receives that of value l / 4.
__device__ inline float add_lanes(const float (&value)[kF32TileHeads]) {
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

/// The scores of the tile; a warp per key.
template <int kKvDtype>
__device__ inline void score_block(const AttendParams &p, F32Tile &tile) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int dim = p.d_latent + p.d_rope;
  for (int key = warp; key < kF32TileKeys; key += (kF32TileThreads / 32)) {
    const uint8_t *token = tile.key_at[key];
    if (token == nullptr) {
      if (lane < kF32TileHeads) tile.score[lane][key] = -INFINITY;
      continue;
    }
    float dot[kF32TileHeads] = {};
#pragma unroll 4
    for (int d = lane; d < dim; d += 32) {
      const float k = load_element<kKvDtype>(token, d);
#pragma unroll
      for (int h = 0; h < kF32TileHeads; ++h) dot[h] = __fmaf_rn(tile.query[h][d], k, dot[h]);
    }
    const float sum = add_lanes(dot);
    if (lane % 4 == 0) tile.score[lane / 4][key] = __fmul_rn(sum, p.softmax_scale);
  }
}

/// Softmax weights of the lane's two keys, `lane` and `lane + 32`, of the head that the warp has.
struct BlockWeights {
  float first;
  float second;
  float rescale;  // for what was added up before this block
};

/// Adds the tile to the state of its split; a warp per head.
__device__ inline BlockWeights weigh(const F32Tile &tile, SplitResult &state) {
  const int h = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const float first = tile.score[h][lane];
  const float second = tile.score[h][lane + 32];
  float top = fmaxf(first, second);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, distance));
  top = fmaxf(top, state.maximum);
  const float base = exponent_base(top);
  const BlockWeights weights = {expf(__fsub_rn(first, base)), expf(__fsub_rn(second, base)),
                                expf(__fsub_rn(state.maximum, base))};
  float sum = __fadd_rn(weights.first, weights.second);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, distance));
  state.denominator = __fmaf_rn(state.denominator, weights.rescale, sum);
  state.maximum = top;
  return weights;
}

}  // namespace ic::cuda

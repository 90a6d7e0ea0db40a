// SPDX-License-Identifier: Apache-2.0
// From scores to candidates: which scores of a warp's tile reach a threshold, and their append to the list.
// Bit b of a lane's mask is the score at (b / 4) * 128 + 4 * lane + b % 4 of the tile.
#pragma once

#include "kernels/topk/order_key.cuh"
#include "kernels/topk/sm90_lists/candidates.cuh"
#include "kernels/topk/sm90_rows.cuh"

namespace ic::cuda::lists {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using sm90::Span;

constexpr uint32_t kNoBound = 0xfffffffeu;  // as a line's key: nothing is above it

/// Scores of the first `count` columns from `tile` that reach `bound`, `skip` (0 to 3) of them left out in front.
/// kAny: a NaN counts as -inf, or with nan_is_absent as nothing; else bound is above -inf.
template <bool kAny>
__device__ inline uint32_t reaching(float bound, const float *tile, int32_t count, int32_t skip, bool nan_is_absent) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float4 *vectors = reinterpret_cast<const float4 *>(tile) + lane;
  uint32_t mask = 0;
  const auto test = [&](float4 v, int i) {
    if constexpr (kAny) {
      if (!nan_is_absent) v = {without_nan(v.x), without_nan(v.y), without_nan(v.z), without_nan(v.w)};
    }
    if (v.x >= bound) mask |= 1u << (4 * i);
    if (v.y >= bound) mask |= 2u << (4 * i);
    if (v.z >= bound) mask |= 4u << (4 * i);
    if (v.w >= bound) mask |= 8u << (4 * i);
  };
  if (count >= Shape::kWarpTile) {
    float4 v[Shape::kVectors];
#pragma unroll
    for (int i = 0; i < Shape::kVectors; ++i) v[i] = vectors[i * 32];
#pragma unroll
    for (int i = 0; i < Shape::kVectors; ++i) test(v[i], i);
  } else {
#pragma unroll 1
    for (int i = 0; i < Shape::kVectors; ++i) {
      const int32_t left = count - (i * 128 + 4 * lane);
      if (left >= 4) {
        test(vectors[i * 32], i);
      } else if (left > 0) {
        const float *one = tile + i * 128 + 4 * lane;
        test({one[0], left > 1 ? one[1] : one[0], left > 2 ? one[2] : one[0], one[0]}, i);
        mask &= ~(0xfu << (4 * i)) | ((1u << left) - 1) << (4 * i);
      }
    }
  }
  if (lane == 0) mask &= ~((1u << skip) - 1);
  return mask;
}

/// Appends the scores in the mask. True: no room, nothing was appended.
template <bool kAny>
__device__ inline bool append(uint32_t mask, const float *tile, int32_t first_column) {
  if (!__any_sync(kWarp, mask != 0)) return false;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const sm90::Places places = sm90::take_places(&block_words().num_listed, __popc(mask));
  if (places.begin + places.count > Shape::kCapacity) {
    if (lane == 0) atomicMin(&block_words().valid_listed, places.begin);
    return true;
  }
  uint32_t place = shared_address(candidates()) + 8 * places.own;
  while (mask != 0) {
    const int bit = __ffs(static_cast<int>(mask)) - 1;
    mask &= mask - 1;
    const int32_t i = bit / 4 * 128 + 4 * lane + bit % 4;
    float score = tile[i];
    if constexpr (kAny) score = without_nan(score);
    const uint32_t key = key_of(score);
    ptx::shared_store_pair(place, make_uint2(key, static_cast<uint32_t>(first_column + i)));
    place += 8;
  }
  return false;
}

/// Which scores of a mask are above a line that was drawn after the mask.
__device__ inline uint32_t still_above(const Line &line, uint32_t mask, const float *tile, int32_t first_column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t above = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int bit = __ffs(static_cast<int>(left)) - 1;
    const int32_t i = bit / 4 * 128 + 4 * lane + bit % 4;
    const uint2 entry = make_uint2(key_of(without_nan(tile[i])), static_cast<uint32_t>(first_column + i));
    if (is_above(entry, line)) above |= 1u << bit;
  }
  return above;
}

/// The whole row straight from memory, what reaches `bound` accepted at the start: exact for any data, if k scores do.
/// The list is empty before; after, it holds what could be among the k best.
__device__ inline void list_from(const float *scores, Span row, int32_t k, bool nan_is_absent, float bound) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int32_t first = row.base; first < row.end; first += Shape::kTile) {
    const int32_t column = first + warp * Shape::kWarpTile;
    const float *tile = scores + column;
    uint32_t mask = 0;
    if (column < row.end) {
      mask = reaching<true>(bound, tile, row.end - column, max(0, row.begin - column), nan_is_absent);
    }
    bool full = append<true>(mask, tile, column);
    while (__syncthreads_or(full ? 1 : 0) != 0) {
      const Line line = keep_best(k, row.begin, row.end);
      bound = score_of_key(line.key + 1);  // later tiles lie behind the line's position
      if (full) {
        mask = still_above(line, mask, tile, column);
        full = append<true>(mask, tile, column);
      }
    }
  }
}

#endif

}  // namespace ic::cuda::lists

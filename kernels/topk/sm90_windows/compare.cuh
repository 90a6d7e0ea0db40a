// SPDX-License-Identifier: Apache-2.0
// A tile's scores against the window: bits of those above it, and a list of those in it. Each thread has 32 columns in
// a row; the highest bit of its words is the first of them.
#pragma once

#include "kernels/topk/sm90_windows/shape.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The window as scores. A difference of two floats is negative exactly if the first is smaller, and NaN is not.
struct Bounds {
  float above;   // larger than this
  float listed;  // larger than this, but not above
  float ties;    // larger than this, but not listed
  bool has_ties;
  bool has_bottom;  // ties of -inf
  bool nan_is_absent;

  __device__ Bounds(const Window &window, bool nan_is_absent_)
      : above(score_of_key(window.high)),
        has_ties(window.ties),
        has_bottom(window.has_bottom()),
        nan_is_absent(nan_is_absent_) {
    ties = score_of_key(window_end(window.low - 1));
    listed = has_ties ? score_of_key(window.low) : ties;
  }
};

struct TileBits {
  uint32_t above;
  uint32_t listed;
  uint32_t ties;
};

/// `first` as 1 bits from the highest on.
__device__ inline uint32_t bits_from(int32_t first) { return first >= 32 ? 0u : kWarp >> max(first, 0); }

/// Columns [skip, count) of a tile.
__device__ inline TileBits compare_tile(const float *tile, const Bounds &bounds, int32_t skip, int32_t count) {
  const int lane = lane_id();
  // Vectors are read in another order by each of eight lanes, so that all banks work; the words are turned back.
  const float4 *own = reinterpret_cast<const float4 *>(tile) + 8 * lane;
  float4 v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = own[(i + lane) & 7];
  const auto larger_than = [&](float bound) {
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      word = __funnelshift_l(__float_as_uint(__fsub_rn(bound, v[i].x)), word, 1);
      word = __funnelshift_l(__float_as_uint(__fsub_rn(bound, v[i].y)), word, 1);
      word = __funnelshift_l(__float_as_uint(__fsub_rn(bound, v[i].z)), word, 1);
      word = __funnelshift_l(__float_as_uint(__fsub_rn(bound, v[i].w)), word, 1);
    }
    return word;
  };
  TileBits bits = {larger_than(bounds.above), larger_than(bounds.listed), 0};
  if (bounds.has_ties) {  // uniform
    bits.ties = bounds.has_bottom ? kWarp : larger_than(bounds.ties);
    if (bounds.has_bottom && bounds.nan_is_absent) {
      bits.ties = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        bits.ties = bits.ties << 4 | (v[i].x >= -INFINITY ? 8u : 0u) | (v[i].y >= -INFINITY ? 4u : 0u) |
                    (v[i].z >= -INFINITY ? 2u : 0u) | (v[i].w >= -INFINITY ? 1u : 0u);
      }
    }
    bits.ties &= ~bits.listed;
  }
  bits.listed &= ~bits.above;
  const auto turn = static_cast<uint32_t>(4 * (lane & 7));
  uint32_t valid = kWarp;
  if (skip > 0 || count < kTileColumns) valid = bits_from(skip - 32 * lane) & ~bits_from(count - 32 * lane);
  bits.above = __funnelshift_r(bits.above, bits.above, turn) & valid;
  bits.listed = __funnelshift_r(bits.listed, bits.listed, turn) & valid;
  bits.ties = __funnelshift_r(bits.ties, bits.ties, turn) & valid;
  return bits;
}

/// Appends scores to the list, as (key, position). What does not fit is only counted.
template <class S>
__device__ inline void append(uint32_t listed, const float *tile, int32_t first_column, int32_t capacity) {
  if (!__any_sync(kWarp, listed != 0)) return;
  const int32_t own = __popc(listed);
  const sm90::Places places = sm90::take_places(&block_words<S>().num_listed, own);
  if (places.begin + places.count > static_cast<uint32_t>(capacity)) return;
  auto to = static_cast<int32_t>(places.own);
  const auto put = [&](int32_t place, int32_t column) {
    candidates<S>()[place] =
        make_uint2(key_of(without_nan(tile[column])), static_cast<uint32_t>(first_column + column));
  };
  for (uint32_t full = __ballot_sync(kWarp, own > kMostAlone); full != 0; full &= full - 1) {
    const int lane = __ffs(static_cast<int>(full)) - 1;
    const uint32_t word = __shfl_sync(kWarp, listed, lane);
    const int32_t first = __shfl_sync(kWarp, to, lane);
    if (has_bit(word, lane_id())) put(first + bits_in_front(word, lane_id()), 32 * lane + lane_id());
  }
  if (own > kMostAlone) listed = 0;
  while (listed != 0) put(to++, 32 * lane_id() + take_first_bit(&listed));
}

#endif

}  // namespace ic::cuda::windows

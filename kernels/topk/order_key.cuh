// SPDX-License-Identifier: Apache-2.0
// Scores as unsigned integers in the order of the selection: a larger key is a better score. No score has the key of
// -0.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda {

constexpr uint32_t kAbsentKey = 0;  // no score has it
constexpr uint32_t kMinusInfinityKey = 0x007fffffu;
constexpr uint32_t kMinusZeroKey = 0x7fffffffu;
constexpr uint32_t kInfinityKey = 0xff800000u;

/// -0 as +0. Not for a NaN.
__device__ inline uint32_t key_of(float score) {
  const uint32_t bits = __float_as_uint(__fadd_rn(score, 0.0f));
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

/// A NaN is no key at all or counts as -inf.
__device__ inline uint32_t order_key(float score, bool nan_is_absent) {
  if (!(score == score)) return nan_is_absent ? kAbsentKey : kMinusInfinityKey;
  return key_of(score);
}

/// For keys above +inf a NaN, which no score reaches.
__device__ inline float score_of_key(uint32_t key) {
  return __uint_as_float((key >> 31) != 0 ? key ^ 0x80000000u : ~key);
}

/// A NaN as -inf.
__device__ inline float without_nan(float score) { return fmaxf(score, -INFINITY); }

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
// Scores as unsigned integers in the order of the selection: a larger key is a better score.
#pragma once

#include <cstdint>

namespace ic::cuda {

constexpr uint32_t kAbsentKey = 0;  // no score has it
constexpr uint32_t kMinusInfinityKey = 0x007fffffu;

/// -0 as +0. A NaN is no key at all or counts as -inf.
__device__ inline uint32_t order_key(float score, bool nan_is_absent) {
  if (!(score == score)) return nan_is_absent ? kAbsentKey : kMinusInfinityKey;
  const uint32_t bits = __float_as_uint(__fadd_rn(score, 0.0f));
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

__device__ inline float score_of_key(uint32_t key) {
  return __uint_as_float((key >> 31) != 0 ? key ^ 0x80000000u : ~key);
}

}  // namespace ic::cuda

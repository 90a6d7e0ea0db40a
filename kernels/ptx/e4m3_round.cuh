// SPDX-License-Identifier: Apache-2.0
// fp32 to e4m3: round to nearest even, saturate at +-448, NaN becomes 0x7f.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

/// One number by integer arithmetic, for chips without the conversion.
__device__ inline uint32_t e4m3_from_f32(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fu;
  // Below 2^-6 the code counts units of 2^-9: the unit of 2^14, so that the addition rounds.
  const uint32_t tiny = __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 16384.0f)) - 0x46800000u;
  const uint32_t normal = (magnitude + 0x7ffffu + (magnitude >> 20 & 1u) - (120u << 23)) >> 20;
  const uint32_t finite = magnitude < 121u << 23 ? tiny : normal;
  return (magnitude >= 0x43e00000u ? 0x7eu : finite) | (bits >> 24 & 0x80u);
}

/// Two numbers in the low 16 bits, the first in the lowest byte.
__device__ inline uint32_t e4m3x2_from_f32(float first, float second) {
#if __CUDA_ARCH__ >= 890
  uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(second), "f"(first));
  return codes;
#else
  return e4m3_from_f32(first) | e4m3_from_f32(second) << 8;
#endif
}

}  // namespace ic::cuda::ptx

// SPDX-License-Identifier: Apache-2.0
// bf16 pairs and the exponential of the hardware (sm_80 and newer): one instruction, one inline function.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

/// Two fp32 numbers rounded to bf16 (nearest, ties to even), the first in the low half.
__device__ inline uint32_t bf16x2_from_f32(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// a * b + c on bf16 pairs, rounded once; subnormals count.
__device__ inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

/// 2^x within 2 units in the last place; results below the smallest normal number are 0. 2^-inf is 0, 2^0 is 1.
__device__ inline float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace ic::cuda::ptx

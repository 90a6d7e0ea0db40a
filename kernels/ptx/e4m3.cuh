// SPDX-License-Identifier: Apache-2.0
// e4m3 to fp16, exact: every e4m3 number is an fp16 number.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ic::cuda::ptx {

/// Two e4m3 numbers in the low 16 bits, the first in the lowest byte, to two fp16 numbers. NaN becomes a NaN.
__device__ inline uint32_t f16x2_from_e4m3x2(uint32_t codes) {
#if __CUDA_ARCH__ >= 890
  uint32_t halves;
  asm("{\n\t.reg .b16 low;\n\tcvt.u16.u32 low, %1;\n\tcvt.rn.f16x2.e4m3x2 %0, low;\n\t}" : "=r"(halves) : "r"(codes));
  return halves;
#else
  // The bits of e4m3, moved to the top of an fp16, read as value * 2^-8 (exponent biases 7 and 15). So do subnormals.
  const uint32_t spread = __byte_perm(codes, 0, 0x1404);  // a code in the high byte of each half
  const uint32_t magnitude = (spread & 0x7f007f00u) >> 1;
  uint32_t halves;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(halves) : "r"(magnitude), "r"(0x5c005c00u));  // * 256
  const uint32_t nan = (magnitude + 0x00800080u) & 0x40004000u;  // set for code 0x7f alone, where the sum carries
  return halves | (spread & 0x80008000u) | nan | (nan - (nan >> 5));
#endif
}

}  // namespace ic::cuda::ptx

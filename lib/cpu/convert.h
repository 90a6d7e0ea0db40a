// SPDX-License-Identifier: Apache-2.0
// Exact conversions between fp32 and bf16, fp16, e4m3 by bit operations, and the scale rules of quantised vectors.
#pragma once

#include <cstdint>

// Internal linkage and forced inlining: translation units of every instruction level include this header, and a shared
// out-of-line copy built for a newer level must not be what older ones link to.
#define IC_CONVERT_INLINE static inline __attribute__((always_inline))

namespace ic::cpu {

// Towards fp32 every finite value is exact. From fp32: round to nearest, ties to even. A NaN becomes the positive quiet
// NaN of the type, whatever its sign and payload were, because processors disagree about those. None of these meets
// fp32 subnormals on the way to or from a finite fp16 or e4m3 value, so that a flush-to-zero mode changes nothing.

IC_CONVERT_INLINE float f32_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
IC_CONVERT_INLINE uint32_t bits_from_f32(float value) { return __builtin_bit_cast(uint32_t, value); }

/// bf16: the upper half of an fp32.
IC_CONVERT_INLINE float f32_from_bf16(uint16_t code) { return f32_from_bits(static_cast<uint32_t>(code) << 16); }

/// Values that round beyond the largest bf16 become infinite.
IC_CONVERT_INLINE uint16_t bf16_from_f32(float value) {
  const uint32_t bits = bits_from_f32(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t is_nan = (bits & 0x7fffffffu) > 0x7f800000u ? 1u : 0u;
  return static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded);
}

/// fp16 (IEEE binary16), subnormals, infinities and NaN included.
IC_CONVERT_INLINE float f32_from_f16(uint16_t code) {
  const uint32_t magnitude = static_cast<uint32_t>(code & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(code & 0x8000u) << 16;
  // A subnormal m * 2^-24 is read as 2^-14 + m * 2^-24, less 2^-14: exact.
  const uint32_t tiny = bits_from_f32(f32_from_bits(magnitude + (113u << 23)) - 0x1p-14f);
  const uint32_t normal = magnitude + (112u << 23);
  const uint32_t special = magnitude + (224u << 23);
  const uint32_t finite = magnitude < (1u << 23) ? tiny : normal;
  return f32_from_bits((magnitude >= (31u << 23) ? special : finite) | sign);
}

/// Values from 65520 on become infinite.
IC_CONVERT_INLINE uint16_t f16_from_f32(float value) {
  const uint32_t bits = bits_from_f32(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 16) & 0x8000u;
  // Below 2^-14 the code is the value in units of 2^-24; the unit of 0.5 is just that, so the addition rounds.
  const uint32_t tiny = bits_from_f32(f32_from_bits(magnitude) + 0.5f) - bits_from_f32(0.5f);
  const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  const uint32_t finite = magnitude < (113u << 23) ? tiny : normal;
  const uint32_t limited = magnitude >= 0x477ff000u ? 0x7c00u : finite;
  return static_cast<uint16_t>(magnitude > 0x7f800000u ? 0x7e00u : (limited | sign));
}

/// e4m3 (the "fn" kind: no infinities, 0x7f and 0xff are NaN, largest value 448).
IC_CONVERT_INLINE float f32_from_e4m3(uint8_t code) {
  const uint32_t magnitude = static_cast<uint32_t>(code & 0x7fu) << 20;
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  // As for fp16: a subnormal m * 2^-9 is read as 2^-6 + m * 2^-9, less 2^-6.
  const uint32_t tiny = bits_from_f32(f32_from_bits(magnitude + (121u << 23)) - 0x1p-6f);
  const uint32_t normal = magnitude + (120u << 23);
  const uint32_t finite = magnitude < (1u << 23) ? tiny : normal;
  return f32_from_bits(magnitude == (0x7fu << 20) ? 0x7fc00000u : (finite | sign));
}

/// Saturates: finite values beyond 448 and infinities become +-448.
IC_CONVERT_INLINE uint8_t e4m3_from_f32(float value) {
  const uint32_t bits = bits_from_f32(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 24) & 0x80u;
  // Below 2^-6 the code is the value in units of 2^-9, the unit of 2^14.
  const uint32_t tiny = bits_from_f32(f32_from_bits(magnitude) + 0x1p14f) - bits_from_f32(0x1p14f);
  const uint32_t normal = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u) - (120u << 23)) >> 20;
  const uint32_t finite = magnitude < (121u << 23) ? tiny : normal;
  const uint32_t limited = magnitude >= 0x43e00000u ? 0x7eu : finite;
  return static_cast<uint8_t>(magnitude > 0x7f800000u ? 0x7fu : (limited | sign));
}

/// The scale of an e4m3 vector whose largest magnitude is amax: max(amax, 1e-4) / 448. NaN stays NaN.
IC_CONVERT_INLINE float e4m3_scale(float amax) {
  const float scale = (amax < 1e-4f ? 1e-4f : amax) / 448.0f;
  return scale == scale ? scale : f32_from_bits(0x7fc00000u);
}

/// UE8M0: the smallest power of two that is not below a positive normal scale, taken from the exponent bits. Infinity
/// and NaN stay what they are.
IC_CONVERT_INLINE float power_of_two_scale(float scale) {
  const uint32_t bits = bits_from_f32(scale);
  return bits >= 0x7f800000u ? scale : f32_from_bits((bits + 0x007fffffu) & 0xff800000u);
}

/// Bytes of one element of an IC_DTYPE_*; 0 for another value.
int32_t dtype_bytes(int32_t dtype);

/// Converts count elements of dtype (IC_DTYPE_*) to fp32. The arrays do not overlap; src needs no alignment.
void convert_to_f32(int32_t dtype, const void *src, float *dst, int64_t count);

/// Converts count fp32 values to dtype (IC_DTYPE_*) by the rules above. dst needs no alignment.
void convert_from_f32(int32_t dtype, const float *src, void *dst, int64_t count);

}  // namespace ic::cpu

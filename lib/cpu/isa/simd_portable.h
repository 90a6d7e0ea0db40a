// SPDX-License-Identifier: Apache-2.0
// Sixteen fp32 lanes in plain C++. The interface that simd_avx2.h and simd_avx512.h repeat with the same bits.
//
// Rules for code built on it: only one simd_*.h per translation unit; nothing from std:: that could leave a shared
// inline function behind (the linker might keep the copy that was compiled for AVX); fused and unfused steps are
// written out (-ffp-contract=off).
//
// Bits: every operation is IEEE fp32, round to nearest even, per lane. reduce_add adds lane i and i+8, then i+4, i+2,
// i+1. max(a, b) is a > b ? a : b and min(a, b) is a < b ? a : b, so b comes back when either is NaN.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace ic::cpu {
namespace {

#define IC_INLINE inline __attribute__((always_inline))
#define IC_LANES for (int i = 0; i < 16; ++i)

inline constexpr int kLanes = 16;

struct F32 {
  float v[16];
};
struct I32 {
  int32_t v[16];
};
struct Mask {  // bit i belongs to lane i
  uint32_t bits;
};

// Without the instruction a library call would take some hundred cycles, so x86-64 has a fused multiply-add in SSE2,
// which all of its processors have. The product is exact in fp64; the sum is rounded to odd (an inexact result gets an
// odd last bit, towards the error), after which rounding to fp32 equals one rounding of the exact value, because fp64
// has more than two bits to spare (Boldo and Melquiond, 2008).
#if defined(__x86_64__) && !defined(__FMA__)
#define IC_FMA_IN_SSE2 1
IC_INLINE __m128d fma_to_odd(__m128d a, __m128d b, __m128d c) {
  const __m128d product = _mm_mul_pd(a, b);
  const __m128d sum = _mm_add_pd(product, c);
  const __m128d c_part = _mm_sub_pd(sum, product);
  const __m128d error = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, c_part)), _mm_sub_pd(c, c_part));
  const __m128d outward = _mm_mul_pd(error, sum);  // > 0: the exact value is larger in magnitude; NaN for infinities
  const __m128i up = _mm_castpd_si128(_mm_cmpgt_pd(outward, _mm_setzero_pd()));
  const __m128i down = _mm_castpd_si128(_mm_cmplt_pd(outward, _mm_setzero_pd()));
  const __m128i bits = _mm_castpd_si128(sum);
  const __m128i one = _mm_set1_epi64x(1);
  const __m128i even = _mm_sub_epi64(_mm_and_si128(bits, one), one);  // all ones where the last bit is 0
  return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_and_si128(_mm_sub_epi64(down, up), even)));
}
#endif

IC_INLINE float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
IC_INLINE uint32_t bits1(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  return u;
}
IC_INLINE float float1(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}

// Masks
IC_INLINE uint32_t mask_bits(Mask m) { return m.bits; }
IC_INLINE Mask mask_from_bits(uint32_t bits) { return {bits & 0xffffu}; }
IC_INLINE Mask mask_first(int n) { return {n >= 16 ? 0xffffu : (n <= 0 ? 0u : (1u << n) - 1u)}; }
IC_INLINE Mask mask_and(Mask a, Mask b) { return {a.bits & b.bits}; }
/// a without b
IC_INLINE Mask mask_and_not(Mask a, Mask b) { return {a.bits & ~b.bits}; }
IC_INLINE Mask mask_or(Mask a, Mask b) { return {a.bits | b.bits}; }

// fp32: load and store of n lanes touch nothing behind them; lanes that are not loaded are +0
IC_INLINE F32 set1(float x) {
  F32 r;
  IC_LANES r.v[i] = x;
  return r;
}
IC_INLINE F32 zero() { return set1(0.0f); }
IC_INLINE F32 load(const float *p) {
  F32 r;
  __builtin_memcpy(r.v, p, 64);
  return r;
}
IC_INLINE F32 load_n(const float *p, int n) {
  F32 r = zero();
  for (int i = 0; i < n && i < 16; ++i) r.v[i] = p[i];
  return r;
}
IC_INLINE void store(float *p, F32 a) { __builtin_memcpy(p, a.v, 64); }
IC_INLINE void store_n(float *p, F32 a, int n) {
  for (int i = 0; i < n && i < 16; ++i) p[i] = a.v[i];
}
IC_INLINE F32 add(F32 a, F32 b) {
  IC_LANES a.v[i] += b.v[i];
  return a;
}
IC_INLINE F32 sub(F32 a, F32 b) {
  IC_LANES a.v[i] -= b.v[i];
  return a;
}
IC_INLINE F32 mul(F32 a, F32 b) {
  IC_LANES a.v[i] *= b.v[i];
  return a;
}
IC_INLINE F32 div(F32 a, F32 b) {
  IC_LANES a.v[i] /= b.v[i];
  return a;
}
/// a * b + c with one rounding.
IC_INLINE F32 fma(F32 a, F32 b, F32 c) {
#if defined(IC_FMA_IN_SSE2)
  for (int i = 0; i < 16; i += 4) {
    const __m128 x = _mm_loadu_ps(a.v + i), y = _mm_loadu_ps(b.v + i), z = _mm_loadu_ps(c.v + i);
    const __m128d low = fma_to_odd(_mm_cvtps_pd(x), _mm_cvtps_pd(y), _mm_cvtps_pd(z));
    const __m128d high = fma_to_odd(_mm_cvtps_pd(_mm_movehl_ps(x, x)), _mm_cvtps_pd(_mm_movehl_ps(y, y)),
                                    _mm_cvtps_pd(_mm_movehl_ps(z, z)));
    _mm_storeu_ps(c.v + i, _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)));
  }
#else
  IC_LANES c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
#endif
  return c;
}
IC_INLINE F32 max(F32 a, F32 b) {
  IC_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
IC_INLINE F32 min(F32 a, F32 b) {
  IC_LANES a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
/// a > 0 ? a : +0; NaN and -0 give +0.
IC_INLINE F32 relu(F32 a) { return max(a, zero()); }
IC_INLINE Mask gt(F32 a, F32 b) {
  Mask m = {0};
  IC_LANES m.bits |= static_cast<uint32_t>(a.v[i] > b.v[i]) << i;
  return m;
}
IC_INLINE Mask eq(F32 a, F32 b) {
  Mask m = {0};
  IC_LANES m.bits |= static_cast<uint32_t>(a.v[i] == b.v[i]) << i;
  return m;
}
/// m ? a : b
IC_INLINE F32 select(Mask m, F32 a, F32 b) {
  IC_LANES b.v[i] = ((m.bits >> i) & 1u) != 0 ? a.v[i] : b.v[i];
  return b;
}
IC_INLINE float reduce_add(F32 a) {
  for (int step = 8; step > 0; step >>= 1) {
    for (int i = 0; i < step; ++i) a.v[i] += a.v[i + step];
  }
  return a.v[0];
}
IC_INLINE float reduce_max(F32 a) {
  for (int step = 8; step > 0; step >>= 1) {
    for (int i = 0; i < step; ++i) a.v[i] = a.v[i] > a.v[i + step] ? a.v[i] : a.v[i + step];
  }
  return a.v[0];
}

// int32; arithmetic wraps
IC_INLINE I32 set1i(int32_t x) {
  I32 r;
  IC_LANES r.v[i] = x;
  return r;
}
IC_INLINE I32 iota(int32_t first) {
  I32 r;
  IC_LANES r.v[i] = first + i;
  return r;
}
IC_INLINE I32 load(const int32_t *p) {
  I32 r;
  __builtin_memcpy(r.v, p, 64);
  return r;
}
IC_INLINE void store(int32_t *p, I32 a) { __builtin_memcpy(p, a.v, 64); }
IC_INLINE I32 add(I32 a, I32 b) {
  IC_LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i]));
  return a;
}
IC_INLINE I32 sub(I32 a, I32 b) {
  IC_LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i]));
  return a;
}
IC_INLINE I32 bit_and(I32 a, I32 b) {
  IC_LANES a.v[i] &= b.v[i];
  return a;
}
IC_INLINE I32 bit_or(I32 a, I32 b) {
  IC_LANES a.v[i] |= b.v[i];
  return a;
}
IC_INLINE I32 bit_xor(I32 a, I32 b) {
  IC_LANES a.v[i] ^= b.v[i];
  return a;
}
template <int kBits>
IC_INLINE I32 shift_left(I32 a) {
  IC_LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << kBits);
  return a;
}
template <int kBits>
IC_INLINE I32 shift_right(I32 a) {  // fills with zeros
  IC_LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> kBits);
  return a;
}
template <int kBits>
IC_INLINE I32 shift_right_signed(I32 a) {
  IC_LANES a.v[i] >>= kBits;
  return a;
}
IC_INLINE Mask gt(I32 a, I32 b) {
  Mask m = {0};
  IC_LANES m.bits |= static_cast<uint32_t>(a.v[i] > b.v[i]) << i;
  return m;
}
IC_INLINE Mask eq(I32 a, I32 b) {
  Mask m = {0};
  IC_LANES m.bits |= static_cast<uint32_t>(a.v[i] == b.v[i]) << i;
  return m;
}
IC_INLINE I32 select(Mask m, I32 a, I32 b) {
  IC_LANES b.v[i] = ((m.bits >> i) & 1u) != 0 ? a.v[i] : b.v[i];
  return b;
}
IC_INLINE I32 max(I32 a, I32 b) {
  IC_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
IC_INLINE I32 min(I32 a, I32 b) {
  IC_LANES a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
IC_INLINE int32_t reduce_max(I32 a) {
  for (int i = 1; i < 16; ++i) a.v[0] = a.v[0] > a.v[i] ? a.v[0] : a.v[i];
  return a.v[0];
}
IC_INLINE int32_t reduce_min(I32 a) {
  for (int i = 1; i < 16; ++i) a.v[0] = a.v[0] < a.v[i] ? a.v[0] : a.v[i];
  return a.v[0];
}
IC_INLINE I32 as_i32(F32 a) {
  I32 r;
  __builtin_memcpy(r.v, a.v, 64);
  return r;
}
IC_INLINE F32 as_f32(I32 a) {
  F32 r;
  __builtin_memcpy(r.v, a.v, 64);
  return r;
}
/// Integer value to fp32, exact below 2^24.
IC_INLINE F32 to_f32(I32 a) {
  F32 r;
  IC_LANES r.v[i] = static_cast<float>(a.v[i]);
  return r;
}

/// Nearest integer, ties to even, for |a| < 2^22: the same two additions at every level.
IC_INLINE F32 round_even(F32 a) { return sub(add(a, set1(12582912.0f)), set1(12582912.0f)); }
/// The same as an integer.
IC_INLINE I32 round_to_i32(F32 a) { return sub(as_i32(add(a, set1(12582912.0f))), set1i(0x4b400000)); }
/// a * 2^n for n in [-126, 127].
IC_INLINE F32 mul_pow2(F32 a, I32 n) { return mul(a, as_f32(shift_left<23>(add(n, set1i(127))))); }

// Narrow types to fp32, exact (NaN stays a NaN)
IC_INLINE float from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return float1(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return float1(sign | (magnitude + 0x1c000u) << 13);
  const float small = static_cast<float>(magnitude) * 0x1p-24f;
  return float1(sign | bits1(small));
}
IC_INLINE float from_e4m3(uint8_t b) {
  const uint32_t sign = static_cast<uint32_t>(b & 0x80u) << 24;
  const uint32_t magnitude = b & 0x7fu;
  if (magnitude == 0x7fu) return float1(sign | 0x7fc00000u);
  if (magnitude >= 8u) return float1(sign | ((magnitude << 20) + (120u << 23)));
  const float small = static_cast<float>(magnitude) * 0x1p-9f;
  return float1(sign | bits1(small));
}
IC_INLINE F32 load_bf16(const uint16_t *p) {
  F32 r;
  IC_LANES r.v[i] = float1(static_cast<uint32_t>(p[i]) << 16);
  return r;
}
IC_INLINE F32 load_f16(const uint16_t *p) {
  F32 r;
  IC_LANES r.v[i] = from_f16(p[i]);
  return r;
}
IC_INLINE F32 load_e4m3(const uint8_t *p) {
  F32 r;
  IC_LANES r.v[i] = from_e4m3(p[i]);
  return r;
}
/// Round to nearest even; NaN becomes a quiet NaN of the same sign.
IC_INLINE void store_bf16(uint16_t *p, F32 a) {
  IC_LANES {
    const uint32_t u = bits1(a.v[i]);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    p[i] = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded);
  }
}

/// Writes the lanes of m to p, packed, in lane order, and returns their number. May write 16 lanes.
IC_INLINE int compress_store(float *p, F32 a, Mask m) {
  int n = 0;
  IC_LANES {
    p[n] = a.v[i];
    n += static_cast<int>((m.bits >> i) & 1u);
  }
  return n;
}
IC_INLINE int compress_store(int32_t *p, I32 a, Mask m) {
  int n = 0;
  IC_LANES {
    p[n] = a.v[i];
    n += static_cast<int>((m.bits >> i) & 1u);
  }
  return n;
}

/// Lane j of vector i becomes lane i of vector j.
IC_INLINE void transpose(F32 (&m)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = i + 1; j < 16; ++j) {
      const float t = m[i].v[j];
      m[i].v[j] = m[j].v[i];
      m[j].v[i] = t;
    }
  }
}

#undef IC_LANES

}  // namespace
}  // namespace ic::cpu

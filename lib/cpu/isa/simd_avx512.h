// SPDX-License-Identifier: Apache-2.0
// Sixteen fp32 lanes in one AVX-512 register. Interface, rules and bits: simd_portable.h.
#pragma once

// gcc 12 reports its own _mm512_undefined_ps as uninitialised (bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>

namespace ic::cpu {
namespace {

#define IC_INLINE inline __attribute__((always_inline))

inline constexpr int kLanes = 16;

struct F32 {
  __m512 v;
};
struct I32 {
  __m512i v;
};
struct Mask {  // bit i belongs to lane i
  __mmask16 v;
};

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
IC_INLINE uint32_t mask_bits(Mask m) { return m.v; }
IC_INLINE Mask mask_from_bits(uint32_t bits) { return {static_cast<__mmask16>(bits)}; }
IC_INLINE Mask mask_first(int n) {
  return {static_cast<__mmask16>(n >= 16 ? 0xffffu : (n <= 0 ? 0u : (1u << n) - 1u))};
}
IC_INLINE Mask mask_and(Mask a, Mask b) { return {static_cast<__mmask16>(a.v & b.v)}; }
IC_INLINE Mask mask_and_not(Mask a, Mask b) { return {static_cast<__mmask16>(a.v & ~b.v)}; }
IC_INLINE Mask mask_or(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }

// fp32: load and store of n lanes touch nothing behind them; lanes that are not loaded are +0
IC_INLINE F32 set1(float x) { return {_mm512_set1_ps(x)}; }
IC_INLINE F32 zero() { return {_mm512_setzero_ps()}; }
IC_INLINE F32 load(const float *p) { return {_mm512_loadu_ps(p)}; }
IC_INLINE F32 load_n(const float *p, int n) { return {_mm512_maskz_loadu_ps(mask_first(n).v, p)}; }
IC_INLINE void store(float *p, F32 a) { _mm512_storeu_ps(p, a.v); }
IC_INLINE void store_n(float *p, F32 a, int n) { _mm512_mask_storeu_ps(p, mask_first(n).v, a.v); }
IC_INLINE F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
IC_INLINE F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
IC_INLINE F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
IC_INLINE F32 div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
/// a * b + c with one rounding.
IC_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
IC_INLINE F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
IC_INLINE F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
/// a > 0 ? a : +0; NaN and -0 give +0.
IC_INLINE F32 relu(F32 a) { return max(a, zero()); }
IC_INLINE Mask gt(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
IC_INLINE Mask eq(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
/// m ? a : b
IC_INLINE F32 select(Mask m, F32 a, F32 b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
IC_INLINE float reduce_add(F32 a) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
  const __m256 x8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_add_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}
IC_INLINE float reduce_max(F32 a) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
  const __m256 x8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_max_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}

// int32; arithmetic wraps
IC_INLINE I32 set1i(int32_t x) { return {_mm512_set1_epi32(x)}; }
IC_INLINE I32 iota(int32_t first) {
  return {_mm512_add_epi32(_mm512_set1_epi32(first),
                           _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))};
}
IC_INLINE I32 load(const int32_t *p) { return {_mm512_loadu_si512(p)}; }
IC_INLINE void store(int32_t *p, I32 a) { _mm512_storeu_si512(p, a.v); }
IC_INLINE I32 add(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
IC_INLINE I32 sub(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
IC_INLINE I32 bit_and(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
IC_INLINE I32 bit_or(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
IC_INLINE I32 bit_xor(I32 a, I32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int kBits>
IC_INLINE I32 shift_left(I32 a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
IC_INLINE I32 shift_right(I32 a) {  // fills with zeros
  return {_mm512_srli_epi32(a.v, kBits)};
}
template <int kBits>
IC_INLINE I32 shift_right_signed(I32 a) {
  return {_mm512_srai_epi32(a.v, kBits)};
}
IC_INLINE Mask gt(I32 a, I32 b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
IC_INLINE Mask eq(I32 a, I32 b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
IC_INLINE I32 select(Mask m, I32 a, I32 b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }
IC_INLINE I32 max(I32 a, I32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
IC_INLINE I32 min(I32 a, I32 b) { return {_mm512_min_epi32(a.v, b.v)}; }
IC_INLINE int32_t reduce_max(I32 a) { return _mm512_reduce_max_epi32(a.v); }
IC_INLINE int32_t reduce_min(I32 a) { return _mm512_reduce_min_epi32(a.v); }
IC_INLINE I32 as_i32(F32 a) { return {_mm512_castps_si512(a.v)}; }
IC_INLINE F32 as_f32(I32 a) { return {_mm512_castsi512_ps(a.v)}; }
/// Integer value to fp32, exact below 2^24.
IC_INLINE F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }

/// Nearest integer, ties to even, for |a| < 2^22: the same two additions at every level.
IC_INLINE F32 round_even(F32 a) { return sub(add(a, set1(12582912.0f)), set1(12582912.0f)); }
/// The same as an integer.
IC_INLINE I32 round_to_i32(F32 a) { return sub(as_i32(add(a, set1(12582912.0f))), set1i(0x4b400000)); }
/// a * 2^n for n in [-126, 127].
IC_INLINE F32 mul_pow2(F32 a, I32 n) { return mul(a, as_f32(shift_left<23>(add(n, set1i(127))))); }

// Narrow types to fp32, exact (NaN stays a NaN)
IC_INLINE F32 load_bf16(const uint16_t *p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
IC_INLINE F32 load_f16(const uint16_t *p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)))};
}
// Subnormals (exponent 0): 2^-6 * (1 + m/8) minus 2^-6 is exact and touches no fp32 subnormal.
IC_INLINE F32 load_e4m3(const uint8_t *p) {
  const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
  const __m512i magnitude = _mm512_and_si512(b, _mm512_set1_epi32(0x7f));
  const __m512i sign = _mm512_slli_epi32(_mm512_xor_si512(b, magnitude), 24);
  const __m512i shifted = _mm512_slli_epi32(magnitude, 20);
  const __m512i normal = _mm512_add_epi32(shifted, _mm512_set1_epi32(120 << 23));
  const __m512 small = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(121 << 23))),
                                     _mm512_set1_ps(0x1p-6f));
  __m512i r = _mm512_mask_mov_epi32(normal, _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(8)),
                                    _mm512_castps_si512(small));
  r = _mm512_mask_mov_epi32(r, _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f)),
                            _mm512_set1_epi32(0x7fc00000));
  return {_mm512_castsi512_ps(_mm512_or_si512(r, sign))};
}
/// Round to nearest even; NaN becomes a quiet NaN of the same sign.
IC_INLINE void store_bf16(uint16_t *p, F32 a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  const __m512i r = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), _mm512_cvtepi32_epi16(r));
}

/// Writes the lanes of m to p, packed, in lane order, and returns their number. May write 16 lanes.
// Compress in the register, then store all: the compressing store is slow on several processors.
IC_INLINE int compress_store(float *p, F32 a, Mask m) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m.v, a.v));
  return __builtin_popcount(m.v);
}
IC_INLINE int compress_store(int32_t *p, I32 a, Mask m) {
  _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(m.v, a.v));
  return __builtin_popcount(m.v);
}

/// Lane j of vector i becomes lane i of vector j.
IC_INLINE void transpose(F32 (&m)[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 4) {  // 4x4 blocks inside each 128-bit quarter
    const __m512 a = _mm512_unpacklo_ps(m[i].v, m[i + 1].v);
    const __m512 b = _mm512_unpackhi_ps(m[i].v, m[i + 1].v);
    const __m512 c = _mm512_unpacklo_ps(m[i + 2].v, m[i + 3].v);
    const __m512 d = _mm512_unpackhi_ps(m[i + 2].v, m[i + 3].v);
    t[i] = _mm512_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
  }
  for (int i = 0; i < 4; ++i) {  // 4x4 blocks of quarters
    const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
    m[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    m[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    m[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    m[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

}  // namespace
}  // namespace ic::cpu

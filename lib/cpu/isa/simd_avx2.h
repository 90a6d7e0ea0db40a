// SPDX-License-Identifier: Apache-2.0
// Sixteen fp32 lanes in two AVX2 registers. Interface, rules and bits: simd_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace ic::cpu {
namespace {

#define IC_INLINE inline __attribute__((always_inline))

inline constexpr int kLanes = 16;

struct F32 {
  __m256 a, b;  // lanes 0-7, 8-15
};
struct I32 {
  __m256i a, b;
};
struct Mask {  // all bits of a lane set or clear
  __m256i a, b;
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
IC_INLINE uint32_t mask_bits(Mask m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(m.a))) |
         static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(m.b))) << 8;
}
IC_INLINE Mask mask_from_bits(uint32_t bits) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i low = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane);
  const __m256i high = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits >> 8)), lane);
  return {_mm256_cmpeq_epi32(low, lane), _mm256_cmpeq_epi32(high, lane)};
}
IC_INLINE Mask mask_first(int n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lane)};
}
IC_INLINE Mask mask_and(Mask x, Mask y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
IC_INLINE Mask mask_and_not(Mask x, Mask y) { return {_mm256_andnot_si256(y.a, x.a), _mm256_andnot_si256(y.b, x.b)}; }
IC_INLINE Mask mask_or(Mask x, Mask y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }

// fp32: load and store of n lanes touch nothing behind them; lanes that are not loaded are +0
IC_INLINE F32 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
IC_INLINE F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
IC_INLINE F32 load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
IC_INLINE F32 load_n(const float *p, int n) {
  const Mask m = mask_first(n);
  return {_mm256_maskload_ps(p, m.a), n > 8 ? _mm256_maskload_ps(p + 8, m.b) : _mm256_setzero_ps()};
}
IC_INLINE void store(float *p, F32 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
IC_INLINE void store_n(float *p, F32 x, int n) {
  const Mask m = mask_first(n);
  _mm256_maskstore_ps(p, m.a, x.a);
  if (n > 8) _mm256_maskstore_ps(p + 8, m.b, x.b);
}
IC_INLINE F32 add(F32 x, F32 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
IC_INLINE F32 sub(F32 x, F32 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
IC_INLINE F32 mul(F32 x, F32 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
IC_INLINE F32 div(F32 x, F32 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
/// x * y + z with one rounding.
IC_INLINE F32 fma(F32 x, F32 y, F32 z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
IC_INLINE F32 max(F32 x, F32 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
IC_INLINE F32 min(F32 x, F32 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
/// x > 0 ? x : +0; NaN and -0 give +0.
IC_INLINE F32 relu(F32 x) { return max(x, zero()); }
IC_INLINE Mask gt(F32 x, F32 y) {
  return {_mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ)),
          _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ))};
}
IC_INLINE Mask eq(F32 x, F32 y) {
  return {_mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ)),
          _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ))};
}
/// m ? x : y
IC_INLINE F32 select(Mask m, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(m.a)), _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(m.b))};
}
IC_INLINE float reduce_add(F32 x) {
  const __m256 x8 = _mm256_add_ps(x.a, x.b);
  const __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_add_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}
IC_INLINE float reduce_max(F32 x) {
  const __m256 x8 = _mm256_max_ps(x.a, x.b);
  const __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
  const __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
  return _mm_cvtss_f32(_mm_max_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}

// int32; arithmetic wraps
IC_INLINE I32 set1i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
IC_INLINE I32 iota(int32_t first) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i low = _mm256_add_epi32(_mm256_set1_epi32(first), lane);
  return {low, _mm256_add_epi32(low, _mm256_set1_epi32(8))};
}
IC_INLINE I32 load(const int32_t *p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p + 8))};
}
IC_INLINE void store(int32_t *p, I32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(p + 8), x.b);
}
IC_INLINE I32 add(I32 x, I32 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
IC_INLINE I32 sub(I32 x, I32 y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
IC_INLINE I32 bit_and(I32 x, I32 y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
IC_INLINE I32 bit_or(I32 x, I32 y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
IC_INLINE I32 bit_xor(I32 x, I32 y) { return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)}; }
template <int kBits>
IC_INLINE I32 shift_left(I32 x) {
  return {_mm256_slli_epi32(x.a, kBits), _mm256_slli_epi32(x.b, kBits)};
}
template <int kBits>
IC_INLINE I32 shift_right(I32 x) {  // fills with zeros
  return {_mm256_srli_epi32(x.a, kBits), _mm256_srli_epi32(x.b, kBits)};
}
template <int kBits>
IC_INLINE I32 shift_right_signed(I32 x) {
  return {_mm256_srai_epi32(x.a, kBits), _mm256_srai_epi32(x.b, kBits)};
}
IC_INLINE Mask gt(I32 x, I32 y) { return {_mm256_cmpgt_epi32(x.a, y.a), _mm256_cmpgt_epi32(x.b, y.b)}; }
IC_INLINE Mask eq(I32 x, I32 y) { return {_mm256_cmpeq_epi32(x.a, y.a), _mm256_cmpeq_epi32(x.b, y.b)}; }
IC_INLINE I32 select(Mask m, I32 x, I32 y) {
  return {_mm256_blendv_epi8(y.a, x.a, m.a), _mm256_blendv_epi8(y.b, x.b, m.b)};
}
IC_INLINE I32 max(I32 x, I32 y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
IC_INLINE I32 min(I32 x, I32 y) { return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)}; }
IC_INLINE int32_t reduce_max(I32 x) {
  const __m256i x8 = _mm256_max_epi32(x.a, x.b);
  const __m128i x4 = _mm_max_epi32(_mm256_castsi256_si128(x8), _mm256_extracti128_si256(x8, 1));
  const __m128i x2 = _mm_max_epi32(x4, _mm_shuffle_epi32(x4, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(x2, _mm_shuffle_epi32(x2, 0xb1)));
}
IC_INLINE int32_t reduce_min(I32 x) {
  const __m256i x8 = _mm256_min_epi32(x.a, x.b);
  const __m128i x4 = _mm_min_epi32(_mm256_castsi256_si128(x8), _mm256_extracti128_si256(x8, 1));
  const __m128i x2 = _mm_min_epi32(x4, _mm_shuffle_epi32(x4, 0x4e));
  return _mm_cvtsi128_si32(_mm_min_epi32(x2, _mm_shuffle_epi32(x2, 0xb1)));
}
IC_INLINE I32 as_i32(F32 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
IC_INLINE F32 as_f32(I32 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
/// Integer value to fp32, exact below 2^24.
IC_INLINE F32 to_f32(I32 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }

/// Nearest integer, ties to even, for |x| < 2^22: the same two additions at every level.
IC_INLINE F32 round_even(F32 x) { return sub(add(x, set1(12582912.0f)), set1(12582912.0f)); }
/// The same as an integer.
IC_INLINE I32 round_to_i32(F32 x) { return sub(as_i32(add(x, set1(12582912.0f))), set1i(0x4b400000)); }
/// x * 2^n for n in [-126, 127].
IC_INLINE F32 mul_pow2(F32 x, I32 n) { return mul(x, as_f32(shift_left<23>(add(n, set1i(127))))); }

// Narrow types to fp32, exact (NaN stays a NaN)
IC_INLINE F32 load_bf16(const uint16_t *p) {
  const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
  const __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p + 8)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
}
IC_INLINE F32 load_f16(const uint16_t *p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p + 8)))};
}
// Subnormals (exponent 0): 2^-6 * (1 + m/8) minus 2^-6 is exact and touches no fp32 subnormal.
IC_INLINE __m256 e4m3_lanes(__m256i b) {
  const __m256i magnitude = _mm256_and_si256(b, _mm256_set1_epi32(0x7f));
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(b, magnitude), 24);
  const __m256i shifted = _mm256_slli_epi32(magnitude, 20);
  const __m256i normal = _mm256_add_epi32(shifted, _mm256_set1_epi32(120 << 23));
  const __m256 small = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(121 << 23))),
                                     _mm256_set1_ps(0x1p-6f));
  const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), magnitude);
  const __m256i is_nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f));
  __m256i r = _mm256_blendv_epi8(normal, _mm256_castps_si256(small), is_small);
  r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7fc00000), is_nan);
  return _mm256_castsi256_ps(_mm256_or_si256(r, sign));
}
IC_INLINE F32 load_e4m3(const uint8_t *p) {
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
  return {e4m3_lanes(_mm256_cvtepu8_epi32(b)), e4m3_lanes(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
}
IC_INLINE __m256i bf16_lanes(__m256 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
/// Round to nearest even; NaN becomes a quiet NaN of the same sign.
IC_INLINE void store_bf16(uint16_t *p, F32 x) {
  const __m256i packed = _mm256_packus_epi32(bf16_lanes(x.a), bf16_lanes(x.b));
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}

// kCompress.order[m]: the lanes of the set bits of m, in order, one byte each.
struct CompressTable {
  uint64_t order[256];
  constexpr CompressTable() : order{} {
    for (uint32_t m = 0; m < 256; ++m) {
      int n = 0;
      for (uint64_t lane = 0; lane < 8; ++lane) {
        if (((m >> lane) & 1u) != 0) order[m] |= lane << (8 * n++);
      }
    }
  }
};
alignas(64) constexpr CompressTable kCompress{};

IC_INLINE __m256i compress_order(uint32_t mask) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(&kCompress.order[mask])));
}
/// Writes the lanes of m to p, packed, in lane order, and returns their number. May write 16 lanes.
IC_INLINE int compress_store(float *p, F32 x, Mask m) {
  const uint32_t bits = mask_bits(m);
  const int low = __builtin_popcount(bits & 0xffu);
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(x.a, compress_order(bits & 0xffu)));
  _mm256_storeu_ps(p + low, _mm256_permutevar8x32_ps(x.b, compress_order(bits >> 8)));
  return low + __builtin_popcount(bits >> 8);
}
IC_INLINE int compress_store(int32_t *p, I32 x, Mask m) {
  return compress_store(reinterpret_cast<float *>(p), as_f32(x), m);
}

IC_INLINE void transpose8(__m256 (&m)[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 4) {  // 4x4 blocks inside each half
    const __m256 a = _mm256_unpacklo_ps(m[i], m[i + 1]);
    const __m256 b = _mm256_unpackhi_ps(m[i], m[i + 1]);
    const __m256 c = _mm256_unpacklo_ps(m[i + 2], m[i + 3]);
    const __m256 d = _mm256_unpackhi_ps(m[i + 2], m[i + 3]);
    t[i] = _mm256_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    m[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
    m[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
  }
}
/// Lane j of vector i becomes lane i of vector j.
IC_INLINE void transpose(F32 (&m)[16]) {
  for (int half = 0; half < 2; ++half) {  // the diagonal blocks stay in place
    __m256 block[8];
    for (int i = 0; i < 8; ++i) block[i] = half == 0 ? m[i].a : m[i + 8].b;
    transpose8(block);
    for (int i = 0; i < 8; ++i) (half == 0 ? m[i].a : m[i + 8].b) = block[i];
  }
  __m256 upper[8], lower[8];
  for (int i = 0; i < 8; ++i) {
    upper[i] = m[i].b;
    lower[i] = m[i + 8].a;
  }
  transpose8(upper);
  transpose8(lower);
  for (int i = 0; i < 8; ++i) {
    m[i].b = lower[i];
    m[i + 8].a = upper[i];
  }
}

}  // namespace
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Elementary functions on sixteen lanes, the same bits at every level. Include after one simd_*.h.
#include <cstdint>

namespace ic::cpu {
namespace {

/// exp(x) for x <= 88, within 1.5 units in the last place; exp(0) is exactly 1. Results below the smallest normal fp32
/// are 0, NaN stays NaN.
IC_INLINE F32 exp_lanes(F32 x) {
  // x = n ln2 + r: adding 1.5 * 2^23 rounds x / ln2 to the integer n in the low bits of the sum.
  const F32 magic = set1(12582912.0f);
  const F32 shifted = fma(x, set1(0x1.715476p+0f), magic);
  const F32 n = sub(shifted, magic);
  F32 r = fma(n, set1(-0x1.62e400p-1f), x);  // ln2 in two parts; n times the first is exact
  r = fma(n, set1(-0x1.7f7d1cp-20f), r);
  // (exp(r) - 1 - r) / r^2 interpolated at the Chebyshev nodes of |r| <= ln2 / 2: relative error of exp(r) 1.0e-8
  F32 p = set1(0x1.6d110ap-10f);
  p = fma(p, r, set1(0x1.120b6ep-7f));
  p = fma(p, r, set1(0x1.55551ap-5f));
  p = fma(p, r, set1(0x1.5554dcp-3f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  const F32 power = as_f32(add(shift_left<23>(as_i32(shifted)), set1i(0x3f800000)));
  return select(gt(set1(-87.3365f), x), zero(), mul(p, power));
}

/// Natural logarithm of a positive finite number, in double; rounded operations only, so that it depends on no libm.
IC_INLINE double log_positive(float x) {
  const uint32_t bits = bits1(x);
  int exponent = static_cast<int>(bits >> 23) - 127;
  uint32_t mantissa = bits & 0x007fffffu;
  if (exponent == -127) {  // subnormal
    const int shift = __builtin_clz(mantissa) - 8;
    mantissa = (mantissa << shift) & 0x007fffffu;
    exponent = -126 - shift;
  }
  double m = 1.0 + static_cast<double>(mantissa) * 0x1p-23;
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh z, |z| <= 0.1716: the series is cut at z^19 / 19
  const double z = (m - 1.0) / (m + 1.0), z2 = z * z;
  double sum = 1.0 / 19.0;
  for (int k = 17; k >= 1; k -= 2) sum = sum * z2 + 1.0 / k;
  return exponent * 0.6931471805599453 + 2.0 * z * sum;
}

}  // namespace
}  // namespace ic::cpu

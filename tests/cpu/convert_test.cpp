// SPDX-License-Identifier: Apache-2.0
// The conversions against their definitions: every code, every tie and its neighbours.
#include "cpu/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "indexcache.h"

namespace ic::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A binary format by its definition: value = m * 2^e from the fields, no bit tricks.
struct Format {
  int mantissa_bits;
  int bias;
  uint32_t max_code;  // largest finite magnitude
  bool saturates;
};
constexpr Format kBf16{7, 127, 0x7f7f, false};
constexpr Format kF16{10, 15, 0x7bff, false};
constexpr Format kE4m3{3, 7, 0x7e, true};

double value_of(const Format &format, uint32_t magnitude) {
  const int exponent = static_cast<int>(magnitude >> format.mantissa_bits);
  const int mantissa = static_cast<int>(magnitude & ((1u << format.mantissa_bits) - 1u));
  const int implicit = exponent == 0 ? 0 : 1 << format.mantissa_bits;
  return std::ldexp(mantissa + implicit, (exponent == 0 ? 1 : exponent) - format.bias - format.mantissa_bits);
}

// Rounds x (fp32) by searching the neighbours among the values of the format.
uint32_t nearest_code(const Format &format, float x) {
  const double target = std::fabs(static_cast<double>(x));
  uint32_t low = 0, high = format.max_code + 1;  // the first code behind the range stands for overflow
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (value_of(format, middle) <= target ? low : high) = middle;
  }
  const double below = value_of(format, low), above = value_of(format, low + 1);
  uint32_t code = low;
  if (target - below > above - target || (target - below == above - target && (low & 1u) != 0)) code = low + 1;
  if (target > below && std::isinf(x)) code = format.max_code + 1;
  return format.saturates && code > format.max_code ? format.max_code : code;
}

uint32_t with_sign(uint32_t code, float x, uint32_t sign_bit) { return std::signbit(x) ? code | sign_bit : code; }

// Every finite code, the middle to its successor, and the fp32 neighbours of both, with both signs.
template <class Check>
void for_values_around(const Format &format, Check check) {
  for (uint32_t code = 0; code <= format.max_code; ++code) {
    const double value = value_of(format, code), next = value_of(format, code + 1);
    for (const double centre : {value, value + (next - value) / 2}) {
      const float x = static_cast<float>(centre);
      for (const float near : {x, std::nextafterf(x, -kInf), std::nextafterf(x, kInf)}) {
        check(near);
        check(-near);
      }
    }
  }
}

TEST(Convert, E4m3EveryCode) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = f32_from_e4m3(static_cast<uint8_t>(code));
    if ((code & 0x7fu) == 0x7fu) {
      EXPECT_EQ(bits_from_f32(value), 0x7fc00000u);
      EXPECT_EQ(e4m3_from_f32(value), 0x7f);
      continue;
    }
    EXPECT_EQ(static_cast<double>(std::fabs(value)), value_of(kE4m3, code & 0x7fu)) << code;
    EXPECT_EQ(std::signbit(value), code >= 0x80u) << code;
    EXPECT_EQ(e4m3_from_f32(value), code);
  }
  EXPECT_EQ(f32_from_e4m3(0x7e), 448.0f);
  EXPECT_EQ(f32_from_e4m3(0x01), 0x1p-9f);
}

TEST(Convert, E4m3Rounding) {
  for_values_around(kE4m3, [](float x) {
    ASSERT_EQ(static_cast<uint32_t>(e4m3_from_f32(x)), with_sign(nearest_code(kE4m3, x), x, 0x80u)) << x;
  });
  for (const float x : {448.0f, 449.0f, 463.9f, 464.0f, 1e30f, std::numeric_limits<float>::max(), kInf}) {
    EXPECT_EQ(e4m3_from_f32(x), 0x7e) << x;
    EXPECT_EQ(e4m3_from_f32(-x), 0xfe) << x;
  }
  EXPECT_EQ(e4m3_from_f32(kNan), 0x7f);
  EXPECT_EQ(e4m3_from_f32(-kNan), 0x7f);
  EXPECT_EQ(e4m3_from_f32(std::numeric_limits<float>::denorm_min()), 0x00);
}

TEST(Convert, F16EveryCode) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = f32_from_f16(static_cast<uint16_t>(code));
    const uint32_t magnitude = code & 0x7fffu;
    if (magnitude > 0x7c00u) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(f16_from_f32(value), 0x7e00);
      continue;
    }
    if (magnitude == 0x7c00u) {
      ASSERT_TRUE(std::isinf(value)) << code;
    } else {
      ASSERT_EQ(static_cast<double>(std::fabs(value)), value_of(kF16, magnitude)) << code;
    }
    ASSERT_EQ(std::signbit(value), code >= 0x8000u) << code;
    ASSERT_EQ(f16_from_f32(value), code);
  }
}

TEST(Convert, F16Rounding) {
  for_values_around(kF16, [](float x) {
    ASSERT_EQ(static_cast<uint32_t>(f16_from_f32(x)), with_sign(nearest_code(kF16, x), x, 0x8000u)) << x;
  });
  EXPECT_EQ(f16_from_f32(65519.99f), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.0f), 0x7c00);
  EXPECT_EQ(f16_from_f32(-kInf), 0xfc00);
  EXPECT_EQ(f16_from_f32(-kNan), 0x7e00);
}

TEST(Convert, Bf16EveryCode) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = f32_from_bf16(static_cast<uint16_t>(code));
    const uint32_t magnitude = code & 0x7fffu;
    if (magnitude > 0x7f80u) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(bf16_from_f32(value), 0x7fc0);
      continue;
    }
    if (magnitude == 0x7f80u) {
      ASSERT_TRUE(std::isinf(value)) << code;
    } else {
      ASSERT_EQ(static_cast<double>(std::fabs(value)), value_of(kBf16, magnitude)) << code;
    }
    ASSERT_EQ(bf16_from_f32(value), code);
  }
}

TEST(Convert, Bf16Rounding) {
  for_values_around(kBf16, [](float x) {
    ASSERT_EQ(static_cast<uint32_t>(bf16_from_f32(x)), with_sign(nearest_code(kBf16, x), x, 0x8000u)) << x;
  });
  EXPECT_EQ(bf16_from_f32(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(bf16_from_f32(kNan), 0x7fc0);
  EXPECT_EQ(bf16_from_f32(f32_from_bits(0xff800001u)), 0x7fc0);
}

TEST(Convert, E4m3Scale) {
  EXPECT_EQ(e4m3_scale(448.0f), 1.0f);
  EXPECT_EQ(e4m3_scale(3.0f), 3.0f / 448.0f);
  EXPECT_EQ(e4m3_scale(0.0f), 1e-4f / 448.0f);
  EXPECT_EQ(e4m3_scale(9.9e-5f), 1e-4f / 448.0f);
  EXPECT_EQ(bits_from_f32(e4m3_scale(-kNan)), 0x7fc00000u);
  EXPECT_EQ(e4m3_scale(kInf), kInf);
}

TEST(Convert, PowerOfTwoScale) {
  for (int exponent = -30; exponent <= 100; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    EXPECT_EQ(power_of_two_scale(power), power);
    EXPECT_EQ(power_of_two_scale(std::nextafterf(power, kInf)), 2 * power);
    EXPECT_EQ(power_of_two_scale(std::nextafterf(power, 0.0f)), power);
    EXPECT_EQ(power_of_two_scale(1.5f * power), 2 * power);
  }
  EXPECT_EQ(power_of_two_scale(std::numeric_limits<float>::max()), kInf);
  EXPECT_EQ(power_of_two_scale(kInf), kInf);
  EXPECT_TRUE(std::isnan(power_of_two_scale(kNan)));
}

TEST(Convert, Arrays) {
  EXPECT_EQ(dtype_bytes(IC_DTYPE_F32), 4);
  EXPECT_EQ(dtype_bytes(IC_DTYPE_F16), 2);
  EXPECT_EQ(dtype_bytes(IC_DTYPE_BF16), 2);
  EXPECT_EQ(dtype_bytes(IC_DTYPE_E4M3), 1);
  EXPECT_EQ(dtype_bytes(0), 0);
  EXPECT_EQ(dtype_bytes(5), 0);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 50.0f);
  std::vector<float> values(257);
  for (float &value : values) value = normal(random);
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    const int64_t count = static_cast<int64_t>(values.size());
    std::vector<uint8_t> bytes(values.size() * 4 + 1);
    std::vector<float> back(values.size(), kNan);
    convert_from_f32(dtype, values.data(), bytes.data() + 1, count);  // unaligned on purpose
    convert_to_f32(dtype, bytes.data() + 1, back.data(), count);
    for (size_t i = 0; i < values.size(); ++i) {
      float expected = values[i];
      if (dtype == IC_DTYPE_F16) expected = f32_from_f16(f16_from_f32(expected));
      if (dtype == IC_DTYPE_BF16) expected = f32_from_bf16(bf16_from_f32(expected));
      if (dtype == IC_DTYPE_E4M3) expected = f32_from_e4m3(e4m3_from_f32(expected));
      ASSERT_EQ(back[i], expected) << "dtype " << dtype << " element " << i;
    }
  }
}

}  // namespace
}  // namespace ic::cpu

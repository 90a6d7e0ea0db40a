// SPDX-License-Identifier: Apache-2.0
// The portable lanes where they are not plain C++: fused multiply-add without the instruction, narrow types.
#include "cpu/isa/simd_portable.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>

#include "cpu/convert.h"

namespace ic::cpu {
namespace {

void expect_fma(float a, float b, float c) {
  const float got = fma(set1(a), set1(b), set1(c)).v[5];
  const float expected = std::fma(a, b, c);
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << a << " " << b << " " << c;
  } else {
    EXPECT_EQ(bits1(got), bits1(expected)) << a << " " << b << " " << c;
  }
}

TEST(SimdPortable, FmaRoundsOnce) {
  std::mt19937 random(3);
  for (int i = 0; i < 1000000; ++i) {  // any bits: subnormals, infinities, NaN, far exponents
    expect_fma(float1(static_cast<uint32_t>(random())), float1(static_cast<uint32_t>(random())),
               float1(static_cast<uint32_t>(random())));
  }
  for (int i = 0; i < 1000000; ++i) {  // near cancellation and halfway cases, at every distance of the exponents
    const float a = float1(0x3f800000u | (static_cast<uint32_t>(random()) & 0x7fffffu));
    const float b = float1(0x3f800000u | (static_cast<uint32_t>(random()) & 0x7ff000u));
    const float product = a * b;
    const int shift = static_cast<int>(random() % 60) - 30;
    const auto nudge = static_cast<int32_t>(random() % 5) - 2;
    const float c = -std::ldexp(float1(bits1(product) + static_cast<uint32_t>(nudge)), shift);
    expect_fma(a, b, c);
    expect_fma(std::ldexp(a, -70), std::ldexp(b, -60), std::ldexp(c, -130));  // subnormal results
  }
  const float special[] = {0.0f,     -0.0f,     1.0f, -1.0f,    0x1p-149f,     -0x1p-149f, 0x1.fffffep127f,
                           INFINITY, -INFINITY, NAN,  0x1p-75f, 0x1.000002p0f, 0x1p24f};
  for (const float a : special) {
    for (const float b : special) {
      for (const float c : special) expect_fma(a, b, c);
    }
  }
}

TEST(SimdPortable, NarrowTypesAreExact) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float expected = f32_from_f16(static_cast<uint16_t>(code));
    const float got = from_f16(static_cast<uint16_t>(code));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      EXPECT_EQ(bits1(got), bits1(expected)) << code;
    }
  }
  for (uint32_t code = 0; code < 0x100; ++code) {
    const float expected = f32_from_e4m3(static_cast<uint8_t>(code));
    const float got = from_e4m3(static_cast<uint8_t>(code));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      EXPECT_EQ(bits1(got), bits1(expected)) << code;
    }
  }
}

TEST(SimdPortable, TransposeAndCompress) {
  F32 block[16];
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) block[i].v[j] = static_cast<float>(16 * i + j);
  }
  transpose(block);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) EXPECT_EQ(block[i].v[j], static_cast<float>(16 * j + i));
  }
  for (const uint32_t mask : {0u, 1u, 0x8000u, 0xffffu, 0xa5c3u}) {
    int32_t out[16];
    const int n = compress_store(out, iota(100), mask_from_bits(mask));
    int expected = 0;
    for (int lane = 0; lane < 16; ++lane) {
      if (((mask >> lane) & 1u) == 0) continue;
      EXPECT_EQ(out[expected++], 100 + lane);
    }
    EXPECT_EQ(n, expected);
  }
}

}  // namespace
}  // namespace ic::cpu

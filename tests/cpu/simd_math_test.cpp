// SPDX-License-Identifier: Apache-2.0
// Accuracy of the library's own exp and log (the portable level; the others have the same bits, see attend_test.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/isa/simd_portable.h"

// The functions themselves; they need the lanes above.
#include "cpu/isa/simd_math.inl"

namespace ic::cpu {
namespace {

float exp_of(float x) {
  float lanes[kLanes];
  store(lanes, exp_lanes(set1(x)));
  return lanes[7];
}

TEST(SimdMathPortable, ExpIsWithinOneAndAHalfUnits) {
  double worst = 0;
  float x[kLanes], y[kLanes];
  for (int32_t i = 0; i < 400000; i += kLanes) {
    for (int32_t lane = 0; lane < kLanes; ++lane) x[lane] = -87.3f + static_cast<float>(i + lane) * (175.3f / 400000);
    store(y, exp_lanes(load(x)));
    for (int lane = 0; lane < kLanes; ++lane) {
      const double exact = std::exp(static_cast<double>(x[lane]));
      const double unit = std::ldexp(1.0, std::ilogb(exact) - 23);
      worst = std::max(worst, std::fabs(static_cast<double>(y[lane]) - exact) / unit);
    }
  }
  EXPECT_LT(worst, 1.5);
}

TEST(SimdMathPortable, ExpOfSpecialValues) {
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-0.0f), 1.0f);
  EXPECT_EQ(exp_of(-87.4f), 0.0f);
  EXPECT_EQ(exp_of(-1e30f), 0.0f);
  EXPECT_EQ(exp_of(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
}

TEST(SimdMathPortable, LogIsNearlyExactInDouble) {
  for (uint32_t bits = 1; bits < 0x7f800000u; bits += bits < 1000 ? 1 : 104729) {
    const float x = float1(bits);
    const double exact = std::log(static_cast<double>(x));
    ASSERT_NEAR(log_positive(x), exact, 1e-14 * std::max(1.0, std::fabs(exact))) << x;
  }
  EXPECT_EQ(log_positive(1.0f), 0.0);
}

}  // namespace
}  // namespace ic::cpu

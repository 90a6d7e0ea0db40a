// SPDX-License-Identifier: Apache-2.0
// Runs the tests on device 0. Without a usable device it fails: a check that passes unrun is none.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/failure.h"
#include "tests/gpu/backends.h"

namespace ic::test {

uint32_t run_seed() {
  static const uint32_t seed = [] {
    if (const char *given = std::getenv("IC_TEST_SEED")) return static_cast<uint32_t>(std::strtoul(given, nullptr, 10));
    return static_cast<uint32_t>(std::chrono::system_clock::now().time_since_epoch().count() / 1000);
  }();
  return seed;
}

}  // namespace ic::test

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  try {
    const ic_device_caps caps = ic::cuda_device_caps(0);
    std::printf("device: %s, compute capability %d.%d, driver CUDA %d.%d, runtime %d.%d\nseed: %u\n", caps.name,
                caps.compute_capability / 10, caps.compute_capability % 10, caps.driver_version / 1000,
                caps.driver_version % 1000 / 10, caps.runtime_version / 1000, caps.runtime_version % 1000 / 10,
                ic::test::run_seed());
  } catch (const ic::Failure &failure) {
    std::fprintf(stderr, "unit_gpu: %s\n", failure.text());
    return 1;
  }
  return RUN_ALL_TESTS();
}

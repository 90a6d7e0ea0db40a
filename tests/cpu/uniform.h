// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same with every standard library, so that results can be pinned.
#pragma once

#include <cstdint>
#include <random>

namespace ic::cpu {

class Uniform {
 public:
  explicit Uniform(uint32_t seed) : engine_(seed) {}
  /// In [-1, 1).
  float operator()() { return static_cast<float>(static_cast<int32_t>(engine_()) >> 8) * 0x1p-23f; }
  /// Integer in [0, n).
  int32_t below(int32_t n) { return static_cast<int32_t>(engine_() % static_cast<uint32_t>(n)); }

 private:
  std::mt19937 engine_;
};

}  // namespace ic::cpu

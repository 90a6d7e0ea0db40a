// SPDX-License-Identifier: Apache-2.0
// Random patterns that are the same on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/search_plan.h"

namespace ic {

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): each number is a mix of a counter that goes on by the golden ratio.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) noexcept : state_(seed) {}
  uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }
  /// Each of 0 ... bound - 1 equally often: numbers of the last, incomplete multiple of bound are drawn again.
  uint64_t below(uint64_t bound) noexcept {
    const uint64_t incomplete = (0 - bound) % bound;  // 2^64 modulo bound
    for (;;) {
      const uint64_t drawn = next();
      if (drawn >= incomplete) return (drawn - incomplete) % bound;
    }
  }

 private:
  uint64_t state_;
};

/// Distinct patterns with num_full Full layers, plan.num_samples or as many as there are: held layers Full, those that
/// are Shared in the start Shared, the others drawn. They depend on the seed and num_full, not on what else is drawn.
std::vector<std::string> random_patterns(const SearchPlan &plan, int32_t num_full);

}  // namespace ic

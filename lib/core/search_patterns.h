// SPDX-License-Identifier: Apache-2.0
// The patterns of the strategies that list them beforehand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/search_plan.h"

namespace ic {

/// All patterns with one number of Full layers, at least one.
struct PatternGroup {
  int32_t num_full = 0;
  std::vector<std::string> patterns;
};

/// One group for each number of Full layers, from plan.max_full down to plan.num_full; none when the plan is greedy.
std::vector<PatternGroup> list_patterns(const SearchPlan &plan);

/// Full layers at floor(i * num_layers / num_full).
std::string uniform_pattern(int32_t num_layers, int32_t num_full);

}  // namespace ic

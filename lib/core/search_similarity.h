// SPDX-License-Identifier: Apache-2.0
// The patterns that keep the summed similarity of Shared layers to their sources greatest (paper, appendix C).
#pragma once

#include <string>
#include <vector>

#include "core/search_plan.h"

namespace ic {

/// One pattern for each number of Full layers, from plan.num_full up to plan.max_full. Layers that are Shared in the
/// start stay so, and held ones stay Full.
std::vector<std::string> most_similar_patterns(const SearchPlan &plan);

}  // namespace ic

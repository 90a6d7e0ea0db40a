// SPDX-License-Identifier: Apache-2.0
#include "core/search_patterns.h"

#include "core/search_random.h"
#include "core/search_similarity.h"

namespace ic {

std::string uniform_pattern(int32_t num_layers, int32_t num_full) {
  std::string pattern(static_cast<size_t>(num_layers), 'S');
  for (int64_t i = 0; i < num_full; ++i) pattern[static_cast<size_t>(i * num_layers / num_full)] = 'F';
  return pattern;
}

std::vector<PatternGroup> list_patterns(const SearchPlan &plan) {
  std::vector<PatternGroup> groups;
  if (is_greedy(plan.strategy)) return groups;
  std::vector<std::string> by_similarity;  // from plan.num_full up
  if (plan.strategy == SearchStrategy::kSimilarityDp) by_similarity = most_similar_patterns(plan);
  for (int32_t full = plan.max_full; full >= plan.num_full; --full) {
    PatternGroup group;
    group.num_full = full;
    if (plan.strategy == SearchStrategy::kUniform) {
      group.patterns.push_back(uniform_pattern(plan.num_layers(), full));
    } else if (plan.strategy == SearchStrategy::kRandom) {
      group.patterns = random_patterns(plan, full);
    } else {
      group.patterns.push_back(std::move(by_similarity[static_cast<size_t>(full - plan.num_full)]));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace ic

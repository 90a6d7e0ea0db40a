// SPDX-License-Identifier: Apache-2.0
// What a caller asks of a search, before anything is checked.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "indexcache.h"

namespace ic {

enum class SearchStrategy : int32_t {
  kGreedy = IC_STRATEGY_GREEDY,
  kGreedyBlocks = IC_STRATEGY_GREEDY_BLOCKS,
  kUniform = IC_STRATEGY_UNIFORM,
  kSimilarityDp = IC_STRATEGY_SIMILARITY_DP,
  kRandom = IC_STRATEGY_RANDOM,
};

/// Greedy strategies flip one layer per step, and each step builds on the one before; the others list patterns.
constexpr bool is_greedy(SearchStrategy strategy) noexcept {
  return strategy == SearchStrategy::kGreedy || strategy == SearchStrategy::kGreedyBlocks;
}

struct SearchRequest {
  int32_t num_layers = 0;
  int32_t strategy = 0;
  std::optional<std::string_view> start;
  std::span<const int32_t> keep_full;
  int32_t num_full = 0;
  int32_t max_full = 0;
  int32_t num_blocks = 0;
  double loss_budget = 0;
  std::span<const double> similarity;
  int32_t num_samples = 0;
  uint64_t seed = 0;
};

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// A search whose description has been checked and completed: what decides it, apart from the losses.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/search_request.h"

namespace ic {

inline constexpr int32_t kMaxSearchSamples = 65536;
inline constexpr int64_t kMaxSearchPatterns = 1 << 20;
/// Each Shared layer adds one entry to the sum that the dynamic program maximises: no sum can overflow.
inline constexpr double kMaxSimilarity = 1e300;

struct SearchPlan {
  SearchStrategy strategy = SearchStrategy::kGreedy;
  std::string start;                   // one letter per layer
  std::vector<bool> held;              // [num_layers]: stays Full; the first layer always, and those that begin a block
  std::vector<int32_t> keep_full;      // what the caller named: ascending, each once, without the first layer
  int32_t num_full = 0;                // to be reached
  int32_t max_full = 0;                // not greedy: num_full and more; else 0
  int32_t num_blocks = 0;              // greedy by blocks; else 0
  double loss_budget = 0;              // 0 = none
  std::span<const double> similarity;  // [num_layers, num_layers], the caller's: not kept behind create
  int32_t num_samples = 0;
  uint64_t seed = 0;

  int32_t num_layers() const noexcept { return static_cast<int32_t>(start.size()); }
};

/// Fails with a message that names the field of desc, its value and what is allowed.
SearchPlan plan_search(const SearchRequest &request);

/// Of its constant, in small letters: for messages and the journal.
const char *strategy_name(SearchStrategy strategy) noexcept;

/// Layers that a pattern makes Full.
int32_t count_full(std::string_view pattern) noexcept;

}  // namespace ic

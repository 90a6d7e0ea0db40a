// SPDX-License-Identifier: Apache-2.0
// Few of many patterns: drawn one by one, and again when there before; more than half of the draws are new. Else all
// are listed and shuffled.
#include "core/search_random.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace ic {
namespace {

/// Number of choices of k out of n, or `limit` + 1 where there are more than that.
uint64_t choices(uint64_t n, uint64_t k, uint64_t limit) {
  uint64_t count = 1;
  for (uint64_t i = 1; i <= std::min(k, n - k); ++i) {
    count = count * (n - std::min(k, n - k) + i) / i;  // exact: a product of i factors; at most limit * n before
    if (count > limit) return limit + 1;
  }
  return count;
}

class PatternSampler {
 public:
  PatternSampler(const SearchPlan &plan, int32_t num_full)
      : base_(plan.start.size(), 'S'),
        num_samples_(static_cast<uint64_t>(plan.num_samples)),
        random_(SplitMix64(plan.seed).next() + static_cast<uint64_t>(num_full)) {
    size_t full = static_cast<size_t>(num_full);
    for (size_t layer = 0; layer < plan.held.size(); ++layer) {
      if (plan.held[layer]) {
        base_[layer] = 'F';
        --full;
      } else if (plan.start[layer] == 'F') {
        free_.push_back(layer);
      }
    }
    chosen_ = full;
  }

  std::vector<std::string> draw() {
    const uint64_t limit = 2 * num_samples_;
    const uint64_t all = choices(free_.size(), chosen_, limit);
    return all > limit ? draw_one_by_one() : draw_from_all();
  }

 private:
  std::vector<std::string> draw_one_by_one() {
    std::vector<std::string> patterns;
    std::unordered_set<std::string> seen;
    std::vector<size_t> layers = free_;
    while (patterns.size() < num_samples_) {
      for (size_t i = 0; i < chosen_; ++i) std::swap(layers[i], layers[i + random_.below(layers.size() - i)]);
      std::string pattern = with_full(layers);
      if (seen.insert(pattern).second) patterns.push_back(std::move(pattern));
    }
    return patterns;
  }

  std::vector<std::string> draw_from_all() {
    std::vector<std::string> patterns;
    std::string letters(chosen_, 'F');  // of the free layers
    letters.resize(free_.size(), 'S');
    do {
      std::string pattern = base_;
      for (size_t i = 0; i < free_.size(); ++i) pattern[free_[i]] = letters[i];
      patterns.push_back(std::move(pattern));
    } while (std::next_permutation(letters.begin(), letters.end()));
    const size_t wanted = std::min(patterns.size(), static_cast<size_t>(num_samples_));
    for (size_t i = 0; i < wanted; ++i) std::swap(patterns[i], patterns[i + random_.below(patterns.size() - i)]);
    patterns.resize(wanted);
    return patterns;
  }

  /// The first chosen_ of layers are Full.
  std::string with_full(const std::vector<size_t> &layers) const {
    std::string pattern = base_;
    for (size_t i = 0; i < chosen_; ++i) pattern[layers[i]] = 'F';
    return pattern;
  }

  std::string base_;          // without the layers that are drawn
  std::vector<size_t> free_;  // layers to draw from
  size_t chosen_ = 0;         // how many of them are Full
  uint64_t num_samples_;
  SplitMix64 random_;
};

}  // namespace

std::vector<std::string> random_patterns(const SearchPlan &plan, int32_t num_full) {
  return PatternSampler(plan, num_full).draw();
}

}  // namespace ic

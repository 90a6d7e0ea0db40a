// SPDX-License-Identifier: Apache-2.0
// Searches written down as the paper has them, over losses of few values, and a way to drive ic::Search.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/search.h"

namespace ic::test {

/// nullopt: the pattern cannot run.
using Loss = std::function<std::optional<double>(const std::string &)>;

/// One of `values` losses for each pattern, and every `reject_one_in`-th rejected (0: none).
inline Loss few_losses(uint64_t seed, uint64_t values, uint64_t reject_one_in = 0) {
  return [=](const std::string &pattern) -> std::optional<double> {
    uint64_t hash = 1469598103934665603u ^ seed;
    for (const char letter : pattern) hash = (hash ^ static_cast<uint64_t>(letter)) * 1099511628211u;
    hash ^= hash >> 29;
    const bool baseline = pattern.find('S') == std::string::npos;
    if (reject_one_in != 0 && !baseline && hash % reject_one_in == 0) return std::nullopt;
    return static_cast<double>((hash >> 32) % values) / 8;
  };
}

struct ReferenceStep {
  int32_t layer;
  double loss;
  std::string pattern;
  bool operator==(const ReferenceStep &) const = default;
};

struct Reference {
  SearchState state = SearchState::kDone;
  std::vector<ReferenceStep> steps;
  int64_t evaluated = 0, rejected = 0;
};

/// Algorithm 1 over blocks that begin at `cuts`, whose first layers stay Full when there is more than the block of all
/// layers.
inline Reference reference_greedy(std::string pattern, std::vector<int32_t> held, std::vector<int32_t> cuts,
                                  int64_t num_full, double budget, const Loss &loss) {
  Reference found;
  const int32_t layers = static_cast<int32_t>(pattern.size());
  held.push_back(0);
  held.insert(held.end(), cuts.begin(), cuts.end());
  cuts.push_back(layers);
  const auto is_held = [&](int32_t layer) { return std::find(held.begin(), held.end(), layer) != held.end(); };
  int64_t fewest = 0;
  for (int32_t layer = 0; layer < layers; ++layer) fewest += is_held(layer);
  const double baseline = loss(pattern).value();
  std::vector<bool> done(cuts.size() - 1, false);
  bool over_budget = false;
  for (size_t block = 0;; block = (block + 1) % done.size()) {
    if (std::count(pattern.begin(), pattern.end(), 'F') == std::max(num_full, fewest)) return found;
    if (std::count(done.begin(), done.end(), false) == 0) break;
    if (done[block]) continue;
    std::optional<ReferenceStep> best;
    for (int32_t layer = cuts[block]; layer < cuts[block + 1]; ++layer) {
      if (pattern[static_cast<size_t>(layer)] == 'S' || is_held(layer)) continue;
      std::string flipped = pattern;
      flipped[static_cast<size_t>(layer)] = 'S';
      const std::optional<double> value = loss(flipped);
      ++(value ? found.evaluated : found.rejected);
      if (value && (!best || *value < best->loss)) best = ReferenceStep{layer, *value, flipped};
    }
    if (best && budget > 0 && best->loss > baseline + budget) {
      over_budget = true;
      best.reset();
    }
    if (best) {
      found.steps.push_back(*best);
      pattern = best->pattern;
    } else {
      done[block] = true;
    }
  }
  found.state = over_budget ? SearchState::kBudget : SearchState::kExhausted;
  return found;
}

inline void answer(Search *search, int64_t id, const Loss &loss) {
  const std::optional<double> value = loss(search->candidate_pattern(id));
  value ? search->tell(id, *value) : search->reject(id);
}

/// To the end: `workers` candidates at a time, answered in random order; of several workers one gives its candidate
/// back now and then.
inline void run(Search *search, const Loss &loss, size_t workers = 1, uint32_t seed = 0) {
  std::mt19937 random(seed);
  std::vector<int64_t> at_work;
  for (;;) {
    while (at_work.size() < workers) {
      const std::optional<Search::Candidate> candidate = search->next();
      if (!candidate) break;
      at_work.push_back(candidate->id);
    }
    if (at_work.empty()) return;
    const size_t chosen = random() % at_work.size();
    const int64_t id = at_work[chosen];
    at_work.erase(at_work.begin() + static_cast<std::ptrdiff_t>(chosen));
    if (workers > 1 && random() % 8 == 0) {
      search->release(id);
    } else {
      answer(search, id, loss);
    }
  }
}

inline std::vector<ReferenceStep> steps_of(const Search &search) {
  std::vector<ReferenceStep> steps;
  for (int32_t i = 0; i < search.num_steps(); ++i) {
    const Search::Step step = search.step(i);
    steps.push_back({step.layer, step.loss, search.step_pattern(i)});
  }
  return steps;
}

inline Search make_search(const SearchRequest &request, std::string_view journal = {}) {
  return Search(plan_search(request), journal);
}

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// Field by field, in the order of ic_search_desc.
#include "core/search_plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/failure.h"
#include "core/schedule_pattern.h"
#include "core/schedule_request.h"
#include "core/search_blocks.h"

namespace ic {
namespace {

/// A field that another strategy has.
void require_unset(double value, const char *name, SearchStrategy strategy) {
  if (value != 0) {
    fail(IC_ERROR_INVALID_ARGUMENT, "desc->%s is %g; allowed with strategy %s: 0", name, value,
         strategy_name(strategy));
  }
}

void require_between(int64_t value, int64_t lowest, int64_t highest, const char *name) {
  if (value < lowest || value > highest) {
    fail(IC_ERROR_INVALID_ARGUMENT, "desc->%s is %lld; allowed: %lld to %lld", name, static_cast<long long>(value),
         static_cast<long long>(lowest), static_cast<long long>(highest));
  }
}

class Planner {
 public:
  explicit Planner(const SearchRequest &request) : request_(request) {}

  SearchPlan plan() {
    require_between(request_.num_layers, 1, kMaxScheduleLayers, "num_layers");
    require_between(request_.strategy, IC_STRATEGY_GREEDY, IC_STRATEGY_RANDOM, "strategy");
    plan_.strategy = static_cast<SearchStrategy>(request_.strategy);
    plan_start();
    plan_held();
    plan_counts();
    plan_budget();
    plan_similarity();
    plan_samples();
    return std::move(plan_);
  }

 private:
  void plan_start() {
    const size_t layers = static_cast<size_t>(request_.num_layers);
    plan_.start.assign(layers, 'F');
    if (!request_.start) return;
    SparseLayers all(layers);
    for (size_t i = 0; i < layers; ++i) all[i] = GlobalLayer{static_cast<int32_t>(i)};
    plan_.start = letters_from_pattern(*request_.start, request_.num_layers, all, "desc->start");
    const size_t shared = plan_.start.find('S');
    if (plan_.strategy == SearchStrategy::kUniform && shared != std::string::npos) {
      fail(IC_ERROR_INVALID_ARGUMENT, "desc->start makes layer %zu Shared; allowed with strategy %s: all F", shared,
           strategy_name(plan_.strategy));
    }
  }

  void hold(int32_t layer, const char *why) {
    if (plan_.start[static_cast<size_t>(layer)] == 'S') {
      fail(IC_ERROR_INVALID_ARGUMENT, "desc->start makes layer %d Shared; allowed: F, since %s", layer, why);
    }
    plan_.held[static_cast<size_t>(layer)] = true;
  }

  void plan_held() {
    plan_.held.assign(plan_.start.size(), false);
    plan_.held[0] = true;
    for (size_t i = 0; i < request_.keep_full.size(); ++i) {
      const int32_t layer = request_.keep_full[i];
      if (layer < 0 || layer >= request_.num_layers) {
        fail(IC_ERROR_INVALID_ARGUMENT, "desc->keep_full[%zu] is %d; allowed: 0 to %d", i, layer,
             request_.num_layers - 1);
      }
      hold(layer, "desc->keep_full names it");
    }
    for (int32_t layer = 1; layer < request_.num_layers; ++layer) {
      if (plan_.held[static_cast<size_t>(layer)]) plan_.keep_full.push_back(layer);
    }
    if (plan_.strategy == SearchStrategy::kUniform && !plan_.keep_full.empty()) {
      fail(IC_ERROR_INVALID_ARGUMENT, "desc->keep_full names layer %d; allowed with strategy %s: none but layer 0",
           plan_.keep_full.front(), strategy_name(plan_.strategy));
    }
    if (plan_.strategy == SearchStrategy::kGreedyBlocks) {
      require_between(request_.num_blocks, 1, request_.num_layers, "num_blocks");
      plan_.num_blocks = request_.num_blocks;
      for (int32_t block = 0; block < plan_.num_blocks; ++block) {
        hold(first_layer_of_block(block, plan_.num_blocks, request_.num_layers), "a block begins there");
      }
    } else {
      require_unset(request_.num_blocks, "num_blocks", plan_.strategy);
    }
  }

  void plan_counts() {
    const int32_t most = count_full(plan_.start);
    const int32_t held = static_cast<int32_t>(std::count(plan_.held.begin(), plan_.held.end(), true));
    require_between(request_.num_full, 0, most, "num_full");
    plan_.num_full = std::max(request_.num_full, held);
    if (is_greedy(plan_.strategy)) {
      require_unset(request_.max_full, "max_full", plan_.strategy);
      return;
    }
    plan_.max_full = request_.max_full == 0 ? plan_.num_full : request_.max_full;
    if (plan_.max_full < plan_.num_full || plan_.max_full > most) {
      fail(IC_ERROR_INVALID_ARGUMENT, "desc->max_full is %d; allowed: 0, or %d to %d", request_.max_full,
           plan_.num_full, most);
    }
  }

  void plan_budget() {
    if (!is_greedy(plan_.strategy)) {
      require_unset(request_.loss_budget, "loss_budget", plan_.strategy);
    }
    if (!std::isfinite(request_.loss_budget) || request_.loss_budget < 0) {
      fail(IC_ERROR_INVALID_ARGUMENT, "desc->loss_budget is %g; allowed: 0 and more, finite", request_.loss_budget);
    }
    plan_.loss_budget = request_.loss_budget;
  }

  void plan_similarity() {
    const size_t layers = plan_.start.size(), given = request_.similarity.size();
    const bool wanted = plan_.strategy == SearchStrategy::kSimilarityDp;
    if (given != (wanted ? layers * layers : 0)) {
      fail(IC_ERROR_INVALID_ARGUMENT, "desc->num_similarity is %zu; allowed with strategy %s: %zu", given,
           strategy_name(plan_.strategy), wanted ? layers * layers : 0);
    }
    for (size_t i = 0; i < layers && wanted; ++i) {
      for (size_t j = 0; j < i; ++j) {
        const double entry = request_.similarity[i * layers + j];
        if (!(std::abs(entry) <= kMaxSimilarity)) {
          fail(IC_ERROR_INVALID_ARGUMENT, "desc->similarity[%zu, %zu] is %g; allowed: %g to %g", i, j, entry,
               -kMaxSimilarity, kMaxSimilarity);
        }
      }
    }
    plan_.similarity = request_.similarity;
  }

  void plan_samples() {
    if (plan_.strategy != SearchStrategy::kRandom) {
      require_unset(request_.num_samples, "num_samples", plan_.strategy);
      require_unset(static_cast<double>(request_.seed), "seed", plan_.strategy);
      return;
    }
    require_between(request_.num_samples, 1, kMaxSearchSamples, "num_samples");
    const int32_t counts = plan_.max_full - plan_.num_full + 1;
    if (int64_t{request_.num_samples} * counts > kMaxSearchPatterns) {
      fail(IC_ERROR_INVALID_ARGUMENT,
           "desc->num_samples is %d for each of %d numbers of Full layers; allowed: %lld patterns in all",
           request_.num_samples, counts, static_cast<long long>(kMaxSearchPatterns));
    }
    plan_.num_samples = request_.num_samples;
    plan_.seed = request_.seed;
  }

  const SearchRequest &request_;
  SearchPlan plan_;
};

}  // namespace

SearchPlan plan_search(const SearchRequest &request) { return Planner(request).plan(); }

const char *strategy_name(SearchStrategy strategy) noexcept {
  switch (strategy) {
    case SearchStrategy::kGreedy:
      return "greedy";
    case SearchStrategy::kGreedyBlocks:
      return "greedy_blocks";
    case SearchStrategy::kUniform:
      return "uniform";
    case SearchStrategy::kSimilarityDp:
      return "similarity_dp";
    case SearchStrategy::kRandom:
      return "random";
  }
  return "";
}

int32_t count_full(std::string_view pattern) noexcept {
  return static_cast<int32_t>(std::count(pattern.begin(), pattern.end(), 'F'));
}

}  // namespace ic

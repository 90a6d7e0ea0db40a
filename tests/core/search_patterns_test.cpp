// SPDX-License-Identifier: Apache-2.0
// The strategies that list their patterns: similarity against every pattern there is, random ones by what they promise.
#include "core/search_patterns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/search_random.h"
#include "tests/core/search_reference.h"

namespace ic::test {
namespace {

SearchRequest listing(int32_t strategy, int32_t num_layers, int32_t num_full, int32_t max_full = 0) {
  SearchRequest request;
  request.num_layers = num_layers;
  request.strategy = strategy;
  request.num_full = num_full;
  request.max_full = max_full;
  return request;
}

TEST(SearchUniform, FullLayersAreSpread) {
  EXPECT_EQ(uniform_pattern(8, 1), "FSSSSSSS");
  EXPECT_EQ(uniform_pattern(8, 2), "FSSSFSSS");
  EXPECT_EQ(uniform_pattern(8, 3), "FSFSSFSS");
  EXPECT_EQ(uniform_pattern(8, 8), "FFFFFFFF");
  for (int32_t full = 1; full <= 61; ++full) EXPECT_EQ(count_full(uniform_pattern(61, full)), full);
  const auto groups = list_patterns(plan_search(listing(IC_STRATEGY_UNIFORM, 8, 2, 3)));
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].num_full, 3);
  EXPECT_EQ(groups[1].patterns, std::vector<std::string>{"FSSSFSSS"});
}

/// Every pattern with `full` Full layers that start and held allow, and the sum of its similarities.
std::map<std::string, double> all_sums(const SearchPlan &plan, int32_t full) {
  std::map<std::string, double> sums;
  const size_t layers = plan.start.size();
  for (uint32_t bits = 0; bits < 1u << layers; ++bits) {
    std::string pattern(layers, 'S');
    for (size_t layer = 0; layer < layers; ++layer)
      if ((bits >> layer & 1) != 0) pattern[layer] = 'F';
    bool allowed = count_full(pattern) == full;
    for (size_t layer = 0; layer < layers; ++layer) {
      allowed = allowed && !(plan.held[layer] && pattern[layer] == 'S');
      allowed = allowed && !(plan.start[layer] == 'S' && pattern[layer] == 'F');
    }
    if (!allowed) continue;
    double sum = 0;
    size_t source = 0;
    for (size_t layer = 0; layer < layers; ++layer) {
      if (pattern[layer] == 'F')
        source = layer;
      else
        sum += plan.similarity[layer * layers + source];
    }
    sums[pattern] = sum;
  }
  return sums;
}

/// The order of ties: compared from the last layer on, the pattern whose last Full layers are lower.
bool lower_last(const std::string &a, const std::string &b) {
  const auto [one, other] = std::mismatch(a.rbegin(), a.rend(), b.rbegin());
  return one != a.rend() && *one == 'S' && *other == 'F';
}

void expect_best(const SearchPlan &plan, double tolerance) {
  for (const PatternGroup &group : list_patterns(plan)) {
    ASSERT_EQ(group.patterns.size(), 1u);
    const std::string &found = group.patterns[0];
    const std::map<std::string, double> sums = all_sums(plan, group.num_full);
    ASSERT_EQ(sums.count(found), 1u) << found << " is not allowed";
    for (const auto &[pattern, sum] : sums) {
      EXPECT_LE(sum, sums.at(found) + tolerance) << pattern << " is better than " << found;
      if (tolerance == 0 && sum == sums.at(found) && pattern != found) {
        EXPECT_TRUE(lower_last(found, pattern)) << found << ' ' << pattern;
      }
    }
  }
}

TEST(SearchSimilarity, EqualsEnumeration) {
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    const int32_t layers = static_cast<int32_t>(1 + random() % 9);
    const auto size = static_cast<size_t>(layers);
    const bool ties = round % 2 == 0;
    std::vector<double> similarity(size * size, std::numeric_limits<double>::quiet_NaN());
    for (size_t i = 0; i < size; ++i)
      for (size_t j = 0; j < i; ++j)
        similarity[i * size + j] = ties ? static_cast<double>(random() % 4) - 1 : static_cast<double>(random()) / 4e9;
    std::string start(size, 'F');
    std::vector<int32_t> held;
    if (layers > 2 && round % 4 > 1) {
      start[1 + random() % (size - 1)] = 'S';
      const size_t layer = 1 + random() % (size - 1);
      if (start[layer] == 'F') held.push_back(static_cast<int32_t>(layer));
    }
    SearchRequest request = listing(IC_STRATEGY_SIMILARITY_DP, layers, 1, count_full(start));
    request.similarity = similarity;
    request.start = start;
    request.keep_full = held;
    expect_best(plan_search(request), ties ? 0 : 1e-12);
  }
}

TEST(SearchSimilarity, ExtremesDoNotOverflow) {
  std::vector<double> similarity(30 * 30, -kMaxSimilarity);
  SearchRequest request = listing(IC_STRATEGY_SIMILARITY_DP, 30, 1, 30);
  request.similarity = similarity;
  int32_t full = 30;
  for (const PatternGroup &group : list_patterns(plan_search(request))) {
    EXPECT_EQ(count_full(group.patterns.at(0)), full--);
    EXPECT_EQ(group.patterns[0][0], 'F');
  }
  EXPECT_EQ(full, 0);
}

/// The generator's published numbers for seed 1234567.
TEST(SearchRandom, TheGeneratorIsSplitMix64) {
  SplitMix64 random(1234567);
  for (const uint64_t wanted :
       {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u, 16408922859458223821u})
    EXPECT_EQ(random.next(), wanted);
}

TEST(SearchRandom, BelowIsEven) {
  SplitMix64 random(5);
  int counts[7] = {};
  for (int i = 0; i < 70000; ++i) ++counts[random.below(7)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(random.below(1), 0u);
}

std::vector<std::string> draw(int32_t layers, int32_t full, int32_t samples, uint64_t seed) {
  SearchRequest request = listing(IC_STRATEGY_RANDOM, layers, full);
  request.num_samples = samples;
  request.seed = seed;
  return random_patterns(plan_search(request), full);
}

/// For every number of samples up to more than there are: distinct, with the right count, and the first layer Full.
TEST(SearchRandom, DistinctPatternsUpToAllOfThem) {
  for (int32_t full = 1; full <= 8; ++full) {
    const auto all = static_cast<size_t>(std::lround(std::tgamma(8) / (std::tgamma(full) * std::tgamma(9 - full))));
    for (int32_t samples = 1; samples <= 40; ++samples) {
      const std::vector<std::string> patterns = draw(8, full, samples, 9);
      EXPECT_EQ(patterns.size(), std::min(all, static_cast<size_t>(samples)));
      EXPECT_EQ(std::set<std::string>(patterns.begin(), patterns.end()).size(), patterns.size());
      for (const std::string &pattern : patterns) {
        EXPECT_EQ(count_full(pattern), full);
        EXPECT_EQ(pattern[0], 'F');
      }
    }
  }
}

TEST(SearchRandom, SeedsDifferAndRepeat) {
  EXPECT_EQ(draw(40, 10, 50, 1), draw(40, 10, 50, 1));
  EXPECT_NE(draw(40, 10, 50, 1), draw(40, 10, 50, 2));
  EXPECT_EQ(draw(4096, 2048, 2, 1).size(), 2u) << "counts of patterns do not overflow";
}

/// Both ways of drawing take every layer equally often.
TEST(SearchRandom, LayersAreEquallyOftenFull) {
  for (const int32_t samples : {1, 12}) {  // of 20 patterns: one by one, and from a list
    std::map<size_t, int> counts;
    for (uint64_t seed = 0; seed < 6000; ++seed)
      for (const std::string &pattern : draw(7, 4, samples, seed))
        for (size_t layer = 1; layer < 7; ++layer) counts[layer] += pattern[layer] == 'F';
    for (size_t layer = 1; layer < 7; ++layer) EXPECT_NEAR(counts[layer], 3000 * samples, 200 * std::sqrt(samples));
  }
}

TEST(SearchListed, StepsInOrderWhateverTheOrderOfAnswers) {
  SearchRequest request = listing(IC_STRATEGY_RANDOM, 9, 2, 6);
  request.num_samples = 5;
  request.seed = 3;
  const Loss loss = few_losses(3, 4, 5);
  Search alone = make_search(request);
  run(&alone, loss);
  EXPECT_EQ(alone.state(), SearchState::kDone);
  for (const size_t workers : {2u, 7u, 30u}) {
    Search search = make_search(request);
    run(&search, loss, workers, 8);
    EXPECT_EQ(steps_of(search), steps_of(alone));
    EXPECT_EQ(search.accepted(), alone.accepted());
    EXPECT_EQ(search.counts().planned, 25);
  }
}

TEST(SearchListed, RunsUntilTheLastStep) {
  Search search = make_search(listing(IC_STRATEGY_UNIFORM, 6, 2, 4));
  search.tell(0, 1);
  for (const int64_t id : {1, 2, 3}) {
    EXPECT_EQ(search.state(), SearchState::kRunning);
    EXPECT_EQ(search.accepted(), "FFFFFF");
    EXPECT_EQ(search.accepted_loss(), 1);
    search.tell(id, 2);
    EXPECT_EQ(search.num_steps(), id);
  }
  EXPECT_EQ(search.state(), SearchState::kDone);
  EXPECT_EQ(search.accepted(), "FSSFSS");
}

TEST(SearchListed, TheStartIsAcceptedUntilTheEnd) {
  Search search = make_search(listing(IC_STRATEGY_UNIFORM, 6, 2, 6));
  search.tell(0, 1);
  const auto first = search.next();
  EXPECT_EQ(search.candidate_pattern(first->id), "FFFFFF");
  EXPECT_EQ(first->first_layer, 6) << "no mode differs";
  EXPECT_EQ(search.next()->first_layer, 5) << search.candidate_pattern(2);
  for (const int64_t id : {5, 4, 3, 2}) search.tell(id, 1.0 / static_cast<double>(id));
  EXPECT_EQ(search.num_steps(), 0) << "steps are decided in order";
  EXPECT_EQ(search.accepted(), "FFFFFF");
  search.reject(1);
  EXPECT_EQ(search.num_steps(), 4) << "the count whose candidate cannot run has no step";
  EXPECT_EQ(search.state(), SearchState::kDone);
  EXPECT_EQ(search.accepted(), "FSSFSS");
  EXPECT_EQ(search.accepted_loss(), 0.2);
}

}  // namespace
}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// The greedy searches against the reference, and the bookkeeping of candidates.
#include "core/search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/failure.h"
#include "tests/core/search_reference.h"

namespace ic::test {
namespace {

SearchRequest greedy(int32_t num_layers, int32_t num_full = 0) {
  SearchRequest request;
  request.num_layers = num_layers;
  request.strategy = IC_STRATEGY_GREEDY;
  request.num_full = num_full;
  return request;
}

void expect_same(const Search &search, const Reference &wanted) {
  EXPECT_EQ(search.state(), wanted.state);
  EXPECT_EQ(steps_of(search), wanted.steps);
  EXPECT_EQ(search.counts().evaluated, wanted.evaluated);
  EXPECT_EQ(search.counts().rejected, wanted.rejected);
  EXPECT_EQ(search.counts().handed_out, 0);
  if (!wanted.steps.empty()) {
    EXPECT_EQ(search.accepted(), wanted.steps.back().pattern);
    EXPECT_EQ(search.accepted_loss(), wanted.steps.back().loss);
  }
}

TEST(SearchGreedy, EqualsTheReference) {
  std::mt19937 random(1);
  int ends[5] = {};
  for (uint32_t round = 0; round < 600; ++round) {
    SCOPED_TRACE(round);
    SearchRequest request = greedy(static_cast<int32_t>(1 + random() % 10));
    request.num_full = static_cast<int32_t>(random() % static_cast<uint32_t>(request.num_layers + 1));
    request.loss_budget = random() % 2 == 0 ? 0.1 : 0;
    std::vector<int32_t> held;
    if (random() % 2 == 0) held.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(request.num_layers)));
    request.keep_full = held;
    const Loss loss = few_losses(round, 6, random() % 2 == 0 ? 4 : 0);
    const std::string start(static_cast<size_t>(request.num_layers), 'F');
    const Reference wanted = reference_greedy(start, held, {0}, request.num_full, request.loss_budget, loss);
    for (const size_t workers : {1u, 2u, 5u, 100u}) {
      Search search = make_search(request);
      run(&search, loss, workers, round);
      expect_same(search, wanted);
    }
    ++ends[static_cast<size_t>(wanted.state)];
  }
  for (const auto state : {SearchState::kDone, SearchState::kBudget, SearchState::kExhausted})
    EXPECT_GT(ends[static_cast<size_t>(state)], 20) << static_cast<int32_t>(state);
}

TEST(SearchGreedy, FromAStart) {
  for (uint32_t round = 0; round < 50; ++round) {
    SearchRequest request = greedy(9, 2);
    const std::string start = "FFSFFSSFF";
    request.start = start;
    const Loss loss = few_losses(round, 5);
    Search search = make_search(request);
    run(&search, loss, 3, round);
    expect_same(search, reference_greedy(start, {}, {0}, 2, 0, loss));
    EXPECT_EQ(search.baseline_loss(), loss(start));
    EXPECT_EQ(search.counts().planned, search.counts().evaluated);
  }
}

TEST(SearchGreedy, Blocks) {
  int ends[5] = {};
  std::mt19937 random(2);
  for (uint32_t round = 0; round < 400; ++round) {
    SCOPED_TRACE(round);
    SearchRequest request = greedy(11, static_cast<int32_t>(random() % 9));
    request.strategy = IC_STRATEGY_GREEDY_BLOCKS;
    request.num_blocks = static_cast<int32_t>(1 + random() % 11);
    request.loss_budget = random() % 2 == 0 ? 0.3 : 0;
    std::vector<int32_t> cuts;
    for (int32_t block = 0; block < request.num_blocks; ++block)
      cuts.push_back(static_cast<int32_t>(std::floor(block * 11.0 / request.num_blocks + 0.5)));
    const Loss loss = few_losses(round, 6, random() % 2 == 0 ? 3 : 0);
    const Reference wanted =
        reference_greedy(std::string(11, 'F'), {}, cuts, request.num_full, request.loss_budget, loss);
    Search search = make_search(request);
    run(&search, loss, 1 + random() % 4, round);
    expect_same(search, wanted);
    ++ends[static_cast<size_t>(wanted.state)];
  }
  for (const auto state : {SearchState::kDone, SearchState::kBudget, SearchState::kExhausted})
    EXPECT_GT(ends[static_cast<size_t>(state)], 10) << static_cast<int32_t>(state);
}

/// Evaluations that the paper needs (section 3), planned and done.
TEST(SearchGreedy, CountsOfThePaper) {
  struct Count {
    int32_t num_layers, num_shared, num_blocks;
    int64_t evaluations;
  };
  for (const Count &count : {Count{47, 46, 1, 1081},
                             {78, 77, 1, 3003},
                             {47, 35, 1, 1015},
                             {47, 35, 2, 499},
                             {47, 35, 4, 240},
                             {47, 35, 8, 111},
                             {78, 58, 1, 2813},
                             {78, 58, 2, 1392},
                             {78, 58, 4, 681},
                             {78, 58, 8, 326}}) {
    SearchRequest request = greedy(count.num_layers, count.num_layers - count.num_shared);
    if (count.num_blocks > 1) {
      request.strategy = IC_STRATEGY_GREEDY_BLOCKS;
      request.num_blocks = count.num_blocks;
    }
    Search search = make_search(request);
    EXPECT_EQ(search.counts().planned, count.evaluations);
    run(&search, few_losses(3, 100), 7);
    EXPECT_EQ(search.counts().evaluated, count.evaluations);
    EXPECT_EQ(search.num_steps(), count.num_shared);
    EXPECT_EQ(search.state(), SearchState::kDone);
  }
}

TEST(SearchCandidates, OfAStep) {
  SearchRequest request = greedy(5);
  const std::vector<int32_t> held = {3};
  request.keep_full = held;
  Search search = make_search(request);
  const auto baseline = search.next();
  ASSERT_TRUE(baseline);
  EXPECT_EQ(baseline->id, 0);
  EXPECT_EQ(baseline->step, -1);
  EXPECT_EQ(baseline->layer, -1);
  EXPECT_EQ(baseline->first_layer, 0);
  EXPECT_EQ(baseline->num_full, 5);
  EXPECT_FALSE(search.next()) << "it comes alone";
  EXPECT_TRUE(std::isnan(search.baseline_loss()));
  search.tell(0, 1);
  for (const int32_t layer : {1, 2, 4}) {
    const auto candidate = search.next();
    ASSERT_TRUE(candidate);
    EXPECT_EQ(candidate->step, 0);
    EXPECT_EQ(candidate->layer, layer);
    EXPECT_EQ(candidate->first_layer, layer);
    EXPECT_EQ(candidate->num_full, 4);
    std::string pattern = "FFFFF";
    pattern[static_cast<size_t>(layer)] = 'S';
    EXPECT_EQ(search.candidate_pattern(candidate->id), pattern);
  }
  EXPECT_FALSE(search.next());
  EXPECT_EQ(search.counts().handed_out, 3);
  search.tell(2, 5);
  search.tell(3, 5);
  EXPECT_EQ(search.num_steps(), 0) << "the step waits for candidate 1";
  search.reject(1);
  ASSERT_EQ(search.num_steps(), 1);
  EXPECT_EQ(search.accepted(), "FFSFF") << "the lowest of equal ones";
  EXPECT_EQ(search.next()->id, 4);
  EXPECT_EQ(search.candidate_pattern(1), "FSFFF") << "of a step that is decided";
  EXPECT_EQ(search.candidate_pattern(4), "FSSFF");
}

TEST(SearchCandidates, ReleasedOnesComeAgainInOrder) {
  Search search = make_search(greedy(6));
  search.tell(0, 0);
  for (int64_t id = 1; id <= 4; ++id) EXPECT_EQ(search.next()->id, id);
  search.release(3);
  search.release(1);
  search.release(1);
  EXPECT_EQ(search.counts().handed_out, 2);
  EXPECT_EQ(search.next()->id, 1);
  EXPECT_EQ(search.next()->id, 3);
  EXPECT_EQ(search.next()->id, 5);
  EXPECT_FALSE(search.next());
  search.release(2);
  search.tell(2, 1);  // its worker was not gone after all
  EXPECT_FALSE(search.next());
}

TEST(SearchCandidates, TheSameAnswerAgainIsFine) {
  Search search = make_search(greedy(3));
  search.tell(0, -0.0);
  search.tell(0, 0.0);
  EXPECT_FALSE(std::signbit(search.baseline_loss()));
  EXPECT_NE(search.journal().find("{\"tell\":0,\"loss\":0}\n"), std::string::npos) << "one spelling of zero";
  search.tell(1, 2);
  search.reject(2);
  const std::string journal = search.journal();
  search.tell(1, 2);  // of a step that is decided
  search.reject(2);
  EXPECT_EQ(search.journal(), journal);
  EXPECT_EQ(search.counts().evaluated, 1);
  EXPECT_THROW(search.tell(1, 2.5), Failure);
  EXPECT_THROW(search.reject(1), Failure);
  EXPECT_THROW(search.tell(2, 2), Failure);
  EXPECT_EQ(search.journal(), journal);
}

TEST(SearchCandidates, ARejectedBaselineEndsIt) {
  for (const int32_t strategy : {IC_STRATEGY_GREEDY, IC_STRATEGY_UNIFORM}) {
    SearchRequest request = greedy(4, 2);
    request.strategy = strategy;
    Search search = make_search(request);
    search.reject(0);
    EXPECT_EQ(search.state(), SearchState::kExhausted);
    EXPECT_FALSE(search.next());
    EXPECT_EQ(search.counts().rejected, 0);
    EXPECT_TRUE(std::isnan(search.accepted_loss()));
  }
}

TEST(SearchCandidates, NothingToDo) {
  for (const auto &[layers, full] : {std::pair{1, 0}, {1, 1}, {5, 5}}) {
    Search search = make_search(greedy(layers, full));
    EXPECT_EQ(search.counts().planned, 0);
    EXPECT_EQ(search.state(), SearchState::kRunning);
    search.tell(0, 1);
    EXPECT_EQ(search.state(), SearchState::kDone);
  }
}

/// A budget is compared with the baseline, not with the step before; at it is not above it.
TEST(SearchBudget, IsCountedFromTheBaseline) {
  SearchRequest request = greedy(4);
  for (const auto &[budget, steps] : {std::pair{0.25, 1}, {0.5, 2}, {0.7, 2}, {0.75, 3}}) {
    request.loss_budget = budget;
    Search search = make_search(request);
    run(&search, [](const std::string &pattern) {
      return 1 + 0.25 * static_cast<double>(std::count(pattern.begin(), pattern.end(), 'S'));
    });
    EXPECT_EQ(search.num_steps(), steps);
    EXPECT_EQ(search.state(), steps == 3 ? SearchState::kDone : SearchState::kBudget);
  }
}

}  // namespace
}  // namespace ic::test

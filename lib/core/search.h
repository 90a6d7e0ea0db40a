// SPDX-License-Identifier: Apache-2.0
// A search's bookkeeping: candidates, their answers, steps and the journal. What is tried next comes from a GreedyWalk
// or from lists of patterns; nothing here knows more of a strategy than that.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/search_blocks.h"
#include "core/search_journal.h"
#include "core/search_patterns.h"
#include "core/search_plan.h"

namespace ic {

enum class SearchState : int32_t {
  kRunning = IC_SEARCH_RUNNING,
  kDone = IC_SEARCH_DONE,
  kBudget = IC_SEARCH_BUDGET,
  kExhausted = IC_SEARCH_EXHAUSTED,
};

class Search {
 public:
  struct Candidate {
    int64_t id = -1;
    int32_t step = -1;
    int32_t layer = -1;
    int32_t first_layer = 0;
    int32_t num_full = 0;
  };
  struct Step {
    int64_t id = 0;
    double loss = 0;
    int32_t layer = -1;
    int32_t num_full = 0;
  };
  struct Counts {
    int64_t evaluated = 0;  // these two without the baseline
    int64_t rejected = 0;
    int64_t handed_out = 0;
    int64_t planned = 0;
  };

  /// `journal` is an earlier search's, or empty.
  Search(SearchPlan plan, std::string_view journal);

  // Each of these does all of its work or, when it throws, none.
  std::optional<Candidate> next();
  void tell(int64_t id, double loss);
  void reject(int64_t id);
  void release(int64_t id);

  SearchState state() const noexcept { return state_; }
  const Counts &counts() const noexcept { return counts_; }
  int32_t target_num_full() const noexcept { return plan_.num_full; }
  double baseline_loss() const noexcept { return baseline_loss_; }
  double accepted_loss() const noexcept { return accepted_loss_; }
  const std::string &accepted() const noexcept { return accepted_; }
  std::string candidate_pattern(int64_t id) const;

  int32_t num_steps() const noexcept { return static_cast<int32_t>(steps_.size()); }
  /// A step below num_steps().
  Step step(int32_t step) const noexcept;
  std::string step_pattern(int32_t step) const { return candidate_pattern(steps_[static_cast<size_t>(step)]); }

  const std::string &journal() const noexcept { return journal_; }
  size_t journal_resumed() const noexcept { return journal_resumed_; }

 private:
  enum class Answer : uint8_t { kNone, kHandedOut, kTold, kRejected };
  struct Entry {
    double loss = 0;
    int32_t round = 0;
    int32_t layer = -1;
    Answer answer = Answer::kNone;
  };
  /// Candidates that are compared with one another; the first is the baseline alone.
  struct Round {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t unanswered = 0;
    int32_t step = -1;
    int32_t num_full = 0;
  };

  struct Group {
    int32_t num_full = 0;
    size_t size = 0;  // patterns
  };

  void resume(std::string_view journal);
  const Entry &entry(int64_t id) const;
  void answer(const JournalAnswer &given);
  /// Room for everything that an answer can add, so that nothing fails once it has begun to count.
  void reserve_round();
  void open_round(int32_t step, int32_t num_full, size_t count, std::span<const int32_t> layers = {}) noexcept;
  void open_greedy() noexcept;
  void conclude(const Round &round) noexcept;
  void conclude_baseline(bool told) noexcept;
  void conclude_greedy(std::optional<int64_t> best) noexcept;
  void conclude_listed(std::optional<int64_t> best) noexcept;
  std::optional<int64_t> best_of(const Round &round) const noexcept;

  SearchPlan plan_;
  GreedyWalk walk_;
  std::vector<std::string> listed_;  // patterns of candidates 1, 2, ... of a strategy that is not greedy
  std::vector<Group> groups_;        // of such a strategy, one per step
  std::vector<Entry> entries_;       // by id
  std::vector<Round> rounds_;
  size_t concluded_ = 0;        // rounds that are decided
  std::vector<int64_t> steps_;  // ids of what was accepted
  int64_t first_free_ = 0;      // no id below is neither answered nor handed out
  std::string accepted_;
  double baseline_loss_ = std::numeric_limits<double>::quiet_NaN();
  double accepted_loss_ = std::numeric_limits<double>::quiet_NaN();
  bool over_budget_ = false;  // some block is done because of the budget
  SearchState state_ = SearchState::kRunning;
  Counts counts_;
  std::string journal_;
  size_t journal_resumed_ = 0;
};

}  // namespace ic

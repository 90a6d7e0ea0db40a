// SPDX-License-Identifier: Apache-2.0
#include "core/search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/failure.h"
#include "core/schedule_pattern.h"
#include "core/search_line.h"

namespace ic {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// Capacity for `extra` more elements; grows by doubling, as push_back does.
template <class T>
void make_room(std::vector<T> *list, size_t extra) {
  if (list->capacity() - list->size() < extra) list->reserve(std::max(list->size() + extra, 2 * list->capacity()));
}

}  // namespace

Search::Search(SearchPlan plan, std::string_view journal)
    : plan_(std::move(plan)), walk_(plan_), accepted_(plan_.start) {
  for (PatternGroup &group : list_patterns(plan_)) {
    groups_.push_back({group.num_full, group.patterns.size()});
    for (std::string &pattern : group.patterns) listed_.push_back(std::move(pattern));
  }
  counts_.planned = is_greedy(plan_.strategy) ? count_evaluations(walk_) : static_cast<int64_t>(listed_.size());
  journal_ = journal_header(plan_);
  plan_.similarity = {};  // the caller's memory
  entries_.reserve(1 + listed_.size());
  rounds_.reserve(1 + groups_.size());
  steps_.reserve(groups_.size());
  open_round(-1, count_full(plan_.start), 1);
  if (!journal.empty()) resume(journal);
}

void Search::resume(std::string_view journal) {
  require_header(journal, journal_);
  const std::string_view complete = journal.substr(0, complete_bytes(journal));
  if (complete.empty()) return;
  size_t begin = complete.find('\n') + 1;
  for (int64_t number = 2; begin < complete.size(); ++number) {
    const size_t end = complete.find('\n', begin);
    const JournalAnswer given = read_journal_line(complete.substr(begin, end - begin), number);
    try {
      answer(given);
    } catch (const Failure &failure) {
      fail(IC_ERROR_PARSE, "journal line %lld: %.600s", static_cast<long long>(number), failure.text());
    }
    begin = end + 1;
  }
  journal_ = complete;  // as it was written: its lines may be spelt in another way
  journal_resumed_ = complete.size();
}

std::optional<Search::Candidate> Search::next() {
  const int64_t count = static_cast<int64_t>(entries_.size());
  int64_t id = first_free_;
  while (id < count && entries_[static_cast<size_t>(id)].answer != Answer::kNone) ++id;
  first_free_ = id;
  if (id == count) return std::nullopt;
  const Round &round = rounds_[static_cast<size_t>(entries_[static_cast<size_t>(id)].round)];
  Candidate candidate;
  candidate.id = id;
  candidate.step = round.step;
  candidate.layer = entries_[static_cast<size_t>(id)].layer;
  candidate.num_full = round.num_full;
  if (id > 0) {
    const int32_t differs = first_difference(candidate_pattern(id), accepted_);
    candidate.first_layer = differs < 0 ? plan_.num_layers() : differs;
  }
  entries_[static_cast<size_t>(id)].answer = Answer::kHandedOut;
  ++counts_.handed_out;
  return candidate;
}

void Search::tell(int64_t id, double loss) {
  if (!std::isfinite(loss)) {
    fail(IC_ERROR_INVALID_ARGUMENT, "loss of candidate %lld is %g; allowed: finite numbers (or reject the candidate)",
         static_cast<long long>(id), loss);
  }
  answer({id, loss == 0 ? 0 : loss});  // one zero: -0 would be written as another number
}

void Search::reject(int64_t id) { answer({id, std::nullopt}); }

void Search::release(int64_t id) {
  const Answer found = entry(id).answer;
  if (found == Answer::kNone) return;
  if (found != Answer::kHandedOut) {
    fail(IC_ERROR_ALREADY_TOLD, "candidate %lld has been %s; allowed: one that is not answered",
         static_cast<long long>(id), found == Answer::kTold ? "told a loss" : "rejected");
  }
  entries_[static_cast<size_t>(id)].answer = Answer::kNone;
  --counts_.handed_out;
  first_free_ = std::min(first_free_, id);
}

const Search::Entry &Search::entry(int64_t id) const {
  const int64_t count = static_cast<int64_t>(entries_.size());
  if (id < 0 || id >= count) {
    fail(IC_ERROR_INVALID_ARGUMENT, "id is %lld; allowed: 0 to %lld, the candidates so far", static_cast<long long>(id),
         static_cast<long long>(count - 1));
  }
  return entries_[static_cast<size_t>(id)];
}

void Search::answer(const JournalAnswer &given) {
  const Entry &before = entry(given.id);
  const bool told = before.answer == Answer::kTold, rejected = before.answer == Answer::kRejected;
  if (told || rejected) {
    if (given.loss ? told && *given.loss == before.loss : rejected) return;
    const std::string now = given.loss ? "told the loss " + number_text(*given.loss) : "rejected";
    const std::string then = told ? "told the loss " + number_text(before.loss) : "rejected";
    fail(IC_ERROR_ALREADY_TOLD, "candidate %lld has been %s, and is now %s", static_cast<long long>(given.id),
         then.c_str(), now.c_str());
  }
  reserve_round();
  journal_ += journal_line(given);

  Entry &entry = entries_[static_cast<size_t>(given.id)];
  if (entry.answer == Answer::kHandedOut) --counts_.handed_out;
  entry.answer = given.loss ? Answer::kTold : Answer::kRejected;
  entry.loss = given.loss.value_or(0);
  if (given.id > 0) ++(given.loss ? counts_.evaluated : counts_.rejected);
  --rounds_[static_cast<size_t>(entry.round)].unanswered;
  while (concluded_ < rounds_.size() && rounds_[concluded_].unanswered == 0) {
    const Round round = rounds_[concluded_++];  // a copy: concluding adds rounds
    conclude(round);
  }
}

void Search::reserve_round() {
  if (!is_greedy(plan_.strategy)) return;  // has been, for all rounds
  make_room(&entries_, static_cast<size_t>(plan_.num_layers()));
  make_room(&rounds_, 1);
  make_room(&steps_, 1);
}

void Search::open_round(int32_t step, int32_t num_full, size_t count, std::span<const int32_t> layers) noexcept {
  Round round;
  round.begin = static_cast<int64_t>(entries_.size());
  round.unanswered = static_cast<int64_t>(count);
  round.end = round.begin + round.unanswered;
  round.step = step;
  round.num_full = num_full;
  for (size_t i = 0; i < count; ++i) {
    Entry entry;
    entry.round = static_cast<int32_t>(rounds_.size());
    if (!layers.empty()) entry.layer = layers[i];
    entries_.push_back(entry);
  }
  rounds_.push_back(round);
}

void Search::conclude(const Round &round) noexcept {
  const std::optional<int64_t> best = best_of(round);
  if (round.step < 0) {
    conclude_baseline(best.has_value());
  } else if (is_greedy(plan_.strategy)) {
    conclude_greedy(best);
  } else {
    conclude_listed(best);
  }
}

void Search::conclude_baseline(bool told) noexcept {
  if (!told) {
    state_ = SearchState::kExhausted;
    return;
  }
  baseline_loss_ = accepted_loss_ = entries_[0].loss;
  if (is_greedy(plan_.strategy)) open_greedy();
  for (size_t i = 0; i < groups_.size(); ++i) open_round(static_cast<int32_t>(i), groups_[i].num_full, groups_[i].size);
}

void Search::open_greedy() noexcept {
  const std::span<const int32_t> layers = walk_.layers();
  if (!layers.empty()) {
    open_round(num_steps(), walk_.num_full() - 1, layers.size(), layers);
  } else {
    state_ = walk_.reached() ? SearchState::kDone : over_budget_ ? SearchState::kBudget : SearchState::kExhausted;
  }
}

void Search::conclude_greedy(std::optional<int64_t> best) noexcept {
  const double limit = plan_.loss_budget > 0 ? baseline_loss_ + plan_.loss_budget : kNoLimit;
  if (best && entries_[static_cast<size_t>(*best)].loss <= limit) {
    const Entry &chosen = entries_[static_cast<size_t>(*best)];
    steps_.push_back(*best);
    accepted_[static_cast<size_t>(chosen.layer)] = 'S';
    accepted_loss_ = chosen.loss;
    walk_.flip(chosen.layer);
  } else {
    over_budget_ = over_budget_ || best;
    walk_.retire();
  }
  open_greedy();
}

void Search::conclude_listed(std::optional<int64_t> best) noexcept {
  if (best) steps_.push_back(*best);
  if (concluded_ < rounds_.size()) return;
  state_ = best ? SearchState::kDone : SearchState::kExhausted;
  if (steps_.empty()) return;
  const std::string &last = listed_[static_cast<size_t>(steps_.back() - 1)];
  std::copy(last.begin(), last.end(), accepted_.begin());
  accepted_loss_ = entries_[static_cast<size_t>(steps_.back())].loss;
}

std::optional<int64_t> Search::best_of(const Round &round) const noexcept {
  std::optional<int64_t> best;
  for (int64_t id = round.begin; id < round.end; ++id) {
    const Entry &found = entries_[static_cast<size_t>(id)];
    if (found.answer != Answer::kTold) continue;
    if (!best || found.loss < entries_[static_cast<size_t>(*best)].loss) best = id;
  }
  return best;
}

std::string Search::candidate_pattern(int64_t id) const {
  const Entry &asked = entry(id);
  if (id > 0 && !is_greedy(plan_.strategy)) return listed_[static_cast<size_t>(id - 1)];
  std::string pattern = plan_.start;
  for (int32_t step = 0; step < rounds_[static_cast<size_t>(asked.round)].step; ++step) {
    pattern[static_cast<size_t>(entries_[static_cast<size_t>(steps_[static_cast<size_t>(step)])].layer)] = 'S';
  }
  if (asked.layer >= 0) pattern[static_cast<size_t>(asked.layer)] = 'S';
  return pattern;
}

Search::Step Search::step(int32_t step) const noexcept {
  const int64_t id = steps_[static_cast<size_t>(step)];
  const Entry &chosen = entries_[static_cast<size_t>(id)];
  return {id, chosen.loss, chosen.layer, rounds_[static_cast<size_t>(chosen.round)].num_full};
}

}  // namespace ic

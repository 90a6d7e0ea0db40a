// SPDX-License-Identifier: Apache-2.0
// A search that was stopped anywhere goes on to the same end.
#include "core/search_journal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/search_line.h"
#include "tests/core/search_reference.h"

namespace ic::test {
namespace {

std::vector<SearchRequest> requests(const std::vector<int32_t> &held, const std::vector<double> &similarity) {
  SearchRequest greedy;
  greedy.num_layers = 5;
  greedy.strategy = IC_STRATEGY_GREEDY;
  greedy.keep_full = held;
  SearchRequest blocks = greedy;
  blocks.strategy = IC_STRATEGY_GREEDY_BLOCKS;
  blocks.num_blocks = 2;
  blocks.loss_budget = 0.1;
  SearchRequest random = greedy;
  random.strategy = IC_STRATEGY_RANDOM;
  random.num_full = 2;
  random.max_full = 4;
  random.num_samples = 2;
  random.seed = std::numeric_limits<uint64_t>::max();
  SearchRequest similar = random;
  similar.strategy = IC_STRATEGY_SIMILARITY_DP;
  similar.similarity = similarity;
  similar.num_samples = 0;
  similar.seed = 0;
  return {greedy, blocks, random, similar};
}

TEST(SearchJournal, CutAtEveryByteItGoesOnToTheSameEnd) {
  const std::vector<int32_t> held = {3};
  const std::vector<double> similarity(25, 0.1);
  const Loss loss = few_losses(11, 5, 6);
  for (const SearchRequest &request : requests(held, similarity)) {
    SCOPED_TRACE(request.strategy);
    Search whole = make_search(request);
    run(&whole, loss);
    const std::string &journal = whole.journal();
    ASSERT_GT(journal.size(), 300u);
    for (size_t cut = 0; cut <= journal.size(); ++cut) {
      const std::string stopped = journal.substr(0, cut);
      Search resumed = make_search(request, stopped);
      const size_t kept = cut == 0 ? 0 : stopped.rfind('\n') + 1;  // npos + 1 = 0
      ASSERT_EQ(resumed.journal_resumed(), kept);
      EXPECT_EQ(resumed.journal().substr(0, kept), stopped.substr(0, kept));
      EXPECT_EQ(resumed.counts().handed_out, 0);
      run(&resumed, loss);
      ASSERT_EQ(resumed.journal(), journal) << "cut at " << cut;
      EXPECT_EQ(stopped.substr(0, kept) + resumed.journal().substr(kept), journal) << "the caller's file";
      EXPECT_EQ(steps_of(resumed), steps_of(whole));
      EXPECT_EQ(resumed.state(), whole.state());
      EXPECT_EQ(resumed.accepted(), whole.accepted());
      EXPECT_EQ(resumed.counts().evaluated, whole.counts().evaluated);
      EXPECT_EQ(resumed.counts().rejected, whole.counts().rejected);
    }
  }
}

/// Workers finish in any order, and the search is stopped again and again.
TEST(SearchJournal, StoppedAgainAndAgain) {
  std::mt19937 random(6);
  SearchRequest request;
  request.num_layers = 8;
  request.strategy = IC_STRATEGY_GREEDY;
  for (uint32_t round = 0; round < 30; ++round) {
    const Loss loss = few_losses(round, 4, 7);
    std::string file;
    for (;;) {
      const std::string given = file;
      Search search = make_search(request, given);
      file.resize(search.journal_resumed());
      std::vector<int64_t> at_work;
      for (size_t i = random() % 9; i > 0 && search.state() == SearchState::kRunning; --i) {
        while (const auto candidate = search.next()) at_work.push_back(candidate->id);
        const size_t chosen = random() % at_work.size();
        answer(&search, at_work[chosen], loss);
        at_work.erase(at_work.begin() + static_cast<std::ptrdiff_t>(chosen));
        file += search.journal().substr(file.size());
      }
      if (search.state() != SearchState::kRunning) {
        const Reference wanted = reference_greedy(std::string(8, 'F'), {}, {0}, 0, 0, loss);
        EXPECT_EQ(steps_of(search), wanted.steps);
        break;
      }
      file.resize(file.size() - std::min<size_t>(file.size(), random() % 40));  // what was not on disk yet
      if (file.size() < 200 && random() % 2 == 0) file.clear();
    }
  }
}

TEST(SearchJournal, TailsThatAreIgnored) {
  SearchRequest request;
  request.num_layers = 3;
  request.strategy = IC_STRATEGY_GREEDY;
  Search search = make_search(request);
  search.tell(0, 1.5);
  const std::string journal = search.journal();
  for (const std::string &tail :
       {std::string("{\"tell\":1,\"loss\":2.5}"), std::string(100, '\0'), std::string("??")}) {
    const std::string given = journal + tail;
    const Search resumed = make_search(request, given);
    EXPECT_EQ(resumed.journal_resumed(), journal.size());
    EXPECT_EQ(resumed.journal(), journal);
    EXPECT_EQ(resumed.counts().evaluated, 0);
  }
}

/// Space that JSON allows is kept as it is; the same answer twice is fine.
TEST(SearchJournal, OtherSpellings) {
  SearchRequest request;
  request.num_layers = 3;
  request.strategy = IC_STRATEGY_GREEDY;
  const std::string header = make_search(request).journal();
  const std::string given =
      header + " { \"tell\" : 0 , \"loss\" : 15e-1 }\r\n{\"tell\":0,\"loss\":1.5}\n{\"reject\":2}\n";
  Search resumed = make_search(request, given);
  EXPECT_EQ(resumed.baseline_loss(), 1.5);
  EXPECT_EQ(resumed.journal(), given);
  resumed.tell(1, 2);
  EXPECT_EQ(resumed.journal(), given + "{\"tell\":1,\"loss\":2}\n");
}

TEST(SearchJournal, TheFirstLine) {
  SearchRequest request;
  request.num_layers = 4;
  request.strategy = IC_STRATEGY_GREEDY;
  const std::vector<int32_t> held = {3, 0, 2, 3};
  request.keep_full = held;
  EXPECT_EQ(make_search(request).journal(),
            "{\"indexcache_search\":1,\"num_layers\":4,\"strategy\":\"greedy\",\"start\":\"FFFF\",\"keep_full\":[2,3],"
            "\"num_full\":3,\"max_full\":0,\"num_blocks\":0,\"loss_budget\":0,\"similarity\":null,\"num_samples\":0,"
            "\"seed\":0}\n");
  // What means the same has the same journal.
  SearchRequest same = request;
  same.num_full = 3;
  same.start = "FFFF";
  const std::vector<int32_t> ascending = {2, 3};
  same.keep_full = ascending;
  EXPECT_EQ(make_search(same).journal(), make_search(request).journal());
}

TEST(SearchJournal, LossesComeBackBitForBit) {
  std::mt19937_64 random(7);
  std::vector<double> losses = {0.0,
                                1.0 / 3,
                                -2.5,
                                123456789012345678.0,
                                1e22,
                                18446744073709551615.0,
                                std::numeric_limits<double>::denorm_min(),
                                std::numeric_limits<double>::min(),
                                std::numeric_limits<double>::max(),
                                std::numeric_limits<double>::lowest()};
  for (int i = 0; i < 20000; ++i) {
    const uint64_t bits = random();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (std::isfinite(value)) losses.push_back(value);
  }
  for (const double loss : losses) {
    const JournalAnswer read = read_journal_line(journal_line({7, loss}), 2);
    EXPECT_EQ(read.id, 7);
    ASSERT_EQ(std::memcmp(&*read.loss, &loss, sizeof loss), 0) << number_text(loss);
  }
}

}  // namespace
}  // namespace ic::test

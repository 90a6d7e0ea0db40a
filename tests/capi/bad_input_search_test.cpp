// SPDX-License-Identifier: Apache-2.0
// Searches that cannot be: every field of the desc outside of what is allowed or of use to the strategy, every broken
// journal; and calls on a search that it must refuse.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class BadInputSearch : public BadInput {
 protected:
  using Words = std::initializer_list<const char *>;

  /// A desc of another strategy, without what belongs to similarity; `spoil` changes something.
  template <class Spoil>
  ic_status create(int32_t strategy, Spoil spoil) {
    ic_search_desc &desc = problem.search_desc;
    desc.strategy = strategy;
    desc.max_full = 0;
    desc.similarity = nullptr;
    desc.num_similarity = 0;
    desc.journal = nullptr;
    desc.journal_size = 0;
    if (strategy == IC_STRATEGY_GREEDY_BLOCKS) desc.num_blocks = 2;
    if (strategy == IC_STRATEGY_UNIFORM) desc.num_keep_full = 0;
    if (strategy == IC_STRATEGY_RANDOM) desc.num_samples = 2;
    spoil(desc);
    return problem.call_search_create();
  }
  template <class T>
  void expect(int32_t strategy, T ic_search_desc::*field, T value, Words words,
              ic_status status = IC_ERROR_INVALID_ARGUMENT) {
    EXPECT_TRUE(refuses(problem, status, words,
                        [&] { return create(strategy, [&](ic_search_desc &desc) { desc.*field = value; }); }));
  }
  void expect_start(int32_t strategy, const char *start, Words words, ic_status status = IC_ERROR_INVALID_ARGUMENT) {
    expect(strategy, &ic_search_desc::start, start, words, status);
  }
  /// search_desc with its journal changed.
  void expect_journal(const std::string &journal, ic_status status, Words words) {
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      problem.search_desc.journal = journal.data();
      problem.search_desc.journal_size = journal.size();
      return problem.call_search_create();
    })) << journal;
  }
};

TEST_F(BadInputSearch, TheDescsAreFineUntilTheyAreSpoilt) {
  for (const int32_t strategy :
       {IC_STRATEGY_GREEDY, IC_STRATEGY_GREEDY_BLOCKS, IC_STRATEGY_UNIFORM, IC_STRATEGY_RANDOM})
    EXPECT_TRUE(accepts(problem, [&] { return create(strategy, [](ic_search_desc &) {}); })) << strategy;
  EXPECT_TRUE(accepts(problem, [&] { return problem.call_search_create(); }));
}

TEST_F(BadInputSearch, Numbers) {
  const auto greedy = IC_STRATEGY_GREEDY;
  expect(greedy, &ic_search_desc::num_layers, 0, {"desc->num_layers is 0", "1 to 4096"});
  expect(greedy, &ic_search_desc::num_layers, 4097, {"desc->num_layers is 4097", "1 to 4096"});
  expect(greedy, &ic_search_desc::num_layers, -1, {"desc->num_layers is -1"});
  expect(greedy, &ic_search_desc::strategy, 0, {"desc->strategy is 0", "1 to 5"});
  expect(greedy, &ic_search_desc::strategy, 6, {"desc->strategy is 6", "1 to 5"});
  expect(greedy, &ic_search_desc::num_keep_full, -1, {"desc->num_keep_full is -1"});
  expect(greedy, &ic_search_desc::num_similarity, -1, {"desc->num_similarity is -1"});
  expect(greedy, &ic_search_desc::num_full, -1, {"desc->num_full is -1", "0 to 6"});
  expect(greedy, &ic_search_desc::num_full, 7, {"desc->num_full is 7", "0 to 6"});
  expect(IC_STRATEGY_GREEDY_BLOCKS, &ic_search_desc::num_blocks, 0, {"desc->num_blocks is 0", "1 to 6"});
  expect(IC_STRATEGY_GREEDY_BLOCKS, &ic_search_desc::num_blocks, 7, {"desc->num_blocks is 7", "1 to 6"});
  expect(IC_STRATEGY_UNIFORM, &ic_search_desc::max_full, 2, {"desc->max_full is 2", "0, or 3 to 6"});
  expect(IC_STRATEGY_UNIFORM, &ic_search_desc::max_full, 7, {"desc->max_full is 7", "0, or 3 to 6"});
  expect(IC_STRATEGY_UNIFORM, &ic_search_desc::max_full, -1, {"desc->max_full is -1"});
  expect(IC_STRATEGY_RANDOM, &ic_search_desc::num_samples, 0, {"desc->num_samples is 0", "1 to 65536"});
  expect(IC_STRATEGY_RANDOM, &ic_search_desc::num_samples, 65537, {"desc->num_samples is 65537", "1 to 65536"});
  for (const double budget : {-0.5, kInfinity, -kInfinity, std::nan("")})
    expect(greedy, &ic_search_desc::loss_budget, budget, {"desc->loss_budget is", "allowed: 0 and more"});
}

TEST_F(BadInputSearch, PatternsInAll) {
  EXPECT_TRUE(
      refuses(problem, IC_ERROR_INVALID_ARGUMENT, {"65536 for each of 26 numbers", "1048576 patterns in all"}, [&] {
        return create(IC_STRATEGY_RANDOM, [](ic_search_desc &desc) {
          desc.num_layers = 100;
          desc.start = nullptr;
          desc.num_samples = 65536;
          desc.num_full = 25;
          desc.max_full = 50;
        });
      }));
}

TEST_F(BadInputSearch, FieldsOfOtherStrategies) {
  for (const int32_t strategy : {IC_STRATEGY_GREEDY, IC_STRATEGY_UNIFORM, IC_STRATEGY_RANDOM})
    expect(strategy, &ic_search_desc::num_blocks, 2, {"desc->num_blocks is 2", "0"});
  for (const int32_t strategy : {IC_STRATEGY_GREEDY, IC_STRATEGY_GREEDY_BLOCKS}) {
    expect(strategy, &ic_search_desc::max_full, 4, {"desc->max_full is 4", "greedy", "0"});
    expect(strategy, &ic_search_desc::num_samples, 4, {"desc->num_samples is 4", "greedy", "0"});
    expect(strategy, &ic_search_desc::seed, uint64_t{1} << 63, {"desc->seed is", "greedy", "0"});
  }
  expect(IC_STRATEGY_UNIFORM, &ic_search_desc::loss_budget, 0.5, {"desc->loss_budget is 0.5", "uniform", "0"});
  expect(IC_STRATEGY_UNIFORM, &ic_search_desc::num_keep_full, 2, {"desc->keep_full names layer 4", "uniform"});
  EXPECT_TRUE(refuses(problem, IC_ERROR_INVALID_ARGUMENT, {"desc->num_similarity is 36", "random", "0"}, [&] {
    return create(IC_STRATEGY_RANDOM, [&](ic_search_desc &desc) {
      desc.similarity = problem.similarity;
      desc.num_similarity = 36;
    });
  }));
}

TEST_F(BadInputSearch, Start) {
  for (const int32_t strategy : {IC_STRATEGY_GREEDY, IC_STRATEGY_GREEDY_BLOCKS, IC_STRATEGY_RANDOM}) {
    expect_start(strategy, "SFFFFF", {"desc->start", "layer 0 Shared"}, IC_ERROR_SCHEDULE_INVALID);
    expect_start(strategy, "FFxFFF", {"desc->start", "'x'", "layer 2"}, IC_ERROR_PARSE);
    expect_start(strategy, "FFFFF", {"desc->start", "5 letters", "6"});
    expect_start(strategy, "FFFFFFF", {"desc->start", "7 letters", "6"});
    expect_start(strategy, "", {"desc->start", "0 letters"});
    expect_start(strategy, "FFFFSF", {"desc->start makes layer 4 Shared", "desc->keep_full"});
  }
  expect_start(IC_STRATEGY_GREEDY_BLOCKS, "FFFSFF", {"desc->start makes layer 3 Shared", "a block begins there"});
  expect_start(IC_STRATEGY_UNIFORM, "FFFSFF", {"desc->start makes layer 3 Shared", "uniform: all F"});
  EXPECT_TRUE(refuses(problem, IC_ERROR_INVALID_ARGUMENT, {"desc->num_full is 6", "0 to 5"}, [&] {
    return create(IC_STRATEGY_GREEDY, [](ic_search_desc &desc) {
      desc.start = "FSFFFF";
      desc.num_full = 6;
    });
  }));
}

TEST_F(BadInputSearch, KeepFull) {
  for (const int32_t layer : {-1, 6, INT32_MAX, INT32_MIN}) {
    const std::string named = "desc->keep_full[1] is " + std::to_string(layer);
    EXPECT_TRUE(refuses(problem, IC_ERROR_INVALID_ARGUMENT, {named.c_str(), "0 to 5"}, [&] {
      problem.keep_full[1] = layer;
      return problem.call_search_create();
    }));
  }
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"desc->keep_full", "multiple of 4"}, [&] {
    problem.search_desc.keep_full =
        reinterpret_cast<const int32_t *>(reinterpret_cast<uintptr_t>(problem.keep_full) + 1);
    return problem.call_search_create();
  }));
}

TEST_F(BadInputSearch, Similarity) {
  for (const int32_t count : {0, 35, 37}) {
    const std::string number = "desc->num_similarity is " + std::to_string(count);
    EXPECT_TRUE(refuses(problem, IC_ERROR_INVALID_ARGUMENT, {number.c_str(), "similarity_dp: 36"}, [&] {
      problem.search_desc.num_similarity = count;
      return problem.call_search_create();
    }));
  }
  for (const double entry : {std::nan(""), kInfinity, -kInfinity, 1.1e300, -1.1e300}) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_INVALID_ARGUMENT, {"desc->similarity[5, 2] is ", "-1e+300 to 1e+300"}, [&] {
      problem.similarity[5 * 6 + 2] = entry;
      return problem.call_search_create();
    }));
  }
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"desc->similarity", "multiple of 8"}, [&] {
    problem.search_desc.similarity =
        reinterpret_cast<const double *>(reinterpret_cast<uintptr_t>(problem.similarity) + 4);
    return problem.call_search_create();
  }));
}

TEST_F(BadInputSearch, Journals) {
  const std::string &journal = problem.search_journal;
  const std::string header = journal.substr(0, journal.find('\n') + 1);
  const auto parse = IC_ERROR_PARSE;
  expect_journal("\n", parse, {"journal line 1: not JSON"});
  expect_journal("[]\n", parse, {"journal line 1", "no JSON object"});
  expect_journal("17\n", parse, {"journal line 1", "no JSON object"});
  expect_journal("{}\n", parse, {"journal line 1", "indexcache_search"});
  expect_journal("{\"a\":{}}\n", parse, {"journal line 1", "no JSON object of scalars"});
  expect_journal("{\"a\":[[1]]}\n", parse, {"journal line 1", "no JSON object of scalars"});
  expect_journal("{\"tell\":0,\"loss\":1}\n", parse, {"journal line 1", "indexcache_search"});
  expect_journal(std::string("\0", 1), IC_ERROR_JOURNAL, {"journal has no complete line", "1 bytes"});
  expect_journal(header.substr(0, 40) + "?", IC_ERROR_JOURNAL, {"journal has no complete line", "41 bytes"});
  expect_journal(header.substr(0, header.size() - 2) + ",\"more\":1}\n", parse, {"line 1 has more", "its end"});
  expect_journal(header.substr(0, header.rfind(',')) + "}\n", parse, {"line 1 has its end where seed"});
  expect_journal("{\"indexcache_search\":2}\n", IC_ERROR_UNSUPPORTED, {"journal line 1: format 2", "reads 1"});
  struct Line {
    const char *text;
    const char *message;
  };
  for (const Line &line : {
           Line{"", "journal line 3: not JSON"},
           {"{", "journal line 3: not JSON"},
           {"{\"tell\":1,\"loss\":1}x", "journal line 3: not JSON"},
           {"{\"tell\":1}", "journal line 3 is {\"tell\":1}; allowed"},
           {"{\"loss\":1,\"tell\":1}", "journal line 3 is"},
           {"{\"tell\":1,\"loss\":1,\"more\":1}", "journal line 3 is"},
           {"{\"reject\":1,\"loss\":1}", "journal line 3 is"},
           {"{\"tell\":\"1\",\"loss\":1}", "journal line 3 is"},
           {"{\"tell\":1.5,\"loss\":1}", "journal line 3 is"},
           {"{\"tell\":1,\"loss\":null}", "journal line 3 is"},
           {"{\"tell\":[1],\"loss\":1}", "journal line 3 is"},
           {"{\"tell\":1,\"loss\":1e999}", "journal line 3: not JSON"},
           {"{\"tell\":-1,\"loss\":1}", "journal line 3: id is -1; allowed: 0 to 3"},
           {"{\"tell\":4,\"loss\":1}", "journal line 3: id is 4; allowed: 0 to 3"},
           {"{\"tell\":18446744073709551615,\"loss\":1}", "journal line 3 is"},
           {"{\"reject\":0}", "journal line 3: candidate 0 has been told the loss 1.25"},
           {"{\"tell\":0,\"loss\":2}",
            "journal line 3: candidate 0 has been told the loss 1.25, and is now told the loss 2"},
       })
    expect_journal(journal + line.text + "\n{\"tell\":1,\"loss\":1}\n", parse, {line.message});
}

TEST_F(BadInputSearch, JournalsOfOtherDescs) {
  const auto expect_other = [&](const char *words, auto spoil) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_JOURNAL, {words}, [&] {
      spoil(problem.search_desc);
      return problem.call_search_create();
    })) << words;
  };
  expect_other("journal has start \"FFFFFF\"; the desc has \"FFFSFF\"", [](auto &d) { d.start = "FFFSFF"; });
  expect_other("journal has keep_full [4]; the desc has []", [](auto &d) { d.num_keep_full = 0; });
  expect_other("journal has num_full 3; the desc has 2", [](auto &d) { d.num_full = 2; });
  expect_other("journal has max_full 5; the desc has 4", [](auto &d) { d.max_full = 4; });
  expect_other("journal has similarity \"sha256:", [&](auto &) { problem.similarity[6] += 1; });
  const auto of_greedy = [&](const char *words, auto spoil) {
    EXPECT_TRUE(refuses(problem, IC_ERROR_JOURNAL, {words}, [&] {
      char text[1000];
      size_t size = sizeof text;
      EXPECT_EQ(ic_search_journal(problem.search, 0, text, &size), IC_OK);
      ic_search_desc desc = IC_SEARCH_DESC_INIT;
      desc.num_layers = 4;
      desc.strategy = IC_STRATEGY_GREEDY;
      desc.journal = text;
      desc.journal_size = size - 1;
      spoil(desc);
      ic_search *search = nullptr;
      const ic_status status = ic_search_create(&desc, &search);
      EXPECT_EQ(search, nullptr);
      return status;
    })) << words;
  };
  of_greedy("journal has num_layers 4; the desc has 5", [](ic_search_desc &d) { d.num_layers = 5; });
  of_greedy("journal has strategy \"greedy\"; the desc has \"uniform\"",
            [](ic_search_desc &d) { d.strategy = IC_STRATEGY_UNIFORM; });
  of_greedy("journal has loss_budget 0; the desc has 0.1", [](ic_search_desc &d) { d.loss_budget = 0.1; });
  of_greedy("journal has strategy \"greedy\"; the desc has \"greedy_blocks\"", [](ic_search_desc &d) {
    d.strategy = IC_STRATEGY_GREEDY_BLOCKS;
    d.num_blocks = 2;
  });
}

TEST_F(BadInputSearch, Answers) {
  SmallProblem &p = problem;
  const ic_status invalid = IC_ERROR_INVALID_ARGUMENT, told = IC_ERROR_ALREADY_TOLD;
  for (const double loss : {std::nan(""), kInfinity, -kInfinity})
    EXPECT_TRUE(
        refuses(p, invalid, {"loss of candidate 4 is ", "finite"}, [&] { return ic_search_tell(p.search, 4, loss); }));
  for (const int64_t id : {int64_t{-1}, int64_t{6}, INT64_MAX, INT64_MIN}) {
    const std::string named = "id is " + std::to_string(id);
    const auto words = {named.c_str(), "0 to 5"};
    EXPECT_TRUE(refuses(p, invalid, words, [&] { return ic_search_tell(p.search, id, 1); }));
    EXPECT_TRUE(refuses(p, invalid, words, [&] { return ic_search_reject(p.search, id); }));
    EXPECT_TRUE(refuses(p, invalid, words, [&] { return ic_search_release(p.search, id); }));
    EXPECT_TRUE(refuses(p, invalid, words, [&] { return ic_search_candidate_pattern(p.search, id, p.text, &p.size); }));
  }
  EXPECT_TRUE(refuses(p, told, {"candidate 1", "the loss 2", "now told the loss 2.5"},
                      [&] { return ic_search_tell(p.search, 1, 2.5); }));
  EXPECT_TRUE(
      refuses(p, told, {"candidate 1", "the loss 2", "rejected"}, [&] { return ic_search_reject(p.search, 1); }));
  EXPECT_TRUE(refuses(p, told, {"candidate 1", "told a loss"}, [&] { return ic_search_release(p.search, 1); }));
  ASSERT_EQ(ic_search_reject(p.search, 5), IC_OK);
  EXPECT_TRUE(
      refuses(p, told, {"candidate 5", "rejected", "the loss 1"}, [&] { return ic_search_tell(p.search, 5, 1); }));
  EXPECT_TRUE(refuses(p, told, {"candidate 5", "rejected"}, [&] { return ic_search_release(p.search, 5); }));
}

TEST_F(BadInputSearch, Queries) {
  SmallProblem &p = problem;
  const ic_status invalid = IC_ERROR_INVALID_ARGUMENT;
  for (const int32_t step : {-1, 1, INT32_MAX, INT32_MIN}) {
    const std::string named = "step is " + std::to_string(step);
    const auto words = {named.c_str(), "0 to 0"};
    EXPECT_TRUE(refuses(p, invalid, words, [&] { return ic_search_get_step(p.search, step, &p.search_step); }));
    EXPECT_TRUE(refuses(p, invalid, words, [&] { return ic_search_step_pattern(p.search, step, p.text, &p.size); }));
  }
  ASSERT_EQ(ic_search_get_info(p.search, &p.search_info), IC_OK);
  for (const int64_t byte : {int64_t{-1}, p.search_info.journal_size + 1, INT64_MAX}) {
    const std::string named = "from_byte is " + std::to_string(byte);
    const std::string allowed = "0 to " + std::to_string(p.search_info.journal_size);
    EXPECT_TRUE(refuses(p, invalid, {named.c_str(), allowed.c_str()},
                        [&] { return ic_search_journal(p.search, byte, p.text, &p.size); }));
  }
  ic_search_desc desc = IC_SEARCH_DESC_INIT;
  desc.num_layers = 3;
  desc.strategy = IC_STRATEGY_GREEDY;
  ic_search *fresh = nullptr;
  ASSERT_EQ(ic_search_create(&desc, &fresh), IC_OK);
  EXPECT_TRUE(
      refuses(p, invalid, {"step is 0", "no step"}, [&] { return ic_search_get_step(fresh, 0, &p.search_step); }));
  ic_search_destroy(fresh);
}

}  // namespace
}  // namespace ic::test

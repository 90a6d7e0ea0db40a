// SPDX-License-Identifier: Apache-2.0
// tests/vectors/search/cases.json: searches with known candidates, losses, steps and ends.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/capi/search_handle.h"

namespace ic::test {
namespace {

using Json = nlohmann::json;

const Json &vectors() {
  static const Json all = Json::parse(std::ifstream(INDEXCACHE_TEST_DIR "/vectors/search/cases.json"));
  return all;
}

/// A case's desc, and the memory that it points at.
class Desc {
 public:
  explicit Desc(const Json &fields) {
    const std::map<std::string, int32_t> strategies = {{"IC_STRATEGY_GREEDY", IC_STRATEGY_GREEDY},
                                                       {"IC_STRATEGY_GREEDY_BLOCKS", IC_STRATEGY_GREEDY_BLOCKS},
                                                       {"IC_STRATEGY_UNIFORM", IC_STRATEGY_UNIFORM},
                                                       {"IC_STRATEGY_SIMILARITY_DP", IC_STRATEGY_SIMILARITY_DP},
                                                       {"IC_STRATEGY_RANDOM", IC_STRATEGY_RANDOM}};
    desc_.num_layers = fields.at("num_layers");
    desc_.strategy = strategies.at(fields.at("strategy"));
    start_ = fields.value("start", "");
    if (!start_.empty()) desc_.start = start_.c_str();
    keep_full_ = fields.value("keep_full", keep_full_);
    desc_.keep_full = keep_full_.data();
    desc_.num_keep_full = static_cast<int32_t>(keep_full_.size());
    desc_.num_full = fields.value("num_full", 0);
    desc_.max_full = fields.value("max_full", 0);
    desc_.num_blocks = fields.value("num_blocks", 0);
    desc_.loss_budget = fields.value("loss_budget", 0.0);
    similarity_ = fields.value("similarity", similarity_);
    desc_.similarity = similarity_.data();
    desc_.num_similarity = static_cast<int32_t>(similarity_.size());
    desc_.num_samples = fields.value("num_samples", 0);
    desc_.seed = fields.value("seed", uint64_t{0});
    journal_ = fields.value("journal", "");
    set_journal(journal_);
  }
  Desc(const Desc &) = delete;
  Desc &operator=(const Desc &) = delete;

  void set_journal(const std::string &journal) {
    journal_ = journal;
    desc_.journal = journal_.data();
    desc_.journal_size = journal_.size();
  }
  const ic_search_desc &get() const { return desc_; }

 private:
  ic_search_desc desc_ = IC_SEARCH_DESC_INIT;
  std::string start_;
  std::vector<int32_t> keep_full_;
  std::vector<double> similarity_;
  std::string journal_;
};

int32_t state_of(const std::string &name) {
  return std::map<std::string, int32_t>{{"IC_SEARCH_DONE", IC_SEARCH_DONE},
                                        {"IC_SEARCH_BUDGET", IC_SEARCH_BUDGET},
                                        {"IC_SEARCH_EXHAUSTED", IC_SEARCH_EXHAUSTED}}
      .at(name);
}

void expect_end(const Json &search, const SearchHandle &handle) {
  const ic_search_info info = handle.info();
  const Json &losses = search["losses"];
  const int64_t rejected = std::count(losses.begin(), losses.end(), Json());
  EXPECT_EQ(info.state, state_of(search["state"]));
  EXPECT_EQ(info.num_rejected, rejected);
  EXPECT_EQ(info.num_evaluated, static_cast<int64_t>(losses.size()) - 1 - rejected);
  EXPECT_EQ(info.num_handed_out, 0);
  EXPECT_EQ(info.baseline_loss, losses[0].get<double>());
  ASSERT_EQ(info.num_steps, static_cast<int32_t>(search["steps"].size()));
  for (int32_t i = 0; i < info.num_steps; ++i) {
    const Json &wanted = search["steps"][static_cast<size_t>(i)];
    const ic_search_step step = handle.step(i);
    EXPECT_EQ(step.layer, wanted["layer"].get<int32_t>());
    EXPECT_EQ(step.loss, wanted["loss"].get<double>());
    EXPECT_EQ(step.num_full, wanted["num_full"].get<int32_t>());
    EXPECT_EQ(handle.step_pattern(i), wanted["pattern"].get<std::string>());
    EXPECT_EQ(handle.pattern_of(step.id), wanted["pattern"].get<std::string>());
  }
  const Json last = search["steps"].empty() ? search["patterns"][0] : search["steps"].back()["pattern"];
  EXPECT_EQ(handle.accepted(), last.get<std::string>());
  EXPECT_EQ(info.accepted_loss, search["steps"].empty() ? info.baseline_loss : handle.step(info.num_steps - 1).loss);
}

/// One worker gets the candidates by id.
TEST(SearchVectors, Searches) {
  ASSERT_GE(vectors()["searches"].size(), 12u);
  for (const Json &search : vectors()["searches"]) {
    SCOPED_TRACE(search["about"].get<std::string>());
    const Desc desc(search["desc"]);
    const SearchHandle handle(desc.get());
    for (size_t id = 0; id < search["patterns"].size(); ++id) {
      const ic_search_candidate candidate = handle.next();
      ASSERT_EQ(candidate.id, static_cast<int64_t>(id));
      ASSERT_EQ(handle.pattern_of(candidate.id), search["patterns"][id].get<std::string>());
      const Json &loss = search["losses"][id];
      handle.answer(candidate.id, [&](const std::string &) {
        return loss.is_null() ? std::nullopt : std::optional<double>(loss.get<double>());
      });
    }
    EXPECT_EQ(handle.next().id, -1);
    expect_end(search, handle);
  }
}

/// The same by three workers in any order, then from its journal, which has been cut somewhere.
TEST(SearchVectors, SearchesByWorkersAndResumed) {
  for (const Json &search : vectors()["searches"]) {
    SCOPED_TRACE(search["about"].get<std::string>());
    std::map<std::string, std::optional<double>> table;
    for (size_t id = 0; id < search["patterns"].size(); ++id) {
      const Json &loss = search["losses"][id];
      table[search["patterns"][id]] = loss.is_null() ? std::nullopt : std::optional<double>(loss.get<double>());
    }
    const Loss loss = [&](const std::string &pattern) { return table.at(pattern); };
    Desc desc(search["desc"]);
    const SearchHandle handle(desc.get());
    handle.run(loss, 3, 1);
    expect_end(search, handle);
    const std::string journal = handle.journal();
    desc.set_journal(journal.substr(0, journal.size() * 2 / 3));
    const SearchHandle resumed(desc.get());
    resumed.run(loss, 2, 2);
    expect_end(search, resumed);
  }
}

TEST(SearchVectors, Refused) {
  ASSERT_GE(vectors()["refused"].size(), 8u);
  const std::map<std::string, ic_status> statuses = {{"IC_ERROR_INVALID_ARGUMENT", IC_ERROR_INVALID_ARGUMENT},
                                                     {"IC_ERROR_PARSE", IC_ERROR_PARSE},
                                                     {"IC_ERROR_SCHEDULE_INVALID", IC_ERROR_SCHEDULE_INVALID},
                                                     {"IC_ERROR_JOURNAL", IC_ERROR_JOURNAL}};
  for (const Json &wrong : vectors()["refused"]) {
    const Desc desc(wrong["desc"]);
    ic_search *search = nullptr;
    EXPECT_EQ(ic_search_create(&desc.get(), &search), statuses.at(wrong["status"])) << wrong;
    EXPECT_EQ(search, nullptr);
    EXPECT_NE(SearchHandle::last_message().find(wrong["message"].get<std::string>()), std::string::npos)
        << SearchHandle::last_message();
  }
}

}  // namespace
}  // namespace ic::test

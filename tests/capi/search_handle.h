// SPDX-License-Identifier: Apache-2.0
// A search through the C API, for tests: texts as strings, and a run to the end.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "indexcache.h"

namespace ic::test {

/// The loss of a pattern; nullopt: it cannot run.
using Loss = std::function<std::optional<double>(const std::string &)>;

class SearchHandle {
 public:
  explicit SearchHandle(const ic_search_desc &desc) {
    ic_search *search = nullptr;
    EXPECT_EQ(ic_search_create(&desc, &search), IC_OK) << last_message();
    search_.reset(search);
  }

  ic_search *get() const { return search_.get(); }

  static std::string last_message() {
    char text[800];
    ic_last_error(text, sizeof text);
    return text;
  }

  static std::string text(const std::function<ic_status(char *, size_t *)> &function) {
    size_t size = 0;
    EXPECT_EQ(function(nullptr, &size), IC_ERROR_BUFFER_TOO_SMALL);
    std::string buffer(size, '?');
    EXPECT_EQ(function(buffer.data(), &size), IC_OK) << last_message();
    EXPECT_EQ(buffer.back(), '\0');
    buffer.pop_back();
    return buffer;
  }

  ic_search_candidate next() const {
    ic_search_candidate candidate = IC_SEARCH_CANDIDATE_INIT;
    EXPECT_EQ(ic_search_next(get(), &candidate), IC_OK) << last_message();
    return candidate;
  }
  std::string pattern_of(int64_t id) const {
    return text([&](char *buffer, size_t *size) { return ic_search_candidate_pattern(get(), id, buffer, size); });
  }
  std::string accepted() const {
    return text([&](char *buffer, size_t *size) { return ic_search_accepted(get(), buffer, size); });
  }
  std::string journal(int64_t from = 0) const {
    return text([&](char *buffer, size_t *size) { return ic_search_journal(get(), from, buffer, size); });
  }
  std::string step_pattern(int32_t step) const {
    return text([&](char *buffer, size_t *size) { return ic_search_step_pattern(get(), step, buffer, size); });
  }
  ic_search_step step(int32_t step) const {
    ic_search_step info = IC_SEARCH_STEP_INIT;
    EXPECT_EQ(ic_search_get_step(get(), step, &info), IC_OK) << last_message();
    return info;
  }
  ic_search_info info() const {
    ic_search_info info = IC_SEARCH_INFO_INIT;
    EXPECT_EQ(ic_search_get_info(get(), &info), IC_OK) << last_message();
    return info;
  }

  void answer(int64_t id, const Loss &loss) const {
    const std::optional<double> value = loss(pattern_of(id));
    EXPECT_EQ(value ? ic_search_tell(get(), id, *value) : ic_search_reject(get(), id), IC_OK) << last_message();
  }

  /// To the end: `workers` candidates at a time, answered in random order, and now and then one is given back.
  void run(const Loss &loss, size_t workers = 1, uint32_t seed = 0) const {
    std::mt19937 random(seed);
    std::vector<int64_t> at_work;
    for (;;) {
      while (at_work.size() < workers) {
        const ic_search_candidate candidate = next();
        if (candidate.id < 0) break;
        at_work.push_back(candidate.id);
      }
      if (at_work.empty()) return;
      const size_t chosen = random() % at_work.size();
      const int64_t id = at_work[chosen];
      at_work.erase(at_work.begin() + static_cast<std::ptrdiff_t>(chosen));
      if (workers > 1 && random() % 8 == 0) {
        EXPECT_EQ(ic_search_release(get(), id), IC_OK) << last_message();
      } else {
        answer(id, loss);
      }
    }
  }

 private:
  struct Destroy {
    void operator()(ic_search *search) const { ic_search_destroy(search); }
  };
  std::unique_ptr<ic_search, Destroy> search_;
};

}  // namespace ic::test

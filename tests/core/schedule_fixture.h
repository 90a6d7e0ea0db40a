// SPDX-License-Identifier: Apache-2.0
// What the schedule tests share: published configs and patterns, and a check of refusals.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/failure.h"
#include "core/schedule.h"

namespace ic::test {

// The patterns that the paper prints (arXiv 2603.12201, Appendix B), 30B and GLM-5.
inline constexpr char k30bHalf[] = "FSFSFSSSSFSFFFFSFFSSFFSFFFSSFFSSFSSSSFSFFFSFSSF";
inline constexpr char k30bQuarter[] = "FSFSFSSSSFSSSFSSFFSSFSSFSSSSFSSSFSSSSFSSSSSSSSS";
inline constexpr char k30bEighth[] = "FSSSFSSSSSSSSFSSSFSSSSSFSSSSFSSSSSSSSFSSSSSSSSS";
inline constexpr char kGlm5Half[] = "FFSFSSSFSSFFFSSSFFFSFSSSSSSFFSFFSFFSSFFFFFFSFFFFFSFFSSSSSSFSFFFSFSSSFSFFSFFSSS";
inline constexpr char kGlm5Quarter[] = "FFSFSSSFSSFSFSSSSSSSFSSSSSSFSSSFSFSSSSFFFFFSSSFFSSSFSSSSSSSSFSSSFSSSSSSFSFSSSS";

inline std::string read_vector(const std::string &name) {
  std::ifstream file(std::string(INDEXCACHE_TEST_DIR "/vectors/") + name);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline Schedule from_pattern(std::string_view pattern) {
  ScheduleRequest request;
  request.num_layers = static_cast<int32_t>(pattern.size());
  request.override.pattern = pattern;
  return resolve_schedule(request);
}

inline Schedule from_period(int32_t num_layers, int64_t freq, int64_t offset) {
  ScheduleRequest request;
  request.num_layers = num_layers;
  request.override.freq = freq;
  request.override.offset = offset;
  return resolve_schedule(request);
}

inline Schedule from_config(std::string_view text) {
  ScheduleRequest request;
  request.config_json = text;
  return resolve_schedule(request);
}

/// Full layers of the stack.
inline std::vector<int> full_layers(const Schedule &schedule) {
  std::vector<int> layers;
  for (int i = 0; i < schedule.num_layers(); ++i) {
    if (schedule.mode(GlobalLayer{i}) == LayerMode::kFull) layers.push_back(i);
  }
  return layers;
}

/// Resolving fails with this status and a message that has all these words.
inline void expect_refused(const ScheduleRequest &request, ic_status status,
                           std::initializer_list<std::string_view> words) {
  try {
    const Schedule schedule = resolve_schedule(request);
    ADD_FAILURE() << "not refused: " << schedule.pattern();
  } catch (const Failure &failure) {
    EXPECT_EQ(failure.status(), status) << failure.text();
    for (const std::string_view word : words) {
      EXPECT_NE(std::string_view(failure.text()).find(word), std::string_view::npos)
          << "no \"" << word << "\" in: " << failure.text();
    }
  }
}

inline void expect_config_refused(std::string_view text, ic_status status,
                                  std::initializer_list<std::string_view> words) {
  ScheduleRequest request;
  request.config_json = text;
  expect_refused(request, status, words);
}

}  // namespace ic::test

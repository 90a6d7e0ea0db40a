// SPDX-License-Identifier: Apache-2.0
// The five schedules that are compared: every layer Full, and fewer and fewer of them.
#pragma once

namespace tiny_lm {

struct NamedSchedule {
  const char *name;
  const char *pattern;
};

/// uniform_1_n: freq n, offset 2. searched_1_2: found by a search for the least loss.
inline constexpr NamedSchedule kSchedules[] = {
    {"all_full", "FFFFFFFFFFFFFFFF"},    {"searched_1_2", "FSFSFSSFSFFFFSSS"}, {"uniform_1_2", "FFSFSFSFSFSFSFSF"},
    {"uniform_1_4", "FFSSSFSSSFSSSFSS"}, {"uniform_1_8", "FFSSSSSSSFSSSSSS"},
};

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// The journal's lines: the first says which search it is, each of the others is one answer.
//     {"indexcache_search":1,"num_layers":16,"strategy":"greedy", ... }
//     {"tell":0,"loss":2.0625}
//     {"reject":3}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/search_plan.h"

namespace ic {

struct JournalAnswer {
  int64_t id = 0;
  std::optional<double> loss;  // nullopt: rejected
};

/// The first line, with its newline: the format's version and every field that decides the search.
std::string journal_header(const SearchPlan &plan);

/// The line of an answer, with its newline.
std::string journal_line(const JournalAnswer &answer);

/// Bytes up to the last newline: what follows was cut while it was written.
size_t complete_bytes(std::string_view journal) noexcept;

/// Fails with IC_ERROR_JOURNAL and the first field that differs when a journal's first line is not `header`, or, where
/// that line is cut, when it does not begin like it.
void require_header(std::string_view journal, const std::string &header);

/// Reads the line of an answer; `number` counts lines from 1. Fails with IC_ERROR_PARSE.
JournalAnswer read_journal_line(std::string_view line, int64_t number);

}  // namespace ic

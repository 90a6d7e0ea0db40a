// SPDX-License-Identifier: Apache-2.0
#include "core/search_journal.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/failure.h"
#include "core/search_line.h"
#include "core/sha256.h"

namespace ic {
namespace {

constexpr int64_t kVersion = 1;
constexpr char kMagic[] = "indexcache_search";

void add(std::string *line, const char *name, const std::string &value) {
  *line += line->empty() ? "{\"" : ",\"";
  *line += name;
  *line += "\":";
  *line += value;
}

std::string quoted(const std::string &text) { return "\"" + text + "\""; }

/// The entries that are read, row by row, as little-endian doubles.
std::string similarity_digest(const SearchPlan &plan) {
  std::string bytes;
  const size_t layers = plan.start.size();
  for (size_t i = 0; i < layers; ++i) {
    for (size_t j = 0; j < i; ++j) {
      char entry[sizeof(double)];
      std::memcpy(entry, &plan.similarity[i * layers + j], sizeof entry);
      bytes.append(entry, sizeof entry);
    }
  }
  std::string hex;
  for (const uint8_t byte : sha256(bytes)) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

/// For messages: patterns can be long.
std::string shortened(const std::string &value) {
  constexpr size_t kLongest = 60;
  return value.size() <= kLongest ? value : value.substr(0, kLongest - 3) + "...";
}

}  // namespace

std::string journal_header(const SearchPlan &plan) {
  std::string layers = "[";
  for (const int32_t layer : plan.keep_full) layers += (layers.size() > 1 ? "," : "") + std::to_string(layer);
  layers += "]";
  std::string line;
  add(&line, kMagic, std::to_string(kVersion));
  add(&line, "num_layers", std::to_string(plan.num_layers()));
  add(&line, "strategy", quoted(strategy_name(plan.strategy)));
  add(&line, "start", quoted(plan.start));
  add(&line, "keep_full", layers);
  add(&line, "num_full", std::to_string(plan.num_full));
  add(&line, "max_full", std::to_string(plan.max_full));
  add(&line, "num_blocks", std::to_string(plan.num_blocks));
  add(&line, "loss_budget", number_text(plan.loss_budget));
  add(&line, "similarity", plan.similarity.empty() ? "null" : quoted("sha256:" + similarity_digest(plan)));
  add(&line, "num_samples", std::to_string(plan.num_samples));
  add(&line, "seed", std::to_string(plan.seed));
  return line + "}\n";
}

std::string journal_line(const JournalAnswer &answer) {
  std::string line;
  add(&line, answer.loss ? "tell" : "reject", std::to_string(answer.id));
  if (answer.loss) add(&line, "loss", number_text(*answer.loss));
  return line + "}\n";
}

size_t complete_bytes(std::string_view journal) noexcept {
  const size_t last = journal.rfind('\n');
  return last == std::string_view::npos ? 0 : last + 1;
}

void require_header(std::string_view journal, const std::string &header) {
  const size_t end = journal.find('\n');
  if (end == std::string_view::npos) {
    if (header.starts_with(journal)) return;
    fail(IC_ERROR_JOURNAL,
         "journal has no complete line, and its %zu bytes are not those that the journal of this desc begins with",
         journal.size());
  }
  const std::vector<LineMember> given = parse_line(journal.substr(0, end), 1);
  const std::vector<LineMember> wanted = parse_line(header, 1);
  if (given.empty() || given[0].name != kMagic) {
    fail(IC_ERROR_PARSE, "journal line 1 does not begin with the member %s: no journal of a search", kMagic);
  }
  if (given[0].value != wanted[0].value) {
    fail(IC_ERROR_UNSUPPORTED, "journal line 1: format %s; this library reads %s", shortened(given[0].value).c_str(),
         wanted[0].value.c_str());
  }
  for (size_t i = 1; i < std::max(given.size(), wanted.size()); ++i) {
    if (i >= given.size() || i >= wanted.size() || given[i].name != wanted[i].name) {
      const std::string name = i < given.size() ? shortened(given[i].name) : "its end";
      fail(IC_ERROR_PARSE, "journal line 1 has %s where %s is expected", name.c_str(),
           i < wanted.size() ? wanted[i].name.c_str() : "its end");
    }
    if (given[i].value != wanted[i].value) {
      fail(IC_ERROR_JOURNAL, "journal has %s %s; the desc has %s", given[i].name.c_str(),
           shortened(given[i].value).c_str(), shortened(wanted[i].value).c_str());
    }
  }
}

JournalAnswer read_journal_line(std::string_view line, int64_t number) {
  const std::vector<LineMember> members = parse_line(line, number);
  const bool told = members.size() == 2 && members[0].name == "tell" && members[1].name == "loss";
  const bool rejected = members.size() == 1 && members[0].name == "reject";
  if ((!told && !rejected) || !members[0].is_integer || (told && !members[1].is_number)) {
    fail(IC_ERROR_PARSE, "journal line %lld is %s; allowed: {\"tell\":ID,\"loss\":NUMBER} or {\"reject\":ID}",
         static_cast<long long>(number), shortened(std::string(line)).c_str());
  }
  JournalAnswer answer;
  answer.id = members[0].integer;
  if (told) answer.loss = members[1].number;
  return answer;
}

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// Pattern and period, checked and expanded.
#include "core/schedule_pattern.h"

#include <algorithm>

#include "core/failure.h"

namespace ic {
namespace {

void check_letter(char letter, int32_t layer, const char *origin) {
  if (letter == 'F' || letter == 'S') return;
  const bool printable = letter > ' ' && letter <= '~';
  if (printable) {
    fail(IC_ERROR_PARSE, "%s: pattern has '%c' at layer %d; allowed: F, S", origin, letter, layer);
  }
  fail(IC_ERROR_PARSE, "%s: pattern has byte 0x%02x at layer %d; allowed: F, S", origin,
       static_cast<unsigned>(static_cast<unsigned char>(letter)), layer);
}

void check_first(std::string_view letters, const SparseLayers &sparse, const char *origin) {
  if (letters.front() == 'F') return;
  fail(IC_ERROR_SCHEDULE_INVALID,
       "%s: pattern makes layer %d Shared; it is the first layer with an indexer and has nothing to reuse; allowed: F",
       origin, raw(sparse.front()));
}

}  // namespace

std::string letters_from_freq(int64_t freq, int64_t offset, const SparseLayers &sparse, const char *origin) {
  if (freq < 1) {
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: freq is %lld; allowed: 1 and more", origin, static_cast<long long>(freq));
  }
  if (offset < 1) {
    fail(IC_ERROR_INVALID_ARGUMENT,
         "%s: offset is %lld; allowed: 1 and more (a smaller one makes layer %d Shared with nothing to reuse)", origin,
         static_cast<long long>(offset), raw(sparse.front()));
  }
  std::string letters(sparse.size(), 'S');
  for (size_t i = 0; i < letters.size(); ++i) {
    // position >= offset first: position - offset + 1 cannot overflow then, however large the offset is.
    const int64_t position = static_cast<int64_t>(i);
    const int64_t phase = position >= offset ? position - offset + 1 : 0;
    if (phase % freq == 0) letters[i] = 'F';
  }
  return letters;
}

std::string letters_from_pattern(std::string_view pattern, int32_t num_layers, const SparseLayers &sparse,
                                 const char *origin) {
  const size_t all = static_cast<size_t>(num_layers);
  if (pattern.size() != sparse.size() && pattern.size() != all) {
    if (sparse.size() == all) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: pattern has %zu letters; allowed: %zu, one per layer", origin,
           pattern.size(), all);
    }
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: pattern has %zu letters; allowed: %zu, one per layer with an indexer, or %zu",
         origin, pattern.size(), sparse.size(), all);
  }
  std::string letters;
  if (pattern.size() == sparse.size()) {
    for (size_t i = 0; i < pattern.size(); ++i) check_letter(pattern[i], raw(sparse[i]), origin);
    letters = pattern;
  } else {
    size_t next = 0;
    for (size_t i = 0; i < pattern.size(); ++i) {
      const int32_t layer = static_cast<int32_t>(i);
      check_letter(pattern[i], layer, origin);
      if (next < sparse.size() && raw(sparse[next]) == layer) {
        letters += pattern[i];
        ++next;
      } else if (pattern[i] == 'S') {
        fail(IC_ERROR_SCHEDULE_INVALID, "%s: pattern has S at layer %d, which has no indexed attention; allowed: F",
             origin, layer);
      }
    }
  }
  check_first(letters, sparse, origin);
  return letters;
}

int32_t first_difference(std::string_view a, std::string_view b) noexcept {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  (void)other;
  return at == a.end() ? -1 : static_cast<int32_t>(at - a.begin());
}

}  // namespace ic

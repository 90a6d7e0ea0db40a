// SPDX-License-Identifier: Apache-2.0
// One line of a search's journal: a JSON object of scalars and of lists of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ic {

struct LineMember {
  std::string name;
  std::string value;  // as this library writes it: equal values have equal texts
  bool is_number = false;
  bool is_integer = false;  // and fits into int64_t
  int64_t integer = 0;
  double number = 0;
};

/// Members in the order of the line. `number` counts lines from 1, for messages. Fails with IC_ERROR_PARSE.
std::vector<LineMember> parse_line(std::string_view line, int64_t number);

/// The shortest decimal number that reads back as the same double.
std::string number_text(double value);

}  // namespace ic

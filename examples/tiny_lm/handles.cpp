// SPDX-License-Identifier: Apache-2.0
// Statuses of the library as messages and exceptions.
#include "handles.h"

namespace tiny_lm {

std::string last_message() {
  std::string text(ic_last_error(nullptr, 0) + 1, '\0');
  text.resize(ic_last_error(text.data(), text.size()));
  return text;
}

void check(ic_status status, ExitStatus exit_status) {
  if (status != IC_OK) throw Error(exit_status, last_message() + " (" + ic_status_string(status) + ")");
}

}  // namespace tiny_lm

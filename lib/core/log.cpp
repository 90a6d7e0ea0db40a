// SPDX-License-Identifier: Apache-2.0
// Delivery of log messages.
#include <cstdarg>
#include <cstdio>

#include "core/context.h"

namespace ic {

void Log::write(int32_t level, const char *format, ...) const noexcept {
  if (level > level_) return;
  char text[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (fn_ != nullptr) {
    fn_(user_, level, text);
  } else {
    std::fprintf(stderr, "indexcache: %s\n", text);
  }
}

}  // namespace ic

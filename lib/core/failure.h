// SPDX-License-Identifier: Apache-2.0
// How code inside the library reports an error: a status and a text, thrown; the C boundary turns it into a status
// code.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>

#include "indexcache.h"

namespace ic {

/// Carries its text in place, so that reporting an error allocates nothing on the heap of its own.
class Failure {
 public:
  Failure(ic_status status, const char *format, va_list args) noexcept : status_(status) {
    std::vsnprintf(text_, sizeof text_, format, args);
  }
  ic_status status() const noexcept { return status_; }
  const char *text() const noexcept { return text_; }

 private:
  ic_status status_;
  char text_[764];
};

[[noreturn]] inline __attribute__((format(printf, 2, 3))) void fail(ic_status status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  Failure failure(status, format, args);
  va_end(args);
  throw failure;
}

}  // namespace ic

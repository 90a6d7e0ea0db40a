// SPDX-License-Identifier: Apache-2.0
// What goes wrong for a user of this program: a message and the exit status that stands for its kind.
#pragma once

#include <stdexcept>
#include <string>

namespace tiny_lm {

/// Exit statuses; --help lists them.
enum ExitStatus : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,
  kExitFile = 3,
  kExitPattern = 4,
  kExitLength = 5,
  kExitBackend = 6,
};

class Error : public std::runtime_error {
 public:
  Error(ExitStatus status, const std::string &message) : std::runtime_error(message), status_(status) {}
  ExitStatus status() const { return status_; }

 private:
  ExitStatus status_;
};

}  // namespace tiny_lm

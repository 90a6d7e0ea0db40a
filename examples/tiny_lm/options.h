// SPDX-License-Identifier: Apache-2.0
// The command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tiny_lm {

struct Options {
  std::optional<std::string> pattern;  ///< none: the five named schedules
  std::optional<std::string> text;     ///< none: the model's own text and recall rows
  std::optional<int> rows;             ///< none: all windows
  int threads = 0;                     ///< 0: as many as the machine has
  std::string model;                   ///< folder of the checkpoint
  bool json = false;
  bool list = false;
  bool help = false;
};

/// Throws Error: kExitUsage, or kExitBackend for a backend that this program cannot run on.
Options parse_options(const std::vector<std::string> &arguments);

/// Text of --help.
extern const char *const kHelp;

}  // namespace tiny_lm

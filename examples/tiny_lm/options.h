// SPDX-License-Identifier: Apache-2.0
// The command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device.h"

namespace tiny_lm {

struct Options {
  std::optional<std::string> pattern;           ///< none: the five named schedules
  std::optional<std::string> text;              ///< none: the model's own text and recall rows
  std::optional<int> rows;                      ///< the first windows of text; none: as text_rows say
  std::optional<std::vector<int>> text_rows;    ///< windows of text, ascending; none: all
  std::optional<std::vector<int>> recall_rows;  ///< rows of recall.bin, ascending; none: all
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 0;    ///< 0: as many as the machine has
  std::string model;  ///< folder of the checkpoint
  bool json = false;
  bool serve = false;
  bool list = false;
  bool help = false;
};

/// "auto", "cpu" or "cuda". Throws Error (kExitUsage) that names the option.
DeviceChoice parse_device(const std::string &option, const std::string &text);

/// Throws Error (kExitUsage).
Options parse_options(const std::vector<std::string> &arguments);

/// Text of --help.
extern const char *const kHelp;

}  // namespace tiny_lm

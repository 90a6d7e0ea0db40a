// SPDX-License-Identifier: Apache-2.0
// Results for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "evaluate.h"

namespace tiny_lm {

/// What the numbers were measured on.
struct Setting {
  std::string model;
  int threads = 0;
  std::string backend;     ///< "cpu" or "cuda"
  std::string device;      ///< instruction level or compute capability, and name
  std::string device_why;  ///< why this one
};

nlohmann::ordered_json to_json(const Evaluation &result, const Setting &setting);

/// Lines above the table.
void print_header(const Setting &setting, const Corpus &corpus);

/// One line of the table; all_full may be NULL.
void print_row(const char *name, const Evaluation &result, const Evaluation *all_full);

/// Overwrites one line of standard error, when that is a terminal.
void show_progress(const std::string &name, int done, int all);
void clear_progress();

}  // namespace tiny_lm

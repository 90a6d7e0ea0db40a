// SPDX-License-Identifier: Apache-2.0
// The model as an engine that a pattern search asks: one JSON object a line on standard input and output.
#pragma once

#include <iosfwd>

#include "calibration.h"

namespace tiny_lm {

/// Announces the engine, then answers each line of `in` by one line of `out`, flushed, until it is told to quit or `in`
/// ends. What it cannot do is answered, too; it ends nothing. docs/search-protocol.md is its description.
void serve(Calibration *calibration, std::istream &in, std::ostream &out);

}  // namespace tiny_lm

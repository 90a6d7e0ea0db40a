// SPDX-License-Identifier: Apache-2.0
// What every kernel launcher is told about the chip and the caller's limits.
#pragma once

#include <cstdint>

namespace ic::cuda {

/// Filled once when a backend is made: host-static, so that a captured graph and a plain launch have the same shape.
struct LaunchLimits {
  int32_t num_processors;  // streaming multiprocessors
  int32_t max_ctas;        // most thread blocks of one launch; 0 = no limit
};

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
// The preparation kernel of each instruction level.
#pragma once

#include <cstdint>

#include "core/params.h"

namespace ic::cpu {

struct PrepareKernels {
  /// One row: params.num_heads vectors of params.head_dim from x (params.x_dtype, dense) to out (params.dtype, dense).
  /// cosine, sine: the row's entries of the tables, unused when rope_dim is 0. scales: where the e4m3 scales go, 4
  /// bytes per vector of any alignment.
  void (*row)(const PrepareParams &params, const void *x, const float *cosine, const float *sine, uint8_t *out,
              uint8_t *scales);
};

extern const PrepareKernels kPrepareKernelsPortable;
#if defined(__x86_64__)
extern const PrepareKernels kPrepareKernelsAvx2;
extern const PrepareKernels kPrepareKernelsAvx512;
#endif

}  // namespace ic::cpu

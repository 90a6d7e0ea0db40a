// SPDX-License-Identifier: Apache-2.0
// The preparation kernel, compiled for AVX2.
#include "cpu/isa/prepare.inl"

namespace ic::cpu {
const PrepareKernels kPrepareKernelsAvx2 = kKernels;
}  // namespace ic::cpu

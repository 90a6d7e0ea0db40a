// SPDX-License-Identifier: Apache-2.0
// The preparation kernel, compiled for AVX-512.
#include "cpu/isa/prepare.inl"

namespace ic::cpu {
const PrepareKernels kPrepareKernelsAvx512 = kKernels;
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// The preparation kernel, plain C++.
#include "cpu/isa/prepare.inl"

namespace ic::cpu {
const PrepareKernels kPrepareKernelsPortable = kKernels;
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Streaming selection in plain C++.
// clang-format off: the level comes first
#include "cpu/isa/simd_portable.h"

#include "cpu/isa/select.inl"
// clang-format on

namespace ic::cpu {

const SelectKernels kSelectPortable = {push, reduce};

}  // namespace ic::cpu

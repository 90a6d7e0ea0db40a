// SPDX-License-Identifier: Apache-2.0
// Streaming selection for AVX2.
// clang-format off: the level comes first
#include "cpu/isa/simd_avx2.h"

#include "cpu/isa/select.inl"
// clang-format on

namespace ic::cpu {

const SelectKernels kSelectAvx2 = {push, reduce};

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Streaming selection for AVX-512.
// clang-format off: the level comes first
#include "cpu/isa/simd_avx512.h"

#include "cpu/isa/select.inl"
// clang-format on

namespace ic::cpu {

const SelectKernels kSelectAvx512 = {push, reduce};

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Sparse attention, compiled for AVX-512.
#include "cpu/isa/simd_avx512.h"

namespace ic::cpu {
namespace {
// 24 accumulators, 2 key vectors and a broadcast in 32 registers.
constexpr int kTileHeads = 12;
constexpr int kTileVectors = 2;
}  // namespace
}  // namespace ic::cpu

#include "cpu/isa/attend.inl"
#include "cpu/isa/attention_mass.inl"

namespace ic::cpu {
const AttendKernels kAttendKernelsAvx512 = {attend_row, attention_mass_row};
}  // namespace ic::cpu

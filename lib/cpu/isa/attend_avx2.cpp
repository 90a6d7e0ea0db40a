// SPDX-License-Identifier: Apache-2.0
// Sparse attention, compiled for AVX2.
#include "cpu/isa/simd_avx2.h"

namespace ic::cpu {
namespace {
// 12 accumulators, a key vector (2) and a broadcast in 16 registers.
constexpr int kTileHeads = 6;
constexpr int kTileVectors = 1;
}  // namespace
}  // namespace ic::cpu

#include "cpu/isa/attend.inl"
#include "cpu/isa/attention_mass.inl"

namespace ic::cpu {
const AttendKernels kAttendKernelsAvx2 = {attend_row, attention_mass_row};
}  // namespace ic::cpu

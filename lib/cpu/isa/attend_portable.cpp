// SPDX-License-Identifier: Apache-2.0
// Sparse attention, plain C++.
#include "cpu/isa/simd_portable.h"

namespace ic::cpu {
namespace {
// Small: without FMA hardware registers do not matter, on aarch64 a vector takes four of 32.
constexpr int kTileHeads = 4;
constexpr int kTileVectors = 1;
}  // namespace
}  // namespace ic::cpu

#include "cpu/isa/attend.inl"
#include "cpu/isa/attention_mass.inl"

namespace ic::cpu {
const AttendKernels kAttendKernelsPortable = {attend_row, attention_mass_row};
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// What a CPU operation runs on: an instruction level and a set of workers.
#pragma once

#include <cstdint>

namespace ic::cpu {

class Workers;

/// Instruction levels; the values are those of IC_CPU_ISA_*. Every level gives the same bits.
enum class Isa : int32_t {
  kPortable = 1,  // plain C++, std::fma; runs without FMA hardware
  kAvx2 = 2,      // AVX2 + FMA + F16C
  kAvx512 = 3,    // AVX-512 F, BW, DQ, VL
};

/// Borrowed by every operation; copied freely. `workers` outlives all calls that use it.
struct Executor {
  Isa isa;
  Workers *workers;
};

/// True when this build contains the level and this processor and operating system run it.
bool isa_available(Isa isa) noexcept;

/// The highest available level.
Isa best_isa() noexcept;

/// "portable", "avx2" or "avx512".
const char *isa_name(Isa isa) noexcept;

}  // namespace ic::cpu

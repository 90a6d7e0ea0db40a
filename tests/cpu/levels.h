// SPDX-License-Identifier: Apache-2.0
// Instruction levels as test parameters: those that this machine runs, with names that a filter can select.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cpu/executor.h"

namespace ic::cpu {

inline std::vector<Isa> available_levels() {
  std::vector<Isa> levels;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_available(isa)) levels.push_back(isa);
  }
  return levels;
}

/// "Portable", "Avx2" or "Avx512".
inline std::string level_name(const testing::TestParamInfo<Isa> &info) {
  std::string name = isa_name(info.param);
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name;
}

}  // namespace ic::cpu

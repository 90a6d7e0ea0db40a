// SPDX-License-Identifier: Apache-2.0
// The two ways to say which layers are Full, each turned into one letter per layer with sparse attention.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/schedule_layers.h"

namespace ic {

/// The layers that a pattern counts, in order: their global ids.
using SparseLayers = std::vector<GlobalLayer>;

/// Full iff max(position - offset + 1, 0) % freq == 0. `origin` names the input in messages, e.g. "config.json".
std::string letters_from_freq(int64_t freq, int64_t offset, const SparseLayers &sparse, const char *origin);

/// Checks letters and length. A pattern over all num_layers is taken too when only some layers are sparse: the letters
/// of the others must be F, since nothing can be reused there.
std::string letters_from_pattern(std::string_view pattern, int32_t num_layers, const SparseLayers &sparse,
                                 const char *origin);

/// First position where two strings of one length differ; -1 where they do not.
int32_t first_difference(std::string_view a, std::string_view b) noexcept;

}  // namespace ic

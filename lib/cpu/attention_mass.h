// SPDX-License-Identifier: Apache-2.0
// How much of its attention a row gives to every entry of its index list.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

/// Bytes of workspace for attention_mass() with rows of up to num_indices indices.
size_t attention_mass_workspace_size(const Executor &executor, int32_t num_heads, int32_t d_latent, int32_t d_rope,
                                     int32_t num_indices);

/// Mean over the heads of each entry's softmax weight, with the scores, denominators and sinks of attend(), whose rules
/// say what is skipped: 0 for that, for what lies behind the length, and for all of an illegal row.
///
/// A key's bits depend on the row's query, its keys in list order and the sink alone: not on skipped entries, batch,
/// paging, threads or instruction level.
void attention_mass(const Executor &executor, const AttentionMassParams &params);

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Index scores into a caller's matrix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

/// Bytes for scores(), whatever the number of rows and keys. A multiple of 256.
size_t scores_workspace_size(const Executor &executor, int32_t num_heads, int32_t head_dim);

/// Writes the score of every visible key inside the window [first_column, first_column + num_columns); with `clean`,
/// -inf into all other columns of the window. The bits are those that score_select() selects from.
void scores(const Executor &executor, const ScoresParams &params);

}  // namespace ic::cpu

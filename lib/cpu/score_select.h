// SPDX-License-Identifier: Apache-2.0
// Score and select in one pass: what a Full layer runs. No score matrix exists; a tile of scores lives in the
// workspace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

/// Bytes for score_select() with up to these many rows and keys. A multiple of 256.
size_t score_select_workspace_size(const Executor &executor, int32_t max_rows, int32_t max_key_end, int32_t num_heads,
                                   int32_t head_dim, int32_t k);

/// Writes the k best visible keys of every row by (score descending, position ascending).
void score_select(const Executor &executor, const ScoreSelectParams &params);

}  // namespace ic::cpu

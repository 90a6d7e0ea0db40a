// SPDX-License-Identifier: Apache-2.0
// Selection from a score matrix, and from the selections of several parts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

/// Bytes for select() with up to these many rows and columns. A multiple of 256.
size_t select_workspace_size(const Executor &executor, int32_t max_rows, int32_t max_end, int32_t k);

/// Writes the k best columns of every row by (score descending, column ascending). NaN counts as -inf, -0 as +0.
void select(const Executor &executor, const SelectParams &params);

/// Bytes for merge() with up to these many rows and parts. A multiple of 256.
size_t merge_workspace_size(const Executor &executor, int32_t max_rows, int32_t max_parts, int32_t k);

/// The k best of all parts by the same rule. Parts hold disjoint positions, at most k each, in any order; negative
/// positions are ignored and lengths are clamped to [0, k].
void merge(const Executor &executor, const MergeParams &params);

}  // namespace ic::cpu

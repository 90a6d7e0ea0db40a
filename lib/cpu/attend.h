// SPDX-License-Identifier: Apache-2.0
// Sparse multi-head latent attention over selected keys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

struct AttendKernels;

/// Bytes of workspace for attend() with rows of up to num_indices indices.
size_t attend_workspace_size(const Executor &executor, int32_t num_heads, int32_t d_latent, int32_t d_rope,
                             int32_t num_indices);

/// Attention of every row of params over its index list.
///
/// Skipped indices: -1; a position beyond the block table or on page -1; with IC_FAULT_PAGE one below -1, one on an
/// illegal page or a vector outside a contiguous pool; with IC_FAULT_SLOT an illegal slot. Slots do not read the row's
/// sequence; with positions a sequence out of range makes the row empty (IC_FAULT_SEQUENCE), as does, for both, a
/// length above num_indices (IC_FAULT_KEY_END). A row without keys gives zeros and LSE -inf.
///
/// A row's bits depend on its query, its keys in list order and the sink alone: not on skipped entries, batch, paging,
/// threads or instruction level.
void attend(const Executor &executor, const AttendParams &params);

/// The kernels of a level that this machine runs.
const AttendKernels &attend_kernels(Isa isa);

}  // namespace ic::cpu

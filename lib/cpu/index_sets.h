// SPDX-License-Identifier: Apache-2.0
// Operations on published index sets: stamps, moving rows, slots, comparison.
#pragma once

#include "core/params.h"
#include "cpu/executor.h"

namespace ic::cpu {

void stamp(const StampParams &params);
void check_stamps(const CheckStampsParams &params);
void gather_rows(const Executor &executor, const GatherRowsParams &params);
void export_rows(const Executor &executor, const ExportParams &params);
/// The block has been checked.
void import_rows(const Executor &executor, const ImportParams &params);
void remap(const Executor &executor, const RemapParams &params);
void overlap(const Executor &executor, const OverlapParams &params);

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Host entries of the operations on published index sets.
#pragma once

#include <cuda_runtime_api.h>

#include "core/params.h"
#include "kernels/launch.h"

namespace ic::cuda {

cudaError_t load_index_sets();
cudaError_t launch_stamp(const StampParams &params, const LaunchLimits &limits, cudaStream_t stream);
cudaError_t launch_check_stamps(const CheckStampsParams &params, const LaunchLimits &limits, cudaStream_t stream);
cudaError_t launch_gather_rows(const GatherRowsParams &params, const LaunchLimits &limits, cudaStream_t stream);
cudaError_t launch_remap(const RemapParams &params, const LaunchLimits &limits, cudaStream_t stream);

cudaError_t load_overlap();
cudaError_t launch_overlap(const OverlapParams &params, const LaunchLimits &limits, cudaStream_t stream);

cudaError_t load_transport();
/// params.block is an address that the device can write to.
cudaError_t launch_export_rows(const ExportParams &params, const LaunchLimits &limits, cudaStream_t stream);
/// Behind the copies of a block's lists into params.indices, lengths and scores: params.body is not read. Checks the
/// lists and fills what lies behind them.
cudaError_t launch_check_imported(const ImportParams &params, const LaunchLimits &limits, cudaStream_t stream);

// What a context that checks values asks beyond the kernels' own faults.
cudaError_t load_check_values();
/// Faults of rows: what row_range() reports, and a negative begin as IC_FAULT_KEY_END.
cudaError_t launch_check_rows(const RowsView &rows, const LaunchLimits &limits, cudaStream_t stream);
/// IC_FAULT_INDEX for a length outside [0, longest].
cudaError_t launch_check_lengths(const int32_t *lengths, int64_t count, int32_t longest, uint32_t *fault,
                                 const LaunchLimits &limits, cudaStream_t stream);
/// *word |= bits.
cudaError_t launch_raise(uint32_t *word, uint32_t bits, cudaStream_t stream);

}  // namespace ic::cuda

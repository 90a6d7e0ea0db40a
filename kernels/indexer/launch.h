// SPDX-License-Identifier: Apache-2.0
// Host entries of the indexer's kernels. Launchers allocate nothing, set no attribute and return the launch's own code.
#pragma once

#include <cuda_runtime_api.h>

#include "core/params.h"
#include "kernels/launch.h"

namespace ic::cuda {

/// Loads every variant onto the current device and raises its limit of shared memory: before the first launch there.
cudaError_t load_scores_f32();

/// params.query.dtype is IC_DTYPE_F32. No workspace. Bits of fma_chain_id(IC_DTYPE_F32).
cudaError_t launch_scores_f32(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda

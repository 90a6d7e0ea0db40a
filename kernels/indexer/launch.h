// SPDX-License-Identifier: Apache-2.0
// Host entries of the indexer's kernels. Launchers allocate nothing, set no attribute and return the launch's own code;
// load functions run when a backend is made.
#pragma once

#include <cuda_runtime_api.h>

#include "core/params.h"
#include "kernels/launch.h"

namespace ic::cuda {

/// Loads every variant onto the current device and raises its limit of shared memory: before the first launch there.
cudaError_t load_scores_f32();
cudaError_t load_scores_mma();
/// Nothing where its machine code is not loaded.
cudaError_t load_scores_sm90(const LaunchLimits &limits);
cudaError_t load_prepare();
cudaError_t load_write_keys();

/// params.query.dtype is IC_DTYPE_F32. No workspace. Bits of fma_chain_id(IC_DTYPE_F32).
cudaError_t launch_scores_f32(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream);

/// fp16, bf16 and e4m3 on the tensor cores. No workspace. Bits of mma_sync_id(dtype, major).
cudaError_t launch_scores_mma(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream);

/// e4m3 with wgmma, where has_wgmma_scores() of core/numerics.h. No workspace. Bits of wgmma_id(dtype).
cudaError_t launch_scores_sm90(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream);

/// Queries when params.q_out is given, else keys into params.pool.
cudaError_t launch_prepare(const PrepareParams &params, const LaunchLimits &limits, cudaStream_t stream);

cudaError_t launch_write_keys(const WriteKeysParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda

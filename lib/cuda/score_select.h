// SPDX-License-Identifier: Apache-2.0
// What a Full layer runs: scores of a chunk of rows into the workspace, then their selection, chunk after chunk.
#pragma once

#include <cuda_runtime_api.h>

#include "core/backend.h"
#include "kernels/launch.h"

namespace ic::cuda {

/// By dtype: the CUDA cores for fp32, tensor cores for the others.
cudaError_t launch_scores(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream);

size_t score_select_workspace_bytes(const ScoreLimits &limits, const LaunchLimits &launch);
cudaError_t launch_score_select(const ScoreSelectParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda

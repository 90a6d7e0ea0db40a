// SPDX-License-Identifier: Apache-2.0
#include "cuda/score_select.h"

#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/topk/launch.h"

namespace ic::cuda {

cudaError_t launch_scores(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.query.dtype == IC_DTYPE_F32) return launch_scores_f32(params, limits, stream);
  return launch_scores_mma(params, limits, stream);
}

size_t score_select_workspace_bytes(const ScoreLimits &, const LaunchLimits &) { return 0; }
cudaError_t launch_score_select(const ScoreSelectParams &, const LaunchLimits &, cudaStream_t) {
  return cudaErrorNotSupported;
}

}  // namespace ic::cuda

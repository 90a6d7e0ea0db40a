// SPDX-License-Identifier: Apache-2.0
// Hopper's scores for racecheck, see every_lane_arrives.cu.
#pragma once

#include "core/params.h"
#include "kernels/launch.h"

namespace ic::cuda {

cudaError_t load_scores_every_lane(const LaunchLimits &limits);
cudaError_t launch_scores_every_lane(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
// Hopper's scores once more, under other names: where one lane arrives at a barrier for its warp, here all lanes do.
//
// racecheck (2025.3 and 2026.4) orders what a thread did before it arrived, but not what the other lanes of its warp
// did before __syncwarp(): it reports a race in any ring that one lane hands over for its warp. All else is the same
// code, so that what it says here counts there, but for the __syncwarp() in front of an arrival.
#define INDEXCACHE_EVERY_LANE_ARRIVES
#define sm90 sm90_every_lane
#define load_scores_sm90 load_scores_every_lane
#define launch_scores_sm90 launch_scores_every_lane

#include "kernels/indexer/sm90/scores_sm90.cu"

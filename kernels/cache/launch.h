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
cudaError_t launch_overlap(const OverlapParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda

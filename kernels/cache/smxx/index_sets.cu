// SPDX-License-Identifier: Apache-2.0
#include "kernels/cache/launch.h"

namespace ic::cuda {

cudaError_t load_index_sets() { return cudaSuccess; }
cudaError_t launch_stamp(const StampParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t launch_check_stamps(const CheckStampsParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t launch_gather_rows(const GatherRowsParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t launch_remap(const RemapParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t launch_overlap(const OverlapParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }

}  // namespace ic::cuda

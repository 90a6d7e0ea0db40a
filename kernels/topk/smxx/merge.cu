// SPDX-License-Identifier: Apache-2.0
#include "kernels/topk/launch.h"

namespace ic::cuda {

cudaError_t load_merge() { return cudaSuccess; }
size_t merge_workspace_bytes(int32_t, int32_t, int32_t, const LaunchLimits &) { return 0; }
cudaError_t launch_merge(const MergeParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }

}  // namespace ic::cuda

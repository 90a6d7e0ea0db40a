// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/launch.h"

namespace ic::cuda {

cudaError_t load_attend() { return cudaSuccess; }
size_t attend_workspace_bytes(const AttendLimits &, const LaunchLimits &) { return 0; }
cudaError_t launch_attend(const AttendParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }

}  // namespace ic::cuda

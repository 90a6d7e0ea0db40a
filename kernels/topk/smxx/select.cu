// SPDX-License-Identifier: Apache-2.0
#include "kernels/topk/launch.h"

namespace ic::cuda {

cudaError_t load_select() { return cudaSuccess; }
size_t select_workspace_bytes(int32_t, int32_t, int32_t, const LaunchLimits &) { return 0; }
cudaError_t launch_select(const SelectRowsParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
#include "kernels/indexer/launch.h"

namespace ic::cuda {

cudaError_t load_prepare() { return cudaSuccess; }
cudaError_t launch_prepare(const PrepareParams &, const LaunchLimits &, cudaStream_t) { return cudaErrorNotSupported; }

}  // namespace ic::cuda

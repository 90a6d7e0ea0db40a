// SPDX-License-Identifier: Apache-2.0
// What every kernel launcher is told about the chip and the caller's limits.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

namespace ic::cuda {

/// Filled once when a backend is made: host-static, so that a captured graph and a plain launch have the same shape.
struct LaunchLimits {
  int32_t num_processors;      // streaming multiprocessors
  int32_t max_ctas;            // most thread blocks of one launch; 0 = no limit
  int32_t compute_capability;  // 10 * major + minor
  bool sm90a;                  // a Hopper, with the machine code of sm90/ loaded
  // Hopper: clusters of that many thread blocks, one per processor, that run at once. 2, 3, 4 and 8 are filled in.
  int32_t resident_clusters[9] = {};

  /// A grid for `wanted` blocks of a kernel whose blocks walk over its work items with stride gridDim.x.
  unsigned grid(int64_t wanted) const {
    const int64_t most = max_ctas > 0 ? max_ctas : INT32_MAX;
    return static_cast<unsigned>(std::clamp<int64_t>(wanted, 1, most));
  }
};

/// Sets sm90a from the code that was loaded onto the current device, and what it can run; compute_capability is set.
cudaError_t find_sm90a(LaunchLimits *limits);

/// sm_90: whether kernels may start before the one in front of them on the stream has ended, and let the next one start
/// (kernels/ptx/dependent_launch.cuh). Not under a limit of thread blocks, because those of both count.
inline bool start_early(const LaunchLimits &limits) { return limits.max_ctas == 0; }

/// For a kernel that waits for those in front itself.
inline cudaLaunchAttribute dependent_launch(const LaunchLimits &limits) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = start_early(limits) ? 1 : 0;
  return attribute;
}

}  // namespace ic::cuda

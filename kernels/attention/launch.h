// SPDX-License-Identifier: Apache-2.0
// Host entries of sparse MLA attention and of its mass.
#pragma once

#include <cuda_runtime_api.h>

#include "core/backend.h"
#include "core/params.h"
#include "kernels/launch.h"

namespace ic::cuda {

cudaError_t load_attend();
size_t attend_workspace_bytes(const AttendLimits &limits, const LaunchLimits &launch);
cudaError_t launch_attend(const AttendParams &params, const LaunchLimits &limits, cudaStream_t stream);

cudaError_t load_attention_mass();
size_t attention_mass_workspace_bytes(const AttendLimits &limits);
cudaError_t launch_attention_mass(const AttentionMassParams &params, const LaunchLimits &limits, cudaStream_t stream);

}  // namespace ic::cuda

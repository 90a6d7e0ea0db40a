// SPDX-License-Identifier: Apache-2.0
// Which CUDA devices there are and whether one will do.
#pragma once

#include <cstdint>

#include "indexcache.h"

namespace ic::cuda {

/// Oldest compute capability that the kernels are built for, as 10 * major + minor.
inline constexpr int32_t kOldestCapability = 80;

/// What the backend implements: bit n = IC_DTYPE n, and the largest k.
inline constexpr uint32_t kIndexerDtypes =
    1u << IC_DTYPE_F32 | 1u << IC_DTYPE_F16 | 1u << IC_DTYPE_BF16 | 1u << IC_DTYPE_E4M3;
inline constexpr uint32_t kAttentionDtypes = 1u << IC_DTYPE_F32 | 1u << IC_DTYPE_BF16 | 1u << IC_DTYPE_E4M3;
inline constexpr int32_t kMaxK = 4096;

/// CUDA devices, 0 with a driver but no device. Fails with IC_ERROR_CUDA_NO_DRIVER, or IC_ERROR_CUDA when the driver
/// cannot start.
int32_t device_count();

/// Fails with IC_ERROR_CUDA_NO_DRIVER, IC_ERROR_CUDA_NO_DEVICE or IC_ERROR_CUDA_UNSUPPORTED_DEVICE. Creates no CUDA
/// context.
void require_device(int32_t device);

/// 10 * major + minor.
int32_t compute_capability(int32_t device);

}  // namespace ic::cuda

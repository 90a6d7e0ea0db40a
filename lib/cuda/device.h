// SPDX-License-Identifier: Apache-2.0
// Which CUDA devices there are and whether one will do.
#pragma once

#include <cstdint>

namespace ic::cuda {

/// Oldest compute capability that the kernels are built for, as 10 * major + minor.
inline constexpr int32_t kOldestCapability = 80;

/// What the backend implements: bit n = IC_DTYPE n, and the largest k.
uint32_t implemented_indexer_dtypes() noexcept;
inline constexpr uint32_t kImplementedAttentionDtypes = 0;
inline constexpr int32_t kImplementedMaxK = 0;

/// CUDA devices, 0 with a driver but no device. Fails with IC_ERROR_CUDA_NO_DRIVER, or IC_ERROR_CUDA when the driver
/// cannot start.
int32_t device_count();

/// Fails with IC_ERROR_CUDA_NO_DRIVER, IC_ERROR_CUDA_NO_DEVICE or IC_ERROR_CUDA_UNSUPPORTED_DEVICE. Creates no CUDA
/// context.
void require_device(int32_t device);

}  // namespace ic::cuda

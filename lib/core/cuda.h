// SPDX-License-Identifier: Apache-2.0
// The CUDA side of the library as the rest sees it. Defined in lib/cuda/ by a build with CUDA and in lib/cuda_absent/
// by one without.
#pragma once

#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/context.h"
#include "indexcache.h"

namespace ic {

struct CudaOptions {
  int32_t device;
  int32_t max_ctas;  // 0 = no limit
  Allocator allocator;
  bool check_values = false;  // IC_CONTEXT_CHECK_VALUES
};

/// Fails with IC_ERROR_CUDA_NOT_BUILT, _NO_DRIVER, _NO_DEVICE, _UNSUPPORTED_DEVICE or IC_ERROR_CUDA. Every kernel is
/// loaded here.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions &options);

/// Usable devices. Fails with IC_ERROR_CUDA_NOT_BUILT or IC_ERROR_CUDA_NO_DRIVER.
int32_t cuda_device_count();

/// All fields but struct_size. Fails as make_cuda_backend does.
ic_device_caps cuda_device_caps(int32_t device);

/// JSON values for ic_build_info(): the toolkit's version ("13.0") or null, and a list of architectures.
const char *cuda_build_version() noexcept;
const char *cuda_build_archs() noexcept;

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// The CUDA side of a library that was built without CUDA: it says so.
#include "core/cuda.h"
#include "core/failure.h"

namespace ic {
namespace {

[[noreturn]] void refuse() {
  fail(
      IC_ERROR_CUDA_NOT_BUILT,
      "this libindexcache was built without CUDA (INDEXCACHE_CUDA=OFF, or no nvcc was found); IC_BACKEND_CPU is there");
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions & /*options*/) { refuse(); }

int32_t cuda_device_count() { refuse(); }

ic_device_caps cuda_device_caps(int32_t /*device*/) { refuse(); }

const char *cuda_build_version() noexcept { return "null"; }

const char *cuda_build_archs() noexcept { return "[]"; }

}  // namespace ic

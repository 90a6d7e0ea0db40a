// SPDX-License-Identifier: Apache-2.0
// Version and build information.
#include <cstdio>

#include "core/build_id.h"
#include "core/cuda.h"
#include "indexcache.h"

namespace {

#if defined(__x86_64__)
constexpr const char *kCpuIsas = "[\"portable\", \"avx2\", \"avx512\"]";
#else
constexpr const char *kCpuIsas = "[\"portable\"]";
#endif

#if defined(__clang__)
#define IC_COMPILER "clang " __clang_version__
#else
#define IC_COMPILER "gcc " __VERSION__
#endif

struct BuildInfo {
  char text[640];
  BuildInfo() noexcept {
    std::snprintf(
        text, sizeof text,
        "{\"version\": \"%d.%d.%d\", \"git\": \"%s\", \"compiler\": \"%s\", \"cuda\": %s, \"cuda_archs\": %s, "
        "\"cpu_isas\": %s}",
        IC_VERSION_MAJOR, IC_VERSION_MINOR, IC_VERSION_PATCH, ic::build_git_id(), IC_COMPILER, ic::cuda_build_version(),
        ic::cuda_build_archs(), kCpuIsas);
  }
};

}  // namespace

extern "C" uint32_t ic_version(void) {
  return (static_cast<uint32_t>(IC_VERSION_MAJOR) << 16) | (IC_VERSION_MINOR << 8) | IC_VERSION_PATCH;
}

extern "C" const char *ic_build_info(void) {
  static const BuildInfo info;
  return info.text;
}

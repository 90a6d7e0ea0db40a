// SPDX-License-Identifier: Apache-2.0
// How the CUDA side was built, as JSON values. IC_CUDA_ARCHS comes from the build: a JSON list.
#include <cuda_runtime_api.h>

#include "core/cuda.h"

namespace ic {
namespace {

// "13.0" from 13000 cannot be pasted together by the preprocessor.
struct VersionText {
  constexpr VersionText() : text() {
    int n = 0;
    text[n++] = '"';
    constexpr int major = CUDART_VERSION / 1000;
    if (major >= 10) text[n++] = static_cast<char>('0' + major / 10);
    text[n++] = static_cast<char>('0' + major % 10);
    text[n++] = '.';
    text[n++] = static_cast<char>('0' + CUDART_VERSION % 1000 / 10);
    text[n] = '"';
  }
  char text[8];
};

constexpr VersionText kVersion;

}  // namespace

const char *cuda_build_version() noexcept { return kVersion.text; }

const char *cuda_build_archs() noexcept { return IC_CUDA_ARCHS; }

}  // namespace ic

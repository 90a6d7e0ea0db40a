// SPDX-License-Identifier: Apache-2.0
// Kernels in front of an operation and behind it, as engines launch them: that in front lets the next kernel start at
// once and writes what the operation reads much later; that behind may start early and waits, as it must.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <vector>

namespace ic::test {

/// `bytes` of device memory.
struct Copy {
  void *to;
  const void *from;
  size_t bytes;
};

/// What is in front: copies on the operation's stream, or on another one that it waits for; enqueued or captured.
enum class Front { kSameStream, kSameStreamCaptured, kOtherStream, kOtherStreamCaptured };
constexpr Front kFronts[] = {Front::kSameStream, Front::kSameStreamCaptured, Front::kOtherStream,
                             Front::kOtherStreamCaptured};

/// Runs `operation` behind late copies of its inputs, and behind it `next`. Returns when all has run.
void run_behind(const std::vector<Copy> &inputs, Front front, const std::function<void(cudaStream_t)> &operation,
                const Copy &next);

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// Kernels in front of an operation and behind it, as engines launch them: the one in front lets the next kernel start
// at once and writes all that the operation reads much later; the one behind may start early and waits, as it must.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "tests/gpu/device_array.h"

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

/// Inputs of an operation that hold nothing of use until copies have run.
class LateInputs {
 public:
  /// Instead of `from`, `count` elements of device memory; the same offset from a 256-byte boundary. `poison`: bytes.
  template <class T>
  const T *add(const T *from, size_t count, int poison) {
    if (from == nullptr || count == 0) return from;
    const size_t bytes = count * sizeof(T);
    const size_t shift = reinterpret_cast<uintptr_t>(from) % 256;
    arrays_.emplace_back(std::vector<uint8_t>(bytes, static_cast<uint8_t>(poison)), shift);
    copies_.push_back({arrays_.back().data(), from, bytes});
    return reinterpret_cast<const T *>(arrays_.back().data());
  }
  const std::vector<Copy> &copies() const { return copies_; }

 private:
  std::vector<DeviceArray<uint8_t>> arrays_;
  std::vector<Copy> copies_;
};

constexpr size_t kMostCopies = 8;  // of one kernel

/// Runs `operation` behind late copies of its inputs, and behind it `next`. Returns when all has run.
void run_behind(const std::vector<Copy> &inputs, Front front, const std::function<void(cudaStream_t)> &operation,
                const Copy &next);

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// Cuts a caller's workspace into arrays. The same code measures it: with no base it only adds up sizes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ic::cpu {

class Workspace {
 public:
  static constexpr size_t kAlignment = 256;

  /// base is null (to measure) or aligned to kAlignment.
  explicit Workspace(void *base = nullptr) noexcept : base_(static_cast<uint8_t *>(base)) {}

  /// The next `count` elements, aligned to kAlignment; not cleared. Null when measuring.
  template <class T>
  T *take(size_t count) noexcept {
    T *array = base_ == nullptr ? nullptr : reinterpret_cast<T *>(base_ + used_);
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

  /// Bytes taken so far, a multiple of kAlignment.
  size_t used() const noexcept { return used_; }

 private:
  uint8_t *base_;
  size_t used_ = 0;
};

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// IEEE arithmetic inside the library's tasks, whatever the host thread has set (flush-to-zero, rounding).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace ic::cpu {

/// Sets round-to-nearest with subnormals and masked exceptions, and puts the thread's own mode back at the end: hosts
/// do flush subnormals, and results must not depend on which thread computes them.
class FloatMode {
 public:
#if defined(__x86_64__)
  FloatMode() noexcept : saved_(_mm_getcsr()) {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(kDefault);
  }
  ~FloatMode() {
    if ((saved_ & ~kFlags) != kDefault) _mm_setcsr(saved_);
  }

 private:
  static constexpr uint32_t kDefault = 0x1f80;
  static constexpr uint32_t kFlags = 0x3f;  // sticky exception flags, no mode
  uint32_t saved_;
#elif defined(__aarch64__)
  FloatMode() noexcept {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    if (saved_ != 0) __asm__ volatile("msr fpcr, %0" ::"r"(uint64_t{0}));
  }
  ~FloatMode() {
    if (saved_ != 0) __asm__ volatile("msr fpcr, %0" ::"r"(saved_));
  }

 private:
  uint64_t saved_;
#else
  FloatMode() noexcept {}
#endif

 public:
  FloatMode(const FloatMode &) = delete;
  FloatMode &operator=(const FloatMode &) = delete;
};

}  // namespace ic::cpu

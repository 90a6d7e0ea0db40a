// SPDX-License-Identifier: Apache-2.0
// Counts every allocation of this program, by operator new or by the functions of malloc, and lets the n-th one fail.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ic::test {

/// While one exists allocations are counted, and the number `fail_at` (from 1; 0 = none) fails: operator new throws
/// std::bad_alloc, malloc and its kin return null. One at a time; all threads are counted.
class Allocations {
 public:
  explicit Allocations(int64_t fail_at = 0);
  ~Allocations();
  Allocations(const Allocations &) = delete;
  Allocations &operator=(const Allocations &) = delete;

  /// Allocations since the constructor.
  int64_t count() const;
};

/// While paused nothing is counted and nothing fails; returns what was so before. For calls that a test makes around
/// the one that it counts.
bool pause_counting(bool pause);

/// Pieces of memory that are allocated and not freed.
int64_t live_allocations();

// On a GPU (tests/gpu/shim); null on the CPU.
/// Calls so far that took or returned device memory or pinned memory.
__attribute__((weak)) int64_t device_memory_calls();
__attribute__((weak)) size_t free_device_memory();

}  // namespace ic::test

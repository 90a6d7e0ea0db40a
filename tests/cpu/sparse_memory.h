// SPDX-License-Identifier: Apache-2.0
// Address space without memory behind it, for offsets beyond 2^31: only the pages that a test touches exist.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace ic::cpu {

class SparseMemory {
 public:
  explicit SparseMemory(size_t bytes)
      : bytes_(bytes),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~SparseMemory() { munmap(data_, bytes_); }
  SparseMemory(const SparseMemory &) = delete;
  SparseMemory &operator=(const SparseMemory &) = delete;

  uint8_t *bytes() { return static_cast<uint8_t *>(data_); }
  template <class T>
  T *as() {
    return static_cast<T *>(data_);
  }

 private:
  size_t bytes_;
  void *data_;
};

}  // namespace ic::cpu

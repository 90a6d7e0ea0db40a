// SPDX-License-Identifier: Apache-2.0
// An array in device memory with guards on both sides: what writes outside is noticed.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ic::test {

/// For the tests' own CUDA calls.
inline void require_cuda(cudaError_t error, const char *call) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error));
}
#define IC_REQUIRE_CUDA(call) ::ic::test::require_cuda((call), #call)

inline void *device_malloc(size_t bytes) {
  void *memory = nullptr;
  IC_REQUIRE_CUDA(cudaMalloc(&memory, bytes));
  return memory;
}

/// Host to device, finished on return: a copy from pageable memory may still be on its way when cudaMemcpy returns, and
/// a stream that does not wait for the legacy one would run ahead of it.
inline void upload(void *to, const void *from, size_t bytes) {
  IC_REQUIRE_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  IC_REQUIRE_CUDA(cudaStreamSynchronize(cudaStreamLegacy));
}

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  /// @param shift_bytes  distance of the array from a 256-byte boundary
  explicit DeviceArray(size_t count, size_t shift_bytes = 0) : count_(count), shift_(shift_bytes) {
    block_ = static_cast<uint8_t *>(device_malloc(block_bytes()));
    const std::vector<uint8_t> guard(block_bytes(), kGuard);
    upload(block_, guard.data(), guard.size());
  }
  explicit DeviceArray(const std::vector<T> &values, size_t shift_bytes = 0) : DeviceArray(values.size(), shift_bytes) {
    assign(values);
  }
  DeviceArray(DeviceArray &&other) noexcept
      : block_(std::exchange(other.block_, nullptr)), count_(other.count_), shift_(other.shift_) {}
  DeviceArray &operator=(DeviceArray &&other) noexcept {
    std::swap(block_, other.block_);
    std::swap(count_, other.count_);
    std::swap(shift_, other.shift_);
    return *this;
  }
  ~DeviceArray() {
    if (block_ == nullptr) return;
    EXPECT_TRUE(guards_intact()) << "written outside of an array of " << count_ << " elements";
    cudaFree(block_);
  }

  size_t size() const { return count_; }
  T *data() const { return reinterpret_cast<T *>(block_ + kGuardBytes + shift_); }

  void assign(const std::vector<T> &values) {
    ASSERT_EQ(values.size(), count_);
    if (count_ > 0) upload(data(), values.data(), count_ * sizeof(T));
  }

  /// Every byte.
  void fill(int byte) {
    if (count_ == 0) return;
    IC_REQUIRE_CUDA(cudaMemset(data(), byte, count_ * sizeof(T)));
    IC_REQUIRE_CUDA(cudaStreamSynchronize(cudaStreamLegacy));
  }

  std::vector<T> read() const {
    std::vector<T> values(count_);
    if (count_ > 0) IC_REQUIRE_CUDA(cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  static constexpr uint8_t kGuard = 0xa5;
  static constexpr size_t kGuardBytes = 256;

  size_t block_bytes() const { return 2 * kGuardBytes + shift_ + count_ * sizeof(T); }

  bool guards_intact() const {
    std::vector<uint8_t> block(block_bytes());
    if (cudaMemcpy(block.data(), block_, block.size(), cudaMemcpyDeviceToHost) != cudaSuccess) return false;
    const size_t begin = kGuardBytes + shift_;
    const size_t end = begin + count_ * sizeof(T);
    for (size_t i = 0; i < block.size(); ++i) {
      if ((i < begin || i >= end) && block[i] != kGuard) return false;
    }
    return true;
  }

  uint8_t *block_ = nullptr;
  size_t count_ = 0;
  size_t shift_ = 0;
};

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// An array in device memory with guards on both sides: what writes outside is noticed.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
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
  /// Memory that a launch must not count on: filled like the rest, but under IC_TEST_INITCHECK nobody has written it,
  /// so that initcheck sees what is read before the launch itself has written it.
  static DeviceArray workspace(size_t count) {
    if (std::getenv("IC_TEST_INITCHECK") == nullptr) return DeviceArray(count);
    DeviceArray array;
    array.count_ = count;
    array.block_ = static_cast<uint8_t *>(device_malloc(array.block_bytes()));
    const std::vector<uint8_t> guard(kGuardBytes, kGuard);
    ic::test::upload(array.block_, guard.data(), guard.size());
    ic::test::upload(array.block_ + kGuardBytes + count * sizeof(T), guard.data(), guard.size());
    array.unwritten_ = true;
    return array;
  }
  DeviceArray(DeviceArray &&other) noexcept
      : block_(std::exchange(other.block_, nullptr)),
        count_(other.count_),
        shift_(other.shift_),
        unwritten_(other.unwritten_) {}
  DeviceArray &operator=(DeviceArray &&other) noexcept {
    std::swap(block_, other.block_);
    std::swap(count_, other.count_);
    std::swap(shift_, other.shift_);
    std::swap(unwritten_, other.unwritten_);
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
    if (count_ == 0 || unwritten_) return;
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
    const size_t begin = kGuardBytes + shift_;
    const size_t end = begin + count_ * sizeof(T);
    return intact(0, begin) && intact(end, block_bytes());
  }
  bool intact(size_t begin, size_t end) const {
    std::vector<uint8_t> guard(end - begin);
    if (cudaMemcpy(guard.data(), block_ + begin, guard.size(), cudaMemcpyDeviceToHost) != cudaSuccess) return false;
    return std::all_of(guard.begin(), guard.end(), [](uint8_t byte) { return byte == kGuard; });
  }

  uint8_t *block_ = nullptr;
  size_t count_ = 0;
  size_t shift_ = 0;
  bool unwritten_ = false;  // a workspace under IC_TEST_INITCHECK: only its guards have been written
};

}  // namespace ic::test

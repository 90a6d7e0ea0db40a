// SPDX-License-Identifier: Apache-2.0
// CUDA calls as exceptions, and arrays in device memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bench {

inline void check_cuda(cudaError_t error, const char *call) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error));
}
#define BENCH_CUDA(call) ::bench::check_cuda((call), #call)

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(int64_t count) : count_(count) {
    void *memory = nullptr;
    if (count > 0) BENCH_CUDA(cudaMalloc(&memory, static_cast<size_t>(count) * sizeof(T)));
    data_ = static_cast<T *>(memory);
  }
  explicit DeviceArray(const std::vector<T> &values) : DeviceArray(static_cast<int64_t>(values.size())) {
    BENCH_CUDA(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(DeviceArray &&other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceArray &operator=(DeviceArray &&other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DeviceArray() { (void)cudaFree(data_); }

  T *data() const { return data_; }
  T *at(int64_t i) const { return data_ + i; }
  int64_t size() const { return count_; }

 private:
  T *data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace bench

// SPDX-License-Identifier: Apache-2.0
// An NVIDIA GPU as a device: one stream, pinned host memory where the host takes part, memory of the GPU elsewhere.
#include <cuda_runtime_api.h>

#include "device.h"

namespace tiny_lm {
namespace {

void check_cuda(cudaError_t error, const char *call) {
  if (error != cudaSuccess) throw Error(kExitFailure, std::string(call) + ": " + cudaGetErrorString(error));
}
#define TINY_LM_CUDA(call) check_cuda((call), #call)

class CudaDevice : public Device {
 public:
  CudaDevice(Owner<ic_context> context, std::string name) : Device(std::move(context), "cuda", std::move(name)) {
    TINY_LM_CUDA(cudaSetDevice(0));
    TINY_LM_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~CudaDevice() override { (void)cudaStreamDestroy(stream_); }

  ic_stream stream() const override { return stream_; }
  void copy(void *to, const void *from, size_t bytes) override {
    TINY_LM_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
  }
  void wait() override { TINY_LM_CUDA(cudaStreamSynchronize(stream_)); }

 protected:
  void *allocate(size_t bytes, Reach reach) override {
    void *memory = nullptr;
    if (reach == Reach::kShared) {
      TINY_LM_CUDA(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
    } else {
      TINY_LM_CUDA(cudaMalloc(&memory, bytes));
    }
    TINY_LM_CUDA(cudaMemsetAsync(memory, 0, bytes, stream_));
    wait();
    return memory;
  }
  void release(void *memory, Reach reach) override {
    (void)(reach == Reach::kShared ? cudaFreeHost(memory) : cudaFree(memory));
  }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Device> make_cuda_device(Owner<ic_context> context, std::string name) {
  return std::make_unique<CudaDevice>(std::move(context), std::move(name));
}

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// Chooses where the library runs; the CPU as a device.
#include "device.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace tiny_lm {
namespace {

constexpr std::align_val_t kAlignment{256};

/// Lends the program's threads to the library.
void parallel_for(void *user, int64_t count, ic_task_fn task, void *data) {
  static_cast<ThreadPool *>(user)->parallel_for(count, [=](int64_t i) { task(data, i); });
}

class CpuDevice : public Device {
 public:
  CpuDevice(Owner<ic_context> context, std::string name) : Device(std::move(context), "cpu", std::move(name)) {}
  void copy(void *to, const void *from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void wait() override {}

 protected:
  void *allocate(size_t bytes, Reach) override {
    void *memory = ::operator new(bytes, kAlignment);
    return std::memset(memory, 0, bytes);
  }
  void release(void *memory, Reach) override { ::operator delete(memory, kAlignment); }
};

std::unique_ptr<Device> make_cpu_device(ThreadPool *pool) {
  ic_device_caps caps = IC_DEVICE_CAPS_INIT;
  check(ic_device_get_caps(IC_BACKEND_CPU, 0, &caps));
  const char *const levels[] = {"", "portable", "AVX2", "AVX-512"};
  const std::string name = std::string(levels[std::clamp(caps.cpu_isa, 0, 3)]) + ", " + caps.name;

  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  desc.backend = IC_BACKEND_CPU;
  desc.num_threads = pool->num_threads();
  desc.parallel_for = parallel_for;
  desc.parallel_user = pool;
  ic_context *context = nullptr;
  check(ic_context_create(&desc, &context));
  return std::make_unique<CpuDevice>(Owner<ic_context>(context), name);
}

/// The first GPU; throws Error (kExitBackend) with the reason why not.
std::unique_ptr<Device> find_cuda_device(const ModelConfig &config) {
  ic_device_caps caps = IC_DEVICE_CAPS_INIT;
  if (ic_device_get_caps(IC_BACKEND_CUDA, 0, &caps) != IC_OK) throw Error(kExitBackend, last_message());
  constexpr uint32_t kF32 = 1U << IC_DTYPE_F32;
  if ((caps.indexer_dtypes & kF32) == 0 || (caps.attention_dtypes & kF32) == 0 || caps.max_k < config.index_topk) {
    throw Error(kExitBackend, "this build does not run indexer, top-k and attention of fp32 on a GPU");
  }
  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  desc.backend = IC_BACKEND_CUDA;
  ic_context *context = nullptr;
  if (ic_context_create(&desc, &context) != IC_OK) throw Error(kExitBackend, last_message());
  return make_cuda_device(Owner<ic_context>(context),
                          "sm_" + std::to_string(caps.compute_capability) + ", " + caps.name);
}

}  // namespace

std::unique_ptr<Device> open_device(DeviceChoice choice, const ModelConfig &config, ThreadPool *pool) {
  std::string reason = "as asked";
  if (choice != DeviceChoice::kCpu) {
    try {
      std::unique_ptr<Device> device = find_cuda_device(config);
      device->explain(choice == DeviceChoice::kAuto ? "the first GPU" : reason);
      return device;
    } catch (const Error &error) {
      if (choice == DeviceChoice::kCuda) throw Error(kExitBackend, std::string("device cuda: ") + error.what());
      reason = std::string("no GPU: ") + error.what();
    }
  }
  std::unique_ptr<Device> device = make_cpu_device(pool);
  device->explain(reason);
  return device;
}

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// Where the library runs, and the memory that it shares with the dense part of the model, which stays on the CPU.
#pragma once

#include <indexcache.h>

#include <Eigen/Core>
#include <cstddef>
#include <memory>
#include <string>

#include "handles.h"
#include "model.h"
#include "thread_pool.h"

namespace tiny_lm {

enum class DeviceChoice {
  kAuto,  ///< CUDA where this build has it and a GPU can run the model, else the CPU
  kCpu,
  kCuda,
};

/// Who reads and writes some memory.
enum class Reach {
  kShared,   ///< host and library. CUDA: pinned host memory, which a GPU reads through the bus
  kLibrary,  ///< the library alone, filled by it or by Device::copy. CUDA: memory of the GPU
};

/// A context of the library, and memory as its backend wants it. What the library does, and copy(), happens in order,
/// and the host sees it after wait(). On the CPU all memory is the host's and everything has happened on return.
class Device {
 public:
  virtual ~Device() = default;
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  ic_context *context() const { return context_.get(); }
  virtual ic_stream stream() const { return nullptr; }
  virtual void copy(void *to, const void *from, size_t bytes) = 0;
  virtual void wait() = 0;

  const char *backend() const { return backend_; }   ///< "cpu" or "cuda"
  const std::string &name() const { return name_; }  ///< instruction level or compute capability, and a name
  const std::string &why() const { return why_; }    ///< why it is this one, for people
  void explain(const std::string &reason) { why_ = reason; }

  /// Aligned to 256 bytes and zeroed. The device must outlive it.
  struct Release {
    Device *device = nullptr;
    Reach reach = Reach::kShared;
    void operator()(void *memory) const { device->release(memory, reach); }
  };
  using Memory = std::unique_ptr<void, Release>;
  Memory memory(size_t bytes, Reach reach) { return {allocate(bytes, reach), Release{this, reach}}; }

 protected:
  Device(Owner<ic_context> context, const char *backend, std::string name)
      : context_(std::move(context)), backend_(backend), name_(std::move(name)) {}
  virtual void *allocate(size_t bytes, Reach reach) = 0;
  virtual void release(void *memory, Reach reach) = 0;

 private:
  Owner<ic_context> context_;
  const char *backend_;
  std::string name_;
  std::string why_;
};

/// Opens what was chosen. On the CPU the library works with the threads of `pool`. Throws Error (kExitBackend) when the
/// choice is CUDA and there is none to run `config` on.
std::unique_ptr<Device> open_device(DeviceChoice choice, const ModelConfig &config, ThreadPool *pool);

/// The CUDA half, for open_device alone; a build without CUDA throws.
std::unique_ptr<Device> make_cuda_device(Owner<ic_context> context, std::string name);

/// Elements that host and library share.
template <class T>
class SharedArray {
 public:
  SharedArray(Device *device, size_t count) : memory_(device->memory(count * sizeof(T), Reach::kShared)) {}
  T *data() { return static_cast<T *>(memory_.get()); }
  T &operator[](size_t i) { return data()[i]; }

 private:
  Device::Memory memory_;
};

/// A matrix that host and library share.
class SharedMatrix : public Eigen::Map<Matrix> {
 public:
  SharedMatrix(Device *device, int rows, int cols)
      : SharedMatrix(
            device->memory(sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(cols), Reach::kShared), rows,
            cols) {}
  using Eigen::Map<Matrix>::operator=;

 private:
  SharedMatrix(Device::Memory memory, int rows, int cols)
      : Eigen::Map<Matrix>(static_cast<float *>(memory.get()), rows, cols), memory_(std::move(memory)) {}

  Device::Memory memory_;
};

}  // namespace tiny_lm

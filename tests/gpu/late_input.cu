// SPDX-License-Identifier: Apache-2.0
// Kernels that let the next one start and take their time, and one that starts early and waits.
#include <cstdint>

#include "tests/gpu/captured.h"
#include "tests/gpu/late_input.h"

namespace ic::test {
namespace {

constexpr int kThreads = 512;
constexpr uint64_t kLateNanoseconds = 100000;

/// What one kernel copies.
struct Copies {
  Copy all[kMostCopies];
  size_t count;
};

__device__ void copy(const Copy &what) {
  for (size_t i = threadIdx.x; i < what.bytes; i += kThreads) {
    static_cast<uint8_t *>(what.to)[i] = static_cast<const uint8_t *>(what.from)[i];
  }
}

__device__ uint64_t nanoseconds() {
  uint64_t time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}

__global__ void late_copy(Copies what) {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  const uint64_t begin = nanoseconds();
  while (nanoseconds() - begin < kLateNanoseconds) {
  }
  for (size_t i = 0; i < what.count; ++i) copy(what.all[i]);
}

__global__ void next_copy(Copy what) {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
  copy(what);
}

__global__ void do_nothing() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

class Event {
 public:
  Event() { IC_REQUIRE_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event &) = delete;
  Event &operator=(const Event &) = delete;
  /// `waiting` goes on when what is on `stream` has run.
  void order(cudaStream_t stream, cudaStream_t waiting) const {
    IC_REQUIRE_CUDA(cudaEventRecord(event_, stream));
    IC_REQUIRE_CUDA(cudaStreamWaitEvent(waiting, event_));
  }

 private:
  cudaEvent_t event_ = nullptr;
};

void launch_next(const Copy &what, cudaStream_t stream) {
  cudaLaunchAttribute dependent = {};
  dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  dependent.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &dependent;
  config.numAttrs = 1;
  IC_REQUIRE_CUDA(cudaLaunchKernelEx(&config, next_copy, what));
}

}  // namespace

void run_behind(const std::vector<Copy> &inputs, Front front, const std::function<void(cudaStream_t)> &operation,
                const Copy &next) {
  ASSERT_LE(inputs.size(), kMostCopies);
  Copies copies = {};
  for (const Copy &input : inputs) copies.all[copies.count++] = input;
  const bool captured = front == Front::kSameStreamCaptured || front == Front::kOtherStreamCaptured;
  const bool other = front == Front::kOtherStream || front == Front::kOtherStreamCaptured;
  const TestStream side;
  const Event fork, join;
  const auto enqueue = [&](cudaStream_t stream) {
    const cudaStream_t copying = other ? side.get() : stream;
    if (other) fork.order(stream, copying);
    late_copy<<<1, kThreads, 0, copying>>>(copies);
    if (other) {
      do_nothing<<<1, 1, 0, stream>>>();  // the operation may start when this one has, but for the event
      join.order(copying, stream);
    }
    IC_REQUIRE_CUDA(cudaGetLastError());
    operation(stream);
    launch_next(next, stream);
  };
  if (captured) {
    CapturedGraph graph(enqueue);
    graph.replay();
  } else {
    const TestStream stream;
    enqueue(stream.get());
    stream.wait();
    side.wait();
  }
}

}  // namespace ic::test

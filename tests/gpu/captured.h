// SPDX-License-Identifier: Apache-2.0
// Runs work on a stream as it is, or captures it into a graph that can be replayed.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/gpu/device_array.h"

namespace ic::test {

class TestStream {
 public:
  TestStream() { IC_REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream &) = delete;
  TestStream &operator=(const TestStream &) = delete;
  cudaStream_t get() const { return stream_; }
  void wait() const { IC_REQUIRE_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// What `enqueue(stream)` puts on a stream, as a graph. Nothing runs before replay().
class CapturedGraph {
 public:
  template <class Enqueue>
  explicit CapturedGraph(Enqueue &&enqueue) {
    IC_REQUIRE_CUDA(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeGlobal));
    enqueue(stream_.get());
    cudaGraph_t graph = nullptr;
    IC_REQUIRE_CUDA(cudaStreamEndCapture(stream_.get(), &graph));
    IC_REQUIRE_CUDA(cudaGraphInstantiate(&graph_, graph, 0));
    IC_REQUIRE_CUDA(cudaGraphDestroy(graph));
  }
  ~CapturedGraph() { cudaGraphExecDestroy(graph_); }
  CapturedGraph(const CapturedGraph &) = delete;
  CapturedGraph &operator=(const CapturedGraph &) = delete;

  void replay() {
    launch();
    stream_.wait();
  }

  void launch() { IC_REQUIRE_CUDA(cudaGraphLaunch(graph_, stream_.get())); }
  cudaStream_t stream() const { return stream_.get(); }

 private:
  TestStream stream_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace ic::test

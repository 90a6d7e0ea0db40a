// SPDX-License-Identifier: Apache-2.0
// The CUDA backend around its kernels: device, memory, faults, capture, and what it leaves alone.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "core/numerics.h"
#include "cuda/check.h"
#include "cuda/device.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/scores_problem.h"
#include "tests/gpu/small_engine.h"

namespace ic::test {
namespace {

template <class Call>
ic_status status_of_call(Call &&call, std::string *text = nullptr) {
  try {
    call();
    return IC_OK;
  } catch (const Failure &failure) {
    if (text != nullptr) *text = failure.text();
    return failure.status();
  }
}

/// The thread's driver context; null = none. Asked of the driver, since the runtime would make one.
void *current_context() {
  using GetCurrent = int (*)(void **);
  void *address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  IC_REQUIRE_CUDA(cudaGetDriverEntryPointByVersion("cuCtxGetCurrent", &address, 4000, cudaEnableDefault, &found));
  void *context = nullptr;
  EXPECT_EQ(reinterpret_cast<GetCurrent>(address)(&context), 0);
  return context;
}

TEST(CudaBackend, CapsMatchTheBackend) {
  const ic_device_caps caps = cuda_device_caps(0);
  EXPECT_EQ(caps.backend, IC_BACKEND_CUDA);
  EXPECT_GE(caps.compute_capability, cuda::kOldestCapability);
  EXPECT_GT(caps.num_processors, 0);
  EXPECT_GT(caps.memory_bytes, uint64_t{1} << 30);
  EXPECT_NE(caps.name[0], 0);
  EXPECT_GE(caps.driver_version / 1000, caps.runtime_version / 1000);
  EXPECT_EQ(caps.indexer_dtypes, cuda_backend().indexer_dtypes());
  EXPECT_EQ(caps.attention_dtypes, cuda_backend().attention_dtypes());
  EXPECT_EQ(caps.max_k, cuda_backend().max_k());
  EXPECT_GE(cuda_device_count(), 1);
}

TEST(CudaBackend, HasTheCpusNumerics) {
  EXPECT_EQ(cuda_backend().numerics_id(64, 128, IC_DTYPE_F32), cpu_backend().numerics_id(64, 128, IC_DTYPE_F32));
  EXPECT_EQ(cuda_backend().error_bound(64, 128, IC_DTYPE_F32), cpu_backend().error_bound(64, 128, IC_DTYPE_F32));
}

TEST(CudaBackend, MissingDeviceIsNamed) {
  std::string text;
  const int32_t count = cuda_device_count();
  EXPECT_EQ(status_of_call([&] { make_cuda_backend({count, 0, {}}); }, &text), IC_ERROR_CUDA_NO_DEVICE);
  EXPECT_NE(text.find("device is " + std::to_string(count)), std::string::npos) << text;
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

TEST(CudaBackend, ThreadKeepsItsContext) {
  // A thread that has never used CUDA has no context, and has none afterwards.
  const auto use = [] {
    const std::unique_ptr<Backend> backend = make_cuda_backend({0, 0, {}});
    EXPECT_EQ(current_context(), nullptr) << "after create";
    void *memory = backend->allocate(1024);
    ASSERT_NE(memory, nullptr);
    backend->clear(memory, 1024);
    backend->read_faults(static_cast<uint32_t *>(memory), true, nullptr);
    EXPECT_EQ(current_context(), nullptr) << "after operations";
    backend->release(memory, 1024);
    EXPECT_EQ(status_of_call([&] { backend->clear(nullptr, 4); }), IC_ERROR_CUDA);
    EXPECT_EQ(current_context(), nullptr) << "after a failure";
  };
  std::thread(use).join();

  // One that has chosen a device keeps that.
  IC_REQUIRE_CUDA(cudaSetDevice(0));
  void *before = current_context();
  ASSERT_NE(before, nullptr);
  ScoresProblem problem({}, run_seed());
  DeviceScores device(problem);
  cuda_backend().scores(device.params(), nullptr);
  EXPECT_EQ(current_context(), before);
  int current = -1;
  IC_REQUIRE_CUDA(cudaGetDevice(&current));
  EXPECT_EQ(current, 0);
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());
}

TEST(CudaBackend, ErrorsAreReportedOnce) {
  // A failure of ours does not stay behind as the caller's "last error" ...
  std::string text;
  EXPECT_EQ(status_of_call([&] { cuda_backend().clear(nullptr, 16); }, &text), IC_ERROR_CUDA);
  EXPECT_NE(text.find("cudaMemsetAsync"), std::string::npos) << text;
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  // ... and an error of the caller's is not taken for ours.
  EXPECT_NE(cudaSetDevice(1 << 20), cudaSuccess);
  ScoresProblem problem({}, run_seed());
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  DeviceScores device(problem);
  EXPECT_NE(cudaSetDevice(1 << 20), cudaSuccess);
  EXPECT_EQ(status_of_call([&] { cuda_backend().scores(device.params(), nullptr); }), IC_OK);
  (void)cudaGetLastError();
  expect_same(device.read(), problem.run_on_cpu(), problem.score_stride());
}

TEST(CudaBackend, MemoryIsAlignedAndCleared) {
  constexpr size_t kBytes = 100001;
  void *memory = cuda_backend().allocate(kBytes);
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 256, 0u);
  IC_REQUIRE_CUDA(cudaMemset(memory, 0xff, kBytes));
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());  // clear() runs on a stream that waits for no other
  cuda_backend().clear(memory, kBytes);
  std::vector<uint8_t> host(kBytes, 1);
  IC_REQUIRE_CUDA(cudaMemcpy(host.data(), memory, kBytes, cudaMemcpyDeviceToHost));
  EXPECT_EQ(host, std::vector<uint8_t>(kBytes, 0));
  cuda_backend().release(memory, kBytes);
  cuda_backend().release(nullptr, 0);
  EXPECT_EQ(cuda_backend().allocate(size_t{1} << 50), nullptr) << "a petabyte";
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

struct CountingAllocator {
  std::atomic<int> allocated{0}, freed{0};
  Allocator callbacks() {
    return {[](void *user, size_t size) -> void * {
              void *memory = nullptr;
              if (size > 1 << 20 || cudaMalloc(&memory, size) != cudaSuccess) return nullptr;
              ++static_cast<CountingAllocator *>(user)->allocated;
              return memory;
            },
            [](void *user, void *memory, size_t) {
              ++static_cast<CountingAllocator *>(user)->freed;
              cudaFree(memory);
            },
            this};
  }
};

TEST(CudaBackend, CallersAllocatorIsUsed) {
  CountingAllocator counting;
  const std::unique_ptr<Backend> backend = make_cuda_backend({0, 0, counting.callbacks()});
  void *memory = backend->allocate(4096);
  ASSERT_NE(memory, nullptr);
  backend->clear(memory, 4096);
  EXPECT_EQ(backend->allocate(size_t{2} << 20), nullptr) << "the callback's refusal";
  backend->release(memory, 4096);
  EXPECT_EQ(counting.allocated, 1);
  EXPECT_EQ(counting.freed, 1);
}

TEST(CudaBackend, FaultsAreStickyUntilRead) {
  DeviceArray<uint32_t> word(std::vector<uint32_t>{0});
  ScoresProblem problem({.num_seqs = 1, .num_rows = 2, .max_keys = 64}, run_seed());
  problem.begin = {0, 0};
  DeviceScores device(problem);
  const DeviceArray<int32_t> too_long(std::vector<int32_t>{65, 64});
  const DeviceArray<int32_t> right(std::vector<int32_t>{64, 64});
  const DeviceArray<int32_t> no_such_seq(std::vector<int32_t>{0, 1});
  ScoresParams p = device.params();
  p.rows.fault = word.data();
  p.rows.key_begin = nullptr;
  p.rows.seq = nullptr;
  const TestStream stream;

  p.rows.key_end = right.data();
  cuda_backend().scores(p, stream.get());
  EXPECT_EQ(cuda_backend().read_faults(word.data(), false, stream.get()), 0u);
  p.rows.key_end = too_long.data();
  cuda_backend().scores(p, stream.get());
  p.rows.key_end = right.data();
  cuda_backend().scores(p, stream.get());  // a good call takes nothing back
  EXPECT_EQ(cuda_backend().read_faults(word.data(), false, stream.get()), IC_FAULT_KEY_END);
  p.rows.seq = no_such_seq.data();
  cuda_backend().scores(p, stream.get());
  EXPECT_EQ(cuda_backend().read_faults(word.data(), true, stream.get()), IC_FAULT_KEY_END | IC_FAULT_SEQUENCE);
  EXPECT_EQ(cuda_backend().read_faults(word.data(), true, stream.get()), 0u);
}

TEST(CudaBackend, FaultsAreNotReadInsideACapture) {
  const DeviceArray<uint32_t> word(std::vector<uint32_t>{5});
  std::string text;
  ic_status status = IC_OK;
  CapturedGraph graph([&](cudaStream_t stream) {
    status = status_of_call([&] { cuda_backend().read_faults(word.data(), true, stream); }, &text);
  });  // the capture is still good
  EXPECT_EQ(status, IC_ERROR_INVALID_ARGUMENT) << text;
  EXPECT_NE(text.find("captured"), std::string::npos) << text;
  EXPECT_EQ(word.read()[0], 5u);
}

TEST(CudaBackend, CreatedWhileAnotherThreadCaptures) {
  const TestStream stream;
  IC_REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
  std::thread([] {
    EXPECT_EQ(status_of_call([] {
                const std::unique_ptr<Backend> backend = make_cuda_backend({0, 0, {}});
                void *memory = backend->allocate(4096);
                ASSERT_NE(memory, nullptr);
                backend->clear(memory, 4096);
                backend->release(memory, 4096);
              }),
              IC_OK);
  }).join();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
  if (graph != nullptr) cudaGraphDestroy(graph);
}

/// Free device memory, once everything that was enqueued has run.
size_t free_memory() {
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());
  size_t free = 0, total = 0;
  IC_REQUIRE_CUDA(cudaMemGetInfo(&free, &total));
  return free;
}

TEST(CudaBackend, LaunchesAllocateNothing) {
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    SmallEngine engine(IC_BACKEND_CUDA, dtype, 0, run_seed());
    void *block = nullptr;
    IC_REQUIRE_CUDA(cudaHostAlloc(&block, engine.block_size, cudaHostAllocDefault));
    engine.run_everything(block, 0, nullptr);
    const size_t before = free_memory();
    for (int i = 0; i < 50; ++i) engine.run_everything(block, 0, nullptr);
    EXPECT_EQ(free_memory(), before);
    EXPECT_EQ(cuda_backend().scores_workspace_size({100, 100000, 64, 128, dtype, 0}), 0u);
    IC_REQUIRE_CUDA(cudaFreeHost(block));
  }
}

template <class Function>
Function driver_function(const char *name, unsigned version) {
  void *address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  IC_REQUIRE_CUDA(cudaGetDriverEntryPointByVersion(name, &address, version, cudaEnableDefault, &found));
  if (address == nullptr) throw std::runtime_error(std::string("the driver has no ") + name);
  return reinterpret_cast<Function>(address);
}

/// Every kernel of the modules that a graph's kernels are of; `missing`: those that are not loaded, though a launch may
/// choose them next time.
struct Kernels {
  explicit Kernels(cudaGraph_t graph) {
    const auto node_params =
        driver_function<CUresult (*)(CUgraphNode, CUDA_KERNEL_NODE_PARAMS *)>("cuGraphKernelNodeGetParams", 12000);
    const auto function_of = driver_function<CUresult (*)(CUfunction *, CUkernel)>("cuKernelGetFunction", 12000);
    const auto module_of = driver_function<CUresult (*)(CUmodule *, CUfunction)>("cuFuncGetModule", 11000);
    const auto count_of = driver_function<CUresult (*)(unsigned *, CUmodule)>("cuModuleGetFunctionCount", 12040);
    const auto enumerate =
        driver_function<CUresult (*)(CUfunction *, unsigned, CUmodule)>("cuModuleEnumerateFunctions", 12040);
    const auto is_loaded = driver_function<CUresult (*)(CUfunctionLoadingState *, CUfunction)>("cuFuncIsLoaded", 12040);
    const auto name_of = driver_function<CUresult (*)(const char **, CUfunction)>("cuFuncGetName", 12030);
    size_t count = 0;
    IC_REQUIRE_CUDA(cudaGraphGetNodes(graph, nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);
    IC_REQUIRE_CUDA(cudaGraphGetNodes(graph, nodes.data(), &count));
    std::set<CUmodule> modules;
    std::set<CUfunction> seen;
    for (const cudaGraphNode_t node : nodes) {
      cudaGraphNodeType type{};
      IC_REQUIRE_CUDA(cudaGraphNodeGetType(node, &type));
      if (type != cudaGraphNodeTypeKernel) continue;
      CUDA_KERNEL_NODE_PARAMS params{};
      EXPECT_EQ(node_params(node, &params), CUDA_SUCCESS);
      CUfunction function = params.func;
      if (function == nullptr) {
        EXPECT_EQ(function_of(&function, params.kern), CUDA_SUCCESS);
      }
      seen.insert(function);
      CUmodule module = nullptr;
      EXPECT_EQ(module_of(&module, function), CUDA_SUCCESS);
      modules.insert(module);
    }
    launched = seen.size();
    for (const CUmodule module : modules) {
      unsigned functions = 0;
      EXPECT_EQ(count_of(&functions, module), CUDA_SUCCESS);
      std::vector<CUfunction> all(functions);
      EXPECT_EQ(enumerate(all.data(), functions, module), CUDA_SUCCESS);
      for (const CUfunction function : all) {
        CUfunctionLoadingState state{};
        EXPECT_EQ(is_loaded(&state, function), CUDA_SUCCESS);
        ++present;
        if (state == CU_FUNCTION_LOADING_STATE_LOADED) continue;
        const char *name = "?";
        EXPECT_EQ(name_of(&name, function), CUDA_SUCCESS);
        missing += std::string(name) + "\n";
      }
    }
  }

  size_t launched = 0;
  size_t present = 0;
  std::string missing;
};

/// Run by FirstLaunchesLoadNothing alone, in a process of its own.
TEST(FreshProcess, DISABLED_FirstLaunchesLoadNothing) {
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_F16, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    SmallEngine engine(IC_BACKEND_CUDA, dtype, 0, run_seed());
    void *block = nullptr;
    IC_REQUIRE_CUDA(cudaHostAlloc(&block, engine.block_size, cudaHostAllocDefault));
    // A stream that has run something has what the driver gives every stream.
    const TestStream stream;
    IC_REQUIRE_CUDA(cudaMemsetAsync(engine.workspace, 0, 16, stream.get()));
    const size_t before = free_memory();
    engine.run_everything(block, 0, stream.get());
    EXPECT_EQ(free_memory(), before) << "a launch has loaded or allocated";
    cudaGraph_t graph = nullptr;
    IC_REQUIRE_CUDA(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
    engine.run_everything(block, 1, stream.get());
    IC_REQUIRE_CUDA(cudaStreamEndCapture(stream.get(), &graph));
    const Kernels kernels(graph);
    EXPECT_GT(kernels.present, kernels.launched) << "variants that have not run are looked at as well";
    EXPECT_EQ(kernels.missing, "") << "not loaded when the context was made";
    IC_REQUIRE_CUDA(cudaGraphDestroy(graph));
    IC_REQUIRE_CUDA(cudaFreeHost(block));
  }
}

void expect_fresh_process(const char *environment) {
  char self[4096] = "";
  ASSERT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  const std::string command =
      std::string(environment) + " '" + self + "' --gtest_also_run_disabled_tests --gtest_filter='FreshProcess.*' >&2";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

TEST(CudaBackend, FirstLaunchesLoadNothingLong) { expect_fresh_process("CUDA_MODULE_LOADING=LAZY"); }
TEST(CudaBackend, FirstLaunchesOfPtxLoadNothingLong) {
  expect_fresh_process("CUDA_MODULE_LOADING=LAZY CUDA_FORCE_PTX_JIT=1");
}

}  // namespace
}  // namespace ic::test

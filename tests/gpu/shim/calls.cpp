// SPDX-License-Identifier: Apache-2.0
// The calls of a program that was written for the CPU backend (--wrap, seen by the program's objects only), sent to
// CUDA: a context is made for device 0, and every operation is finished when it returns. In the captured mode an
// operation is captured into a graph, which is then run.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "indexcache.h"
#include "tests/gpu/shim/mode.h"

namespace ic::test {

/// Of unit_allocation: while it lives, allocations are not counted and do not fail.
__attribute__((weak)) bool pause_counting(bool pause);

namespace {

class Uncounted {
 public:
  Uncounted() : was_(pause_counting != nullptr && pause_counting(true)) {}
  ~Uncounted() {
    if (pause_counting != nullptr) pause_counting(was_);
  }

 private:
  bool was_;
};

void check(cudaError_t error, const char *call) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
  std::abort();
}
#define IC_CHECK(call) check((call), #call)

cudaStream_t stream_of_thread() {
  thread_local cudaStream_t stream = nullptr;
  if (stream == nullptr) IC_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

template <class Call>
ic_status finished(ic_stream given, Call &&call) {
  if (mode() == Mode::kCpu || given != nullptr) return call(given);
  cudaStream_t stream;
  {
    const Uncounted uncounted;
    stream = stream_of_thread();
    if (mode() == Mode::kCudaCaptured) IC_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  }
  const ic_status status = call(stream);
  const Uncounted uncounted;
  if (mode() == Mode::kCudaCaptured) {
    cudaGraph_t graph = nullptr;
    IC_CHECK(cudaStreamEndCapture(stream, &graph));
    if (status == IC_OK) {
      cudaGraphExec_t runnable = nullptr;
      IC_CHECK(cudaGraphInstantiate(&runnable, graph, 0));
      IC_CHECK(cudaGraphLaunch(runnable, stream));
      IC_CHECK(cudaStreamSynchronize(stream));
      IC_CHECK(cudaGraphExecDestroy(runnable));
    }
    IC_CHECK(cudaGraphDestroy(graph));
  }
  IC_CHECK(cudaStreamSynchronize(stream));
  return status;
}

/// Memory of caches, which the program reads on the host.
void *allocate(void *, size_t size) { return std::aligned_alloc(256, (size + 255) / 256 * 256); }
void release(void *, void *memory, size_t) { std::free(memory); }

template <class T>
void set(ic_context_desc *desc, T ic_context_desc::*field, T value) {
  const auto end = reinterpret_cast<char *>(&(desc->*field) + 1) - reinterpret_cast<char *>(desc);
  if (static_cast<size_t>(end) <= desc->struct_size) desc->*field = value;
}

}  // namespace
}  // namespace ic::test

extern "C" {

#define IC_REAL(name) decltype(name) __real_##name
IC_REAL(ic_context_create);
IC_REAL(ic_forward);
IC_REAL(ic_indexer_scores);
IC_REAL(ic_topk_select);
IC_REAL(ic_topk_merge);
IC_REAL(ic_attention_run);
IC_REAL(ic_attention_mass);
IC_REAL(ic_indexer_prepare_queries);
IC_REAL(ic_indexer_prepare_keys);
IC_REAL(ic_cache_remap);
IC_REAL(ic_cache_compact);
IC_REAL(ic_cache_export);
IC_REAL(ic_cache_import);
IC_REAL(ic_index_overlap);

/// A valid description of a CPU context becomes one of a CUDA context; any other is given on as it is.
ic_status __wrap_ic_context_create(const ic_context_desc *given, ic_context **out) {
  using namespace ic::test;
  constexpr size_t kMost = 4096;
  if (mode() == Mode::kCpu || given == nullptr || reinterpret_cast<uintptr_t>(given) % alignof(ic_context_desc) != 0 ||
      given->struct_size < offsetof(ic_context_desc, backend) + sizeof given->backend || given->struct_size > kMost ||
      given->backend != IC_BACKEND_CPU)
    return __real_ic_context_create(given, out);
  alignas(ic_context_desc) char bytes[kMost];
  std::memcpy(bytes, given, given->struct_size);
  auto *desc = reinterpret_cast<ic_context_desc *>(bytes);
  ic_context_desc all = IC_CONTEXT_DESC_INIT;
  std::memcpy(&all, given, given->struct_size < sizeof all ? given->struct_size : sizeof all);
  const bool valid = all.device == 0 && all.num_threads >= 0 && all.num_threads <= 1024 && all.cpu_isa >= 0 &&
                     all.cpu_isa <= IC_CPU_ISA_AVX512 && all.max_ctas == 0 &&
                     (all.parallel_for == nullptr || all.num_threads > 0);
  if (!valid) return __real_ic_context_create(given, out);
  set(desc, &ic_context_desc::backend, static_cast<int32_t>(IC_BACKEND_CUDA));
  // How a CPU shares its work says nothing about a device.
  set(desc, &ic_context_desc::num_threads, 0);
  set(desc, &ic_context_desc::cpu_isa, 0);
  set(desc, &ic_context_desc::parallel_for, static_cast<decltype(all.parallel_for)>(nullptr));
  if (all.alloc == nullptr && all.free == nullptr) {
    set(desc, &ic_context_desc::alloc, static_cast<decltype(all.alloc)>(allocate));
    set(desc, &ic_context_desc::free, static_cast<decltype(all.free)>(release));
  }
  return __real_ic_context_create(desc, out);
}

#define IC_OPERATION(name, parameters, ...)                                                                 \
  ic_status __wrap_##name parameters {                                                                      \
    return ic::test::finished(given, [&](ic_stream stream) { return __real_##name(__VA_ARGS__, stream); }); \
  }

IC_OPERATION(ic_forward, (ic_cache * cache, const ic_forward_args *args, ic_index_view *out, ic_stream given), cache,
             args, out)
IC_OPERATION(ic_indexer_scores,
             (const ic_indexer *indexer, const ic_batch *batch, const ic_scores_args *args, ic_stream given), indexer,
             batch, args)
IC_OPERATION(ic_topk_select, (const ic_topk *topk, const ic_select_args *args, ic_stream given), topk, args)
IC_OPERATION(ic_topk_merge, (const ic_topk *topk, const ic_merge_args *args, ic_stream given), topk, args)
IC_OPERATION(ic_attention_run,
             (const ic_attention *attention, const ic_batch *batch, int32_t row_begin, const ic_index_view *indices,
              const ic_attention_args *args, void *workspace, size_t workspace_size, ic_stream given),
             attention, batch, row_begin, indices, args, workspace, workspace_size)
IC_OPERATION(ic_attention_mass,
             (const ic_attention *attention, const ic_batch *batch, int32_t row_begin, const ic_index_view *indices,
              const ic_mass_args *args, void *workspace, size_t workspace_size, ic_stream given),
             attention, batch, row_begin, indices, args, workspace, workspace_size)
IC_OPERATION(ic_indexer_prepare_queries, (const ic_indexer *indexer, const ic_prepare_args *args, ic_stream given),
             indexer, args)
IC_OPERATION(ic_indexer_prepare_keys, (const ic_indexer *indexer, const ic_prepare_args *args, ic_stream given),
             indexer, args)
IC_OPERATION(ic_cache_remap, (ic_cache * cache, const ic_remap_args *args, ic_index_view *out, ic_stream given), cache,
             args, out)
IC_OPERATION(ic_cache_compact, (ic_cache * cache, const ic_compact_args *args, ic_stream given), cache, args)
IC_OPERATION(ic_cache_export,
             (ic_cache * cache, int32_t layer, uint32_t flags, int32_t location, void *buffer, size_t size,
              ic_stream given),
             cache, layer, flags, location, buffer, size)
IC_OPERATION(ic_cache_import,
             (ic_cache * cache, int32_t layer, uint32_t flags, const void *buffer, size_t size,
              ic_export_header *header, ic_stream given),
             cache, layer, flags, buffer, size, header)
IC_OPERATION(ic_index_overlap,
             (ic_context * context, const ic_index_view *a, const ic_index_view *b, const ic_overlap_args *out,
              ic_stream given),
             context, a, b, out)

}  // extern "C"

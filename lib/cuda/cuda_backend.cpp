// SPDX-License-Identifier: Apache-2.0
// Memory, copies and launches of the CUDA backend.
#include "cuda/cuda_backend.h"

#include "core/dtype.h"
#include "core/failure.h"
#include "core/numerics.h"
#include "cuda/check.h"
#include "cuda/device.h"
#include "kernels/indexer/launch.h"

namespace ic {
namespace cuda {
namespace {

[[noreturn]] void unsupported(const char *operation) {
  fail(IC_ERROR_UNSUPPORTED, "%s is not implemented on the CUDA backend of this version", operation);
}

void require_f32(int32_t dtype) {
  if (dtype != IC_DTYPE_F32)
    fail(IC_ERROR_UNSUPPORTED, "scores of %s are not implemented on the CUDA backend of this version; allowed: fp32",
         dtype_name(dtype));
}

/// For code that must not throw: a driver that is gone (at the end of the process) took its memory and streams with it.
template <class Body>
bool without_failure(Body &&body) noexcept {
  try {
    body();
    return true;
  } catch (const Failure &) {
    return false;
  }
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions &options)
    : primary_(options.device), allocator_(options.allocator), limits_{0, options.max_ctas} {
  const DeviceGuard device(primary_);
  const CaptureModeGuard capture_mode;
  IC_CUDA_CHECK(cudaDeviceGetAttribute(&limits_.num_processors, cudaDevAttrMultiProcessorCount, options.device));
  IC_CUDA_CHECK(load_scores_f32());
  IC_CUDA_CHECK(cudaStreamCreateWithFlags(&create_stream_, cudaStreamNonBlocking));
}

CudaBackend::~CudaBackend() {
  (void)without_failure([&] {
    const DeviceGuard device(primary_);
    const CaptureModeGuard capture_mode;
    (void)cudaStreamDestroy(create_stream_);
  });
}

uint32_t CudaBackend::indexer_dtypes() const noexcept { return implemented_indexer_dtypes(); }
uint32_t CudaBackend::attention_dtypes() const noexcept { return kImplementedAttentionDtypes; }
int32_t CudaBackend::max_k() const noexcept { return kImplementedMaxK; }

uint64_t CudaBackend::numerics_id(int32_t dtype) const noexcept { return fma_chain_id(dtype); }

double CudaBackend::error_bound(int32_t num_heads, int32_t head_dim, int32_t /*dtype*/) const noexcept {
  return fma_chain_error_bound(num_heads, head_dim);
}

void *CudaBackend::allocate(size_t bytes) noexcept {
  void *memory = nullptr;
  (void)without_failure([&] {
    const DeviceGuard device(primary_);
    const CaptureModeGuard capture_mode;
    if (allocator_.alloc != nullptr) {
      memory = allocator_.alloc(allocator_.user, bytes);
    } else if (cudaMalloc(&memory, bytes) != cudaSuccess) {
      memory = nullptr;
      (void)cudaGetLastError();
    }
  });
  return memory;
}

void CudaBackend::release(void *memory, size_t bytes) noexcept {
  if (memory == nullptr) return;
  (void)without_failure([&] {
    const DeviceGuard device(primary_);
    const CaptureModeGuard capture_mode;
    if (allocator_.free != nullptr) {
      allocator_.free(allocator_.user, memory, bytes);
    } else if (cudaFree(memory) != cudaSuccess) {
      (void)cudaGetLastError();
    }
  });
}

void CudaBackend::clear(void *memory, size_t bytes) {
  const DeviceGuard device(primary_);
  const CaptureModeGuard capture_mode;
  IC_CUDA_CHECK(cudaMemsetAsync(memory, 0, bytes, create_stream_));
  IC_CUDA_CHECK(cudaStreamSynchronize(create_stream_));
}

size_t CudaBackend::scores_workspace_size(const ScoreLimits &limits) const {
  require_f32(limits.dtype);
  return 0;
}
size_t CudaBackend::score_select_workspace_size(const ScoreLimits &) const { unsupported("top-k selection"); }
size_t CudaBackend::select_workspace_size(int32_t, int32_t, int32_t) const { unsupported("top-k selection"); }
size_t CudaBackend::merge_workspace_size(int32_t, int32_t, int32_t) const { unsupported("merging selections"); }
size_t CudaBackend::attend_workspace_size(const AttendLimits &) const { unsupported("sparse attention"); }

void CudaBackend::scores(const ScoresParams &params, Stream stream) {
  require_f32(params.query.dtype);
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_scores_f32(params, limits_, stream));
}

void CudaBackend::score_select(const ScoreSelectParams &, Stream) { unsupported("top-k selection"); }
void CudaBackend::select(const SelectParams &, Stream) { unsupported("top-k selection"); }
void CudaBackend::merge(const MergeParams &, Stream) { unsupported("merging selections"); }
void CudaBackend::attend(const AttendParams &, Stream) { unsupported("sparse attention"); }
void CudaBackend::prepare_queries(const PrepareParams &, Stream) { unsupported("preparing queries"); }
void CudaBackend::prepare_keys(const PrepareParams &, Stream) { unsupported("preparing keys"); }
void CudaBackend::write_keys(const WriteKeysParams &, Stream) { unsupported("writing keys"); }
void CudaBackend::stamp(const StampParams &, Stream) { unsupported("the device epoch"); }
void CudaBackend::check_stamps(const CheckStampsParams &, Stream) { unsupported("the device epoch"); }
void CudaBackend::gather_rows(const GatherRowsParams &, Stream) {
  unsupported("moving index rows (compact, import, export)");
}
void CudaBackend::remap(const RemapParams &, Stream) { unsupported("remapping indices to slots"); }
void CudaBackend::overlap(const OverlapParams &, Stream) { unsupported("comparing index sets"); }

void CudaBackend::copy(void *to, const void *from, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
}

uint32_t CudaBackend::read_faults(uint32_t *word, bool clear, Stream stream) {
  const DeviceGuard device(primary_);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  IC_CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
  if (capture != cudaStreamCaptureStatusNone)
    fail(IC_ERROR_INVALID_ARGUMENT, "stream is being captured; fault bits can be read outside of a capture only");
  uint32_t faults = 0;
  IC_CUDA_CHECK(cudaMemcpyAsync(&faults, word, sizeof faults, cudaMemcpyDeviceToHost, stream));
  if (clear) IC_CUDA_CHECK(cudaMemsetAsync(word, 0, sizeof *word, stream));
  IC_CUDA_CHECK(cudaStreamSynchronize(stream));
  return faults;
}

}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions &options) {
  cuda::require_device(options.device);
  return std::make_unique<cuda::CudaBackend>(options);
}

}  // namespace ic

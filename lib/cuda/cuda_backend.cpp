// SPDX-License-Identifier: Apache-2.0
// Memory, copies and launches of the CUDA backend.
#include "cuda/cuda_backend.h"

#include "core/failure.h"
#include "core/numerics.h"
#include "cuda/check.h"
#include "cuda/device.h"
#include "cuda/score_select.h"
#include "kernels/attention/launch.h"
#include "kernels/cache/launch.h"
#include "kernels/indexer/launch.h"
#include "kernels/topk/launch.h"

namespace ic {
namespace cuda {
namespace {

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
    : primary_(options.device), allocator_(options.allocator), limits_{0, options.max_ctas, 0} {
  const DeviceGuard device(primary_);
  const CaptureModeGuard capture_mode;
  IC_CUDA_CHECK(cudaDeviceGetAttribute(&limits_.num_processors, cudaDevAttrMultiProcessorCount, options.device));
  limits_.compute_capability = compute_capability(options.device);
  // Everything is loaded here, so that no launch ever loads, sets an attribute or compiles PTX.
  IC_CUDA_CHECK(load_scores_f32());
  IC_CUDA_CHECK(load_scores_mma());
  IC_CUDA_CHECK(load_prepare());
  IC_CUDA_CHECK(load_write_keys());
  IC_CUDA_CHECK(load_select());
  IC_CUDA_CHECK(load_merge());
  IC_CUDA_CHECK(load_attend());
  IC_CUDA_CHECK(load_index_sets());
  IC_CUDA_CHECK(cudaStreamCreateWithFlags(&create_stream_, cudaStreamNonBlocking));
}

CudaBackend::~CudaBackend() {
  (void)without_failure([&] {
    const DeviceGuard device(primary_);
    const CaptureModeGuard capture_mode;
    (void)cudaStreamDestroy(create_stream_);
  });
}

uint32_t CudaBackend::indexer_dtypes() const noexcept { return kIndexerDtypes; }
uint32_t CudaBackend::attention_dtypes() const noexcept { return kAttentionDtypes; }
int32_t CudaBackend::max_k() const noexcept { return kMaxK; }

uint64_t CudaBackend::numerics_id(int32_t dtype) const noexcept {
  return dtype == IC_DTYPE_F32 ? fma_chain_id(dtype) : mma_sync_id(dtype, limits_.compute_capability / 10);
}

double CudaBackend::error_bound(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept {
  return dtype == IC_DTYPE_F32 ? fma_chain_error_bound(num_heads, head_dim) : mma_sync_error_bound(num_heads, head_dim);
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

size_t CudaBackend::scores_workspace_size(const ScoreLimits &) const { return 0; }
size_t CudaBackend::score_select_workspace_size(const ScoreLimits &limits) const {
  return score_select_workspace_bytes(limits, limits_);
}
size_t CudaBackend::select_workspace_size(int32_t max_rows, int32_t max_end, int32_t k) const {
  return select_workspace_bytes(max_rows, max_end, k, limits_);
}
size_t CudaBackend::merge_workspace_size(int32_t max_rows, int32_t max_parts, int32_t k) const {
  return merge_workspace_bytes(max_rows, max_parts, k, limits_);
}
size_t CudaBackend::attend_workspace_size(const AttendLimits &limits) const {
  return attend_workspace_bytes(limits, limits_);
}

void CudaBackend::scores(const ScoresParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_scores(params, limits_, stream));
}

void CudaBackend::score_select(const ScoreSelectParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_score_select(params, limits_, stream));
}

void CudaBackend::select(const SelectParams &p, Stream stream) {
  const DeviceGuard device(primary_);
  const RowsView rows{p.rows, 1, p.max_end, nullptr, p.begin, p.end, nullptr};
  IC_CUDA_CHECK(
      launch_select({rows, p.scores, p.score_stride, 0, 0, p.out, p.workspace, p.workspace_size}, limits_, stream));
}

void CudaBackend::merge(const MergeParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_merge(params, limits_, stream));
}

void CudaBackend::attend(const AttendParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_attend(params, limits_, stream));
}

void CudaBackend::prepare_queries(const PrepareParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_prepare(params, limits_, stream));
}

void CudaBackend::prepare_keys(const PrepareParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_prepare(params, limits_, stream));
}

void CudaBackend::write_keys(const WriteKeysParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_write_keys(params, limits_, stream));
}

void CudaBackend::stamp(const StampParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_stamp(params, limits_, stream));
}

void CudaBackend::check_stamps(const CheckStampsParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_check_stamps(params, limits_, stream));
}

void CudaBackend::gather_rows(const GatherRowsParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_gather_rows(params, limits_, stream));
}

void CudaBackend::remap(const RemapParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_remap(params, limits_, stream));
}

void CudaBackend::overlap(const OverlapParams &params, Stream stream) {
  const DeviceGuard device(primary_);
  IC_CUDA_CHECK(launch_overlap(params, limits_, stream));
}

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

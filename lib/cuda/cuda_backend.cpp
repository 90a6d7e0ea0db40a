// SPDX-License-Identifier: Apache-2.0
// Memory, copies and launches of the CUDA backend.
#include "cuda/cuda_backend.h"

#include <cstdio>
#include <cstring>

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

constexpr size_t kCheckWordBytes = 256;

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

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  IC_CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
  return capture != cudaStreamCaptureStatusNone;
}

[[noreturn]] void fail_for_faults(const char *operation, uint32_t faults) {
  static constexpr struct {
    uint32_t bit;
    const char *text;
  } kTexts[] = {{IC_FAULT_KEY_END, "a key_end above max_key_end or a key_begin below 0 (IC_FAULT_KEY_END)"},
                {IC_FAULT_SEQUENCE, "a sequence number out of range (IC_FAULT_SEQUENCE)"},
                {IC_FAULT_PAGE, "a page or vector outside its pool (IC_FAULT_PAGE)"},
                {IC_FAULT_POSITION, "a position outside the cos/sin tables (IC_FAULT_POSITION)"},
                {IC_FAULT_SLOT, "a slot outside its pool or beyond int32 (IC_FAULT_SLOT)"},
                {IC_FAULT_EPOCH, "a row of another epoch or source (IC_FAULT_EPOCH)"},
                {IC_FAULT_ROW, "a row number out of range (IC_FAULT_ROW)"},
                {IC_FAULT_INDEX, "a list of indices that is none (IC_FAULT_INDEX)"}};
  char text[600] = "";
  size_t length = 0;
  for (const auto &fault : kTexts) {
    if ((faults & fault.bit) == 0) continue;
    length += static_cast<size_t>(
        std::snprintf(text + length, sizeof text - length, "%s%s", length == 0 ? "" : "; ", fault.text));
  }
  fail(IC_ERROR_OUT_OF_RANGE, "%s met illegal values in device memory: %s", operation, text);
}

/// The address by which the device reaches the memory of a block; null for pageable memory.
void *device_address(const void *block, int32_t device) {
  cudaPointerAttributes attributes;
  IC_CUDA_CHECK(cudaPointerGetAttributes(&attributes, block));
  if (attributes.type == cudaMemoryTypeUnregistered) return nullptr;
  if (attributes.devicePointer == nullptr || (attributes.type == cudaMemoryTypeDevice && attributes.device != device))
    fail(IC_ERROR_INVALID_ARGUMENT, "buffer is %p, memory of device %d; the context's device %d cannot write there",
         block, attributes.device, device);
  return attributes.devicePointer;
}

/// A block's lists into host memory that the device cannot reach. On return they are there.
void copy_lists(const ExportParams &p, cudaStream_t stream) {
  const auto rows = static_cast<size_t>(p.count);
  const size_t width = static_cast<size_t>(p.k) * 4;
  const size_t pitch = static_cast<size_t>(p.index_stride) * 4;
  auto *lists = static_cast<uint8_t *>(p.block) + sizeof p.header;
  if (rows > 0) {
    IC_CUDA_CHECK(cudaMemcpyAsync(lists, p.lengths, rows * 4, cudaMemcpyDeviceToHost, stream));
    lists += rows * 4;
    IC_CUDA_CHECK(cudaMemcpy2DAsync(lists, width, p.indices, pitch, width, rows, cudaMemcpyDeviceToHost, stream));
    lists += rows * width;
    if (p.scores != nullptr)
      IC_CUDA_CHECK(cudaMemcpy2DAsync(lists, width, p.scores, pitch, width, rows, cudaMemcpyDeviceToHost, stream));
  }
  IC_CUDA_CHECK(cudaStreamSynchronize(stream));
  std::memcpy(p.block, p.header, sizeof p.header);
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions &options)
    : primary_(options.device),
      device_(options.device),
      allocator_(options.allocator),
      limits_{0, options.max_ctas, 0, false} {
  const DeviceGuard device(primary_);
  const CaptureModeGuard capture_mode;
  IC_CUDA_CHECK(cudaDeviceGetAttribute(&limits_.num_processors, cudaDevAttrMultiProcessorCount, options.device));
  limits_.compute_capability = compute_capability(options.device);
  IC_CUDA_CHECK(find_sm90a(&limits_));
  // Everything is loaded here, so that no launch ever loads, sets an attribute or compiles PTX.
  IC_CUDA_CHECK(load_scores_f32());
  IC_CUDA_CHECK(load_scores_mma());
  IC_CUDA_CHECK(load_scores_sm90(limits_));
  IC_CUDA_CHECK(load_prepare());
  IC_CUDA_CHECK(load_write_keys());
  IC_CUDA_CHECK(load_select(limits_));
  IC_CUDA_CHECK(load_merge());
  IC_CUDA_CHECK(load_attend());
  IC_CUDA_CHECK(load_attention_mass());
  IC_CUDA_CHECK(load_index_sets());
  IC_CUDA_CHECK(load_overlap());
  IC_CUDA_CHECK(load_transport());
  IC_CUDA_CHECK(load_check_values());
  IC_CUDA_CHECK(cudaStreamCreateWithFlags(&create_stream_, cudaStreamNonBlocking));
  if (!options.check_values) return;
  check_word_ = static_cast<uint32_t *>(allocate(kCheckWordBytes));
  if (check_word_ == nullptr) {
    (void)cudaStreamDestroy(create_stream_);
    fail(IC_ERROR_OUT_OF_MEMORY, "%zu bytes of device memory for a context could not be allocated", kCheckWordBytes);
  }
}

CudaBackend::~CudaBackend() {
  (void)without_failure([&] {
    const DeviceGuard device(primary_);
    const CaptureModeGuard capture_mode;
    (void)cudaStreamDestroy(create_stream_);
  });
  release(check_word_, kCheckWordBytes);
}

uint32_t CudaBackend::indexer_dtypes() const noexcept { return kIndexerDtypes; }
uint32_t CudaBackend::attention_dtypes() const noexcept { return kAttentionDtypes; }
int32_t CudaBackend::max_k() const noexcept { return kMaxK; }

uint64_t CudaBackend::numerics_id(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept {
  if (dtype == IC_DTYPE_F32) return fma_chain_id(dtype);
  if (has_wgmma_scores(limits_.sm90a, num_heads, head_dim, dtype)) return wgmma_id(dtype);
  return mma_sync_id(dtype, limits_.compute_capability / 10);
}

double CudaBackend::error_bound(int32_t num_heads, int32_t head_dim, int32_t dtype) const noexcept {
  if (dtype == IC_DTYPE_F32) return fma_chain_error_bound(num_heads, head_dim);
  if (has_wgmma_scores(limits_.sm90a, num_heads, head_dim, dtype)) {
    return wgmma_e4m3_error_bound(num_heads, head_dim);
  }
  return mma_sync_error_bound(num_heads, head_dim);
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
size_t CudaBackend::attention_mass_workspace_size(const AttendLimits &limits) const {
  return attention_mass_workspace_bytes(limits);
}

void CudaBackend::require_stream(Stream stream) const {
  if (check_word_ == nullptr) return;
  const DeviceGuard device(primary_);
  if (is_capturing(stream))
    fail(IC_ERROR_INVALID_ARGUMENT,
         "stream is being captured; a context with IC_CONTEXT_CHECK_VALUES waits for every operation");
}

void CudaBackend::require_block(const void *block, int32_t location, Stream stream) const {
  const DeviceGuard device(primary_);
  const CaptureModeGuard capture_mode;
  cudaPointerAttributes attributes;
  IC_CUDA_CHECK(cudaPointerGetAttributes(&attributes, block));
  if (attributes.type == cudaMemoryTypeDevice && location == IC_MEMORY_HOST)
    fail(IC_ERROR_INVALID_ARGUMENT, "buffer is %p, device memory; host memory is expected", block);
  if (attributes.type != cudaMemoryTypeUnregistered) {
    (void)device_address(block, device_);
    return;
  }
  if (location == IC_MEMORY_DEVICE)
    fail(IC_ERROR_INVALID_ARGUMENT, "buffer is %p, host memory that no device knows; location is IC_MEMORY_DEVICE",
         block);
  if (is_capturing(stream))
    fail(IC_ERROR_INVALID_ARGUMENT, "buffer is %p, pageable memory; in a capture it must be pinned", block);
}

// What a checking context looks at beyond the operation's own kernels; nothing otherwise.

cudaError_t CudaBackend::check_rows(const RowsView &rows, Stream stream) const {
  return check_word_ == nullptr ? cudaSuccess : launch_check_rows(rows, limits_, stream);
}

cudaError_t CudaBackend::check_lengths(const int32_t *lengths, int64_t count, int32_t longest, uint32_t *fault,
                                       Stream stream) const {
  return check_word_ == nullptr ? cudaSuccess : launch_check_lengths(lengths, count, longest, fault, limits_, stream);
}

template <class Launch>
void CudaBackend::run(const char *operation, uint32_t *fault, Stream stream, Launch &&launch) {
  const DeviceGuard device(primary_);
  if (check_word_ == nullptr) {
    const cudaError_t error = launch(fault);
    if (error != cudaSuccess) fail_cuda(error, operation);
    return;
  }
  const std::lock_guard<std::mutex> lock(checking_);
  IC_CUDA_CHECK(cudaMemsetAsync(check_word_, 0, sizeof *check_word_, stream));
  const cudaError_t error = launch(check_word_);
  if (error != cudaSuccess) fail_cuda(error, operation);
  uint32_t faults = 0;
  IC_CUDA_CHECK(cudaMemcpyAsync(&faults, check_word_, sizeof faults, cudaMemcpyDeviceToHost, stream));
  const cudaError_t finished = cudaStreamSynchronize(stream);
  if (finished != cudaSuccess) fail_cuda(finished, operation);
  if (faults == 0) return;
  if (fault != nullptr) IC_CUDA_CHECK(launch_raise(fault, faults, stream));
  fail_for_faults(operation, faults);
}

void CudaBackend::scores(const ScoresParams &params, Stream stream) {
  run("ic_indexer_scores", params.rows.fault, stream, [&](uint32_t *fault) {
    ScoresParams p = params;
    p.rows.fault = fault;
    if (const cudaError_t error = check_rows(p.rows, stream); error != cudaSuccess) return error;
    return launch_scores(p, limits_, stream);
  });
}

void CudaBackend::score_select(const ScoreSelectParams &params, Stream stream) {
  run("ic_forward (scores and selection)", params.rows.fault, stream, [&](uint32_t *fault) {
    ScoreSelectParams p = params;
    p.rows.fault = fault;
    if (const cudaError_t error = check_rows(p.rows, stream); error != cudaSuccess) return error;
    return launch_score_select(p, limits_, stream);
  });
}

void CudaBackend::select(const SelectParams &p, Stream stream) {
  run("ic_topk_select", nullptr, stream, [&](uint32_t *fault) {
    const RowsView rows{p.rows, 1, p.max_end, nullptr, p.begin, p.end, fault};
    if (const cudaError_t error = check_rows(rows, stream); error != cudaSuccess) return error;
    return launch_select({rows, p.scores, p.score_stride, 0, 0, p.out, p.workspace, p.workspace_size}, limits_, stream);
  });
}

void CudaBackend::merge(const MergeParams &params, Stream stream) {
  run("ic_topk_merge", nullptr, stream, [&](uint32_t *fault) {
    for (int64_t part = 0; part < params.parts; ++part) {
      const int32_t *lengths = params.lengths + part * params.length_stride;
      if (const cudaError_t error = check_lengths(lengths, params.rows, params.out.k, fault, stream);
          error != cudaSuccess)
        return error;
    }
    return launch_merge(params, limits_, stream);
  });
}

void CudaBackend::attend(const AttendParams &params, Stream stream) {
  run("attention (ic_forward or ic_attention_run)", params.rows.fault, stream, [&](uint32_t *fault) {
    AttendParams p = params;
    p.rows.fault = fault;
    if (const cudaError_t error = check_lengths(p.lengths, p.rows.count, p.num_indices, fault, stream);
        error != cudaSuccess)
      return error;
    return launch_attend(p, limits_, stream);
  });
}

void CudaBackend::attention_mass(const AttentionMassParams &params, Stream stream) {
  run("ic_attention_mass", params.attend.rows.fault, stream, [&](uint32_t *fault) {
    AttentionMassParams p = params;
    p.attend.rows.fault = fault;
    if (const cudaError_t error =
            check_lengths(p.attend.lengths, p.attend.rows.count, p.attend.num_indices, fault, stream);
        error != cudaSuccess)
      return error;
    return launch_attention_mass(p, limits_, stream);
  });
}

void CudaBackend::prepare(const char *operation, const PrepareParams &params, Stream stream) {
  run(operation, params.fault, stream, [&](uint32_t *fault) {
    PrepareParams p = params;
    p.fault = fault;
    return launch_prepare(p, limits_, stream);
  });
}

void CudaBackend::prepare_queries(const PrepareParams &params, Stream stream) {
  prepare("ic_indexer_prepare_queries", params, stream);
}

void CudaBackend::prepare_keys(const PrepareParams &params, Stream stream) {
  prepare("ic_indexer_prepare_keys", params, stream);
}

void CudaBackend::write_keys(const WriteKeysParams &params, Stream stream) {
  run("ic_forward (new_keys)", params.fault, stream, [&](uint32_t *fault) {
    WriteKeysParams p = params;
    p.fault = fault;
    return launch_write_keys(p, limits_, stream);
  });
}

void CudaBackend::stamp(const StampParams &params, Stream stream) {
  run("stamping rows", nullptr, stream, [&](uint32_t *) { return launch_stamp(params, limits_, stream); });
}

void CudaBackend::check_stamps(const CheckStampsParams &params, Stream stream) {
  run("checking the epoch of rows", params.fault, stream, [&](uint32_t *fault) {
    CheckStampsParams p = params;
    p.fault = fault;
    return launch_check_stamps(p, limits_, stream);
  });
}

void CudaBackend::gather_rows(const GatherRowsParams &params, Stream stream) {
  run("ic_cache_compact", params.fault, stream, [&](uint32_t *fault) {
    GatherRowsParams p = params;
    p.fault = fault;
    return launch_gather_rows(p, limits_, stream);
  });
}

void CudaBackend::remap(const RemapParams &params, Stream stream) {
  run("ic_cache_remap", params.rows.fault, stream, [&](uint32_t *fault) {
    RemapParams p = params;
    p.rows.fault = fault;
    return launch_remap(p, limits_, stream);
  });
}

void CudaBackend::overlap(const OverlapParams &params, Stream stream) {
  run("ic_index_overlap", nullptr, stream, [&](uint32_t *fault) {
    cudaError_t error = check_lengths(params.a_lengths, params.count, params.a_k, fault, stream);
    if (error == cudaSuccess) error = check_lengths(params.b_lengths, params.count, params.b_k, fault, stream);
    if (error != cudaSuccess) return error;
    return launch_overlap(params, limits_, stream);
  });
}

void CudaBackend::export_rows(const ExportParams &params, Stream stream) {
  run("ic_cache_export", nullptr, stream, [&](uint32_t *) {
    ExportParams p = params;
    p.block = [&] {
      const CaptureModeGuard capture_mode;
      return device_address(params.block, device_);
    }();
    if (p.block != nullptr) return launch_export_rows(p, limits_, stream);
    copy_lists(params, stream);
    return cudaSuccess;
  });
}

void CudaBackend::import_rows(const ImportParams &params, Stream stream) {
  if (params.rows.count == 0) return;
  run("ic_cache_import", params.rows.fault, stream, [&](uint32_t *fault) {
    ImportParams p = params;
    p.rows.fault = fault;
    const auto rows = static_cast<size_t>(p.rows.count);
    const size_t width = static_cast<size_t>(p.k) * 4;
    const size_t pitch = static_cast<size_t>(p.k_padded) * 4;
    const auto *lists = static_cast<const uint8_t *>(p.body);
    IC_CUDA_CHECK(cudaMemcpyAsync(p.lengths, lists, rows * 4, cudaMemcpyHostToDevice, stream));
    lists += rows * 4;
    IC_CUDA_CHECK(cudaMemcpy2DAsync(p.indices, pitch, lists, width, width, rows, cudaMemcpyHostToDevice, stream));
    lists += rows * width;
    if (p.scores != nullptr)
      IC_CUDA_CHECK(cudaMemcpy2DAsync(p.scores, pitch, lists, width, width, rows, cudaMemcpyHostToDevice, stream));
    return launch_check_imported(p, limits_, stream);
  });
}

uint32_t CudaBackend::read_faults(uint32_t *word, bool clear, Stream stream) {
  const DeviceGuard device(primary_);
  if (is_capturing(stream))
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

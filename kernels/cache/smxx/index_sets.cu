// SPDX-License-Identifier: Apache-2.0
// Published index sets row by row: stamps of an epoch, rows moved, logical positions to slots.
//
// Bound: bytes. A CTA takes a segment of one row, so that few long rows fill the chip as well as many; 16 bytes per
// access where addresses and strides allow it.
#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/cache/launch.h"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kThreadEntries = 4;
constexpr int kSegment = kThreads * kThreadEntries;  // entries of a row that a CTA takes at once

/// Rows cut into segments.
struct Plan {
  int64_t num_items;
  int32_t segments;  // of a row
  int32_t wide;      // 1: four entries start on 16 bytes everywhere
};

cudaLaunchConfig_t config_of(int64_t ctas, const LaunchLimits &limits, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(ctas));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return config;
}

Plan plan_rows(int64_t rows, int32_t width, bool wide) {
  Plan plan = {};
  plan.segments = width <= kSegment ? 1 : (width - 1) / kSegment + 1;
  plan.num_items = rows * plan.segments;
  plan.wide = wide ? 1 : 0;
  return plan;
}

bool on_16_bytes(const void *pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride % kThreadEntries == 0;
}

__device__ uint64_t stamp_of(int32_t source_layer, uint32_t epoch) {
  return uint64_t{static_cast<uint32_t>(source_layer)} << 32 | epoch;
}

__global__ void __launch_bounds__(kThreads) stamp_kernel(const __grid_constant__ StampParams p) {
  const uint64_t stamp = stamp_of(p.source_layer, *p.epoch);
  for (int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x; row < p.count;
       row += int64_t{gridDim.x} * kThreads) {
    p.stamps[row] = stamp;
  }
}

__global__ void __launch_bounds__(kThreads) check_stamps_kernel(const __grid_constant__ CheckStampsParams p) {
  const uint64_t wanted = stamp_of(p.source_layer, *p.epoch);
  uint32_t fault = 0;
  for (int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x; row < p.count;
       row += int64_t{gridDim.x} * kThreads) {
    const bool current = p.stamps[row] == wanted;
    p.checked_lengths[row] = current ? p.lengths[row] : 0;
    if (!current) fault |= IC_FAULT_EPOCH;
  }
  report_fault(p.fault, fault);
}

__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(const __grid_constant__ GatherRowsParams p, const __grid_constant__ Plan plan) {
  uint32_t fault = 0;
  for (int64_t item = blockIdx.x; item < plan.num_items; item += gridDim.x) {
    const int64_t row = item / plan.segments;
    const auto first = static_cast<int32_t>(item - row * plan.segments) * kSegment;
    int64_t from = p.rows == nullptr ? row : p.rows[row];
    if (from < -1 || from >= p.source_rows) {
      if (first == 0 && threadIdx.x == 0) fault |= IC_FAULT_ROW;
      from = -1;
    }
    if (first == 0 && threadIdx.x == 0) p.out_lengths[row] = from < 0 ? 0 : p.lengths[from];
    const int32_t copied = from < 0 ? 0 : p.width;
    const int64_t source = from < 0 ? 0 : from * p.index_stride;
    const int64_t target = row * p.out_stride;
    if (plan.wide != 0) {
      const int64_t e = first + static_cast<int32_t>(threadIdx.x) * kThreadEntries;
      if (e >= p.padded_width) continue;
      int4 indices{-1, -1, -1, -1};
      if (e < copied) indices = *reinterpret_cast<const int4 *>(p.indices + source + e);
      *reinterpret_cast<int4 *>(p.out_indices + target + e) = indices;
      if (p.out_scores == nullptr) continue;
      float4 scores{-INFINITY, -INFINITY, -INFINITY, -INFINITY};
      if (e < copied) scores = *reinterpret_cast<const float4 *>(p.scores + source + e);
      *reinterpret_cast<float4 *>(p.out_scores + target + e) = scores;
      continue;
    }
#pragma unroll
    for (int j = 0; j < kThreadEntries; ++j) {
      const int64_t e = first + j * kThreads + static_cast<int32_t>(threadIdx.x);
      if (e >= p.padded_width) break;
      p.out_indices[target + e] = e < copied ? p.indices[source + e] : -1;
      if (p.out_scores != nullptr) p.out_scores[target + e] = e < copied ? p.scores[source + e] : -INFINITY;
    }
  }
  report_fault(p.fault, fault);
}

/// The slot of a position, -1 when its page is not there; adds IC_FAULT_SLOT for one that is no slot number.
__device__ int32_t slot_of(const RemapParams &p, int32_t page_shift, int32_t seq, int32_t position, uint32_t *fault) {
  if (position < 0) return -1;
  int64_t slot = -1;
  if (page_shift < 0) {
    const int64_t offset = p.key_offsets == nullptr ? 0 : p.key_offsets[seq];
    // 0 <= offset + position <= INT32_MAX, without a sum that could overflow
    if (offset < -int64_t{position} || offset > INT32_MAX - int64_t{position}) {
      *fault |= IC_FAULT_SLOT;
      return -1;
    }
    slot = offset + position;
  } else {
    const int32_t block = position >> page_shift;
    const int32_t page = block < p.num_blocks ? p.block_table[seq * p.block_table_stride + block] : -1;
    if (page < 0) return -1;
    slot = (int64_t{page} << page_shift) + (position - (block << page_shift));
    if (slot > INT32_MAX) {
      *fault |= IC_FAULT_SLOT;
      return -1;
    }
  }
  return static_cast<int32_t>(slot);
}

/// out_lengths may be lengths: a length is written by the first segment alone, and reading it before or after that
/// gives the same row.
__global__ void __launch_bounds__(kThreads)
    remap_kernel(const __grid_constant__ RemapParams p, const __grid_constant__ Plan plan, int32_t page_shift) {
  uint32_t fault = 0;
  for (int64_t item = blockIdx.x; item < plan.num_items; item += gridDim.x) {
    const int64_t row = item / plan.segments;
    const auto first = static_cast<int32_t>(item - row * plan.segments) * kSegment;
    const int32_t seq = p.rows.seq == nullptr ? 0 : p.rows.seq[row];
    const bool has_seq = seq >= 0 && seq < p.rows.num_seqs;
    const int32_t given = min(max(p.lengths[row], 0), p.k_padded);
    const int32_t length = has_seq ? given : 0;
    __syncthreads();  // all threads have read the length
    if (first == 0 && threadIdx.x == 0) {
      if (!has_seq && given > 0) fault |= IC_FAULT_SEQUENCE;
      p.out_lengths[row] = length;
    }
    const int32_t *indices = p.indices + row * p.index_stride;
    int32_t *slots = p.slots + row * p.slot_stride;
    if (plan.wide != 0) {
      const int32_t e = first + static_cast<int32_t>(threadIdx.x) * kThreadEntries;
      if (e >= p.k_padded) continue;
      int4 at{-1, -1, -1, -1};
      if (e < length) at = *reinterpret_cast<const int4 *>(indices + e);
      int4 to{-1, -1, -1, -1};
      if (e < length) to.x = slot_of(p, page_shift, seq, at.x, &fault);
      if (e + 1 < length) to.y = slot_of(p, page_shift, seq, at.y, &fault);
      if (e + 2 < length) to.z = slot_of(p, page_shift, seq, at.z, &fault);
      if (e + 3 < length) to.w = slot_of(p, page_shift, seq, at.w, &fault);
      *reinterpret_cast<int4 *>(slots + e) = to;
      continue;
    }
#pragma unroll
    for (int j = 0; j < kThreadEntries; ++j) {
      const int32_t e = first + j * kThreads + static_cast<int32_t>(threadIdx.x);
      if (e < p.k_padded) slots[e] = e < length ? slot_of(p, page_shift, seq, indices[e], &fault) : -1;
    }
  }
  report_fault(p.rows.fault, fault);
}

}  // namespace

cudaError_t load_index_sets() {
  cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, stamp_kernel);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, check_stamps_kernel);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, gather_rows_kernel);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, remap_kernel);
  return error;
}

cudaError_t launch_stamp(const StampParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = config_of((params.count - 1) / kThreads + 1, limits, stream);
  return cudaLaunchKernelEx(&config, stamp_kernel, params);
}

cudaError_t launch_check_stamps(const CheckStampsParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = config_of((params.count - 1) / kThreads + 1, limits, stream);
  return cudaLaunchKernelEx(&config, check_stamps_kernel, params);
}

cudaError_t launch_gather_rows(const GatherRowsParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  const bool wide = params.width % kThreadEntries == 0 && params.padded_width % kThreadEntries == 0 &&
                    on_16_bytes(params.indices, params.index_stride) &&
                    on_16_bytes(params.out_indices, params.out_stride) && on_16_bytes(params.scores, 0) &&
                    on_16_bytes(params.out_scores, 0);
  const Plan plan = plan_rows(params.count, params.padded_width, wide);
  const cudaLaunchConfig_t config = config_of(plan.num_items, limits, stream);
  return cudaLaunchKernelEx(&config, gather_rows_kernel, params, plan);
}

cudaError_t launch_remap(const RemapParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count == 0) return cudaSuccess;
  const bool wide = params.k_padded % kThreadEntries == 0 && params.index_stride >= params.k_padded &&
                    on_16_bytes(params.indices, params.index_stride) && on_16_bytes(params.slots, params.slot_stride);
  const Plan plan = plan_rows(params.rows.count, params.k_padded, wide);
  int32_t page_shift = -1;
  for (int32_t tokens = params.page_tokens; tokens != 0; tokens >>= 1) ++page_shift;
  const cudaLaunchConfig_t config = config_of(plan.num_items, limits, stream);
  return cudaLaunchKernelEx(&config, remap_kernel, params, plan, page_shift);
}

}  // namespace ic::cuda

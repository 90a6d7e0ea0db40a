// SPDX-License-Identifier: Apache-2.0
// Ready keys into the slots of a pool, bytes unchanged; e4m3 scales behind the page's vectors or into their own array.
//
// Bound: bytes, each key read once and written once.
//
//   thread   four pieces of keys: 16 bytes each where every address allows it, else 4, else 1. Neighbours copy
//            neighbouring pieces; the thread of a key's first piece also writes the scale.
#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kThreadPieces = 4;

struct Plan {
  int64_t num_pieces;    // of all keys
  int32_t piece_shift;   // log2 of the pieces of a key
  int32_t page_shift;    // log2(page_tokens), -1 = contiguous
  int64_t vector_bytes;  // of a key
};

template <class Piece>
__global__ void __launch_bounds__(kThreads)
    write_keys_kernel(const __grid_constant__ WriteKeysParams p, const __grid_constant__ Plan plan) {
  uint32_t fault = 0;
  for (int64_t first = int64_t{blockIdx.x} * kThreads * kThreadPieces + threadIdx.x; first < plan.num_pieces;
       first += int64_t{gridDim.x} * kThreads * kThreadPieces) {
    int64_t slots[kThreadPieces];
    Piece values[kThreadPieces];
#pragma unroll
    for (int j = 0; j < kThreadPieces; ++j) {  // all loads before the first store
      const int64_t i = first + j * kThreads;
      slots[j] = -1;
      if (i >= plan.num_pieces) continue;
      const int64_t key = i >> plan.piece_shift;
      slots[j] = p.slots[key];
      values[j] = reinterpret_cast<const Piece *>(static_cast<const uint8_t *>(p.keys) +
                                                  key * p.key_stride_bytes)[i - (key << plan.piece_shift)];
    }
#pragma unroll
    for (int j = 0; j < kThreadPieces; ++j) {
      const int64_t slot = slots[j];
      if (slot == -1) continue;
      const int64_t page = plan.page_shift < 0 ? slot : slot >> plan.page_shift;
      if (slot < 0 || page >= p.pool.capacity) {
        fault |= IC_FAULT_SLOT;
        continue;
      }
      const int64_t i = first + j * kThreads;
      const int64_t key = i >> plan.piece_shift;
      const int64_t piece = i - (key << plan.piece_shift);
      const int64_t token = plan.page_shift < 0 ? 0 : slot - (page << plan.page_shift);
      uint8_t *base = p.pool.data + page * p.pool.stride_bytes;
      reinterpret_cast<Piece *>(base + token * plan.vector_bytes)[piece] = values[j];
      if (p.dtype != IC_DTYPE_E4M3 || piece != 0) continue;
      float *scales = plan.page_shift < 0
                          ? p.pool.scales + page
                          : reinterpret_cast<float *>(base + (plan.vector_bytes << plan.page_shift)) + token;
      *scales = p.scales[key];
    }
  }
  report_fault(p.fault, fault);
}

template <class Piece>
cudaError_t load_kernel() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, write_keys_kernel<Piece>);
}

template <class Piece>
cudaError_t launch(const WriteKeysParams &params, Plan plan, const LaunchLimits &limits, cudaStream_t stream) {
  const auto pieces = plan.vector_bytes / static_cast<int64_t>(sizeof(Piece));
  plan.piece_shift = 0;
  while (int64_t{1} << plan.piece_shift < pieces) ++plan.piece_shift;  // vectors are powers of two
  plan.num_pieces = params.count << plan.piece_shift;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid((plan.num_pieces - 1) / (kThreads * kThreadPieces) + 1));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, write_keys_kernel<Piece>, params, plan);
}

bool all_multiples_of(const WriteKeysParams &p, int64_t bytes) {
  const auto addresses = reinterpret_cast<uintptr_t>(p.keys) | reinterpret_cast<uintptr_t>(p.pool.data) |
                         static_cast<uintptr_t>(p.key_stride_bytes) | static_cast<uintptr_t>(p.pool.stride_bytes);
  return addresses % static_cast<uintptr_t>(bytes) == 0;
}

}  // namespace

cudaError_t load_write_keys() {
  cudaError_t error = load_kernel<uint4>();
  if (error == cudaSuccess) error = load_kernel<uint32_t>();
  if (error == cudaSuccess) error = load_kernel<uint8_t>();
  return error;
}

cudaError_t launch_write_keys(const WriteKeysParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  Plan plan = {};
  plan.vector_bytes = int64_t{params.head_dim} * (params.dtype == IC_DTYPE_F32    ? 4
                                                  : params.dtype == IC_DTYPE_E4M3 ? 1
                                                                                  : 2);
  plan.page_shift = -1;
  for (int32_t tokens = params.pool.page_tokens; tokens != 0; tokens >>= 1) ++plan.page_shift;
  if (all_multiples_of(params, 16)) return launch<uint4>(params, plan, limits, stream);
  if (all_multiples_of(params, 4)) return launch<uint32_t>(params, plan, limits, stream);
  return launch<uint8_t>(params, plan, limits, stream);
}

}  // namespace ic::cuda

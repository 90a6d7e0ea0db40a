// SPDX-License-Identifier: Apache-2.0
// Index scores of e4m3 with 32 or 64 heads of 128 elements on Hopper's tensor cores (wgmma): keys on the rows of a
// product and (queries x heads) on its columns, both from shared memory.
//
// Bound: prefill 2 * H * D flop per (row, key) and two instructions per accumulator; decode the keys' bytes.
//
//   thread block  one per processor: two or four warpgroups that multiply, one or four warps that load keys
//                 (load_keys.cuh), in decode one or four that load queries
//   work          plan.cuh: every thread block takes an equal range of stages of 256 or 128 keys, whatever the rows see
//   layouts       queries.cuh: many rows of one sequence share a tile of keys (multiply_many.cuh), or one row has it
//                 (multiply_few.cuh); contiguous keys, pages and odd addresses differ in the loader only
//
// A score passes the same instructions in the same order whatever the layout, stage, window or page is: that is what
// wgmma_id names. A product's value depends on its own row and column only; the order of the heads is in queries.cuh.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/indexer/sm90/load_keys.cuh"
#include "kernels/indexer/sm90/multiply_few.cuh"
#include "kernels/indexer/sm90/multiply_many.cuh"
#include "kernels/indexer/sm90/pipeline.cuh"
#include "kernels/indexer/sm90/plan.cuh"
#include "kernels/indexer/sm90/queries.cuh"
#include "kernels/ptx/dependent_launch.cuh"

namespace ic::cuda {
namespace {

using sm90::Plan;

constexpr int32_t kManyRowsPerSequence = 3;  // from here on rows share their keys

/// Whole warpgroups can share registers: those of the loaders are filled up with idle warps. Decode with loaders that
/// copy has one warp for queries and no registers for idle ones beside it.
[[maybe_unused]] __host__ __device__ constexpr bool shares_registers(bool many, bool tensor_map) {
  return many || tensor_map;
}
__host__ __device__ constexpr int threads_of(bool many, bool tensor_map) {
  const int math = 128 * sm90::math_warpgroups(many, tensor_map);
  return math + 128 + (many ? 0 : 32 * sm90::query_warps(tensor_map));
}

__host__ __device__ constexpr uint32_t query_bytes(int heads, bool many) {
  return 2 * static_cast<uint32_t>(many ? 256 : heads) * sm90::kKeyBytes;
}
constexpr uint32_t shared_bytes(int heads, bool many) {
  return sm90::kRingBytes + query_bytes(heads, many) + static_cast<uint32_t>(sizeof(sm90::Control));
}

template <int kHeads, bool kMany, bool kTensorMap>
__global__ void __launch_bounds__(threads_of(kMany, kTensorMap), 1)
    scores_sm90_kernel(const __grid_constant__ sm90::TensorMaps maps, const __grid_constant__ ScoresParams p,
                       const __grid_constant__ Plan plan) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Stages = sm90::Ring<kMany>;
  constexpr int kThreads = threads_of(kMany, kTensorMap);
  constexpr int kMathThreads = 128 * sm90::math_warpgroups(kMany, kTensorMap);
  constexpr int kLoaders = sm90::loader_warps(kMany, kTensorMap);
  constexpr int kQueryThreads = 32 * sm90::query_warps(kTensorMap);
  // Prefill starts with 168 registers for each of 3 warpgroups. Measured: 64 heads are 0.6 % faster so, 32 heads 1.1 %
  // otherwise. Decode with tensor maps starts with 80 for each of 6; without, nothing is shared.
  constexpr int kQueryRegisters = 40;
  constexpr int kLoaderRegisters = !kMany || !kTensorMap ? 56 : kHeads == 64 ? 40 : 24;
  constexpr int kMathRegisters =
      kMany ? 252 - kLoaderRegisters / 2 : 80 + (2 * 80 - kLoaderRegisters - kQueryRegisters) / 4;
  constexpr int kRows = sm90::QueryLayout<kHeads, kMany>::kGroupRows;
  extern __shared__ __align__(1024) uint8_t shared[];
  uint8_t *keys = shared;
  uint8_t *queries = keys + sm90::kRingBytes;
  auto &control = *reinterpret_cast<sm90::Control *>(queries + query_bytes(kHeads, kMany));
  if (!kMany && plan.next_may_start != 0) ptx::let_next_kernel_start();
  if (threadIdx.x == 0) {
    sm90::init_barriers(control, sm90::stage_writers(kTensorMap), Stages::kReaders, kQueryThreads, kMathThreads / 32);
  }
  if (kTensorMap && threadIdx.x == kMathThreads) {
    ptx::prefetch_tensor_map(&maps.keys);
    ptx::prefetch_tensor_map(&maps.scales);
  }
  if constexpr (!kMany) ptx::wait_for_previous_kernel();
  if (plan.num_chunks > 1 || plan.chunk_rows > 32) {
    sm90::count_stages<kRows, Stages::kKeys, kThreads>(p, plan, control.chunks);
  }
  __syncthreads();
  if (p.others == OtherColumns::kClean) {
    for (int32_t row = static_cast<int32_t>(blockIdx.x); row < p.rows.count; row += static_cast<int32_t>(gridDim.x)) {
      uint32_t fault = 0;  // has been reported
      clean_columns(p, row, window_range(p, row, &fault), threadIdx.x, kThreads);
    }
  }
  if (threadIdx.x < kMathThreads) {
    if constexpr (shares_registers(kMany, kTensorMap)) ptx::take_registers<kMathRegisters>();
    if constexpr (kMany) {
      sm90::score_many<kHeads>(p, plan, control, keys, queries);
    } else {
      sm90::score_few<kHeads, kMathThreads / 128>(p, control, keys, queries);
    }
  } else if (kMany || threadIdx.x < kMathThreads + 128) {
    if constexpr (shares_registers(kMany, kTensorMap)) ptx::give_registers<kLoaderRegisters>();
    const int warp = (static_cast<int>(threadIdx.x) - kMathThreads) / 32;
    if (warp < kLoaders) {
      sm90::Loader<kMany, kTensorMap> loader{p, plan, maps, control, keys, warp, static_cast<int>(threadIdx.x) % 32};
      loader.template run<kRows>();
    }
  } else if constexpr (!kMany) {
    if constexpr (shares_registers(kMany, kTensorMap)) ptx::give_registers<kQueryRegisters>();
    sm90::load_queries<kHeads, kQueryThreads>(p, plan, control, queries,
                                              static_cast<int>(threadIdx.x) - kMathThreads - 128);
  }
#endif
}

/// cuTensorMapEncodeTiled of the driver; null when it has none.
std::atomic<decltype(&cuTensorMapEncodeTiled)> encode_tensor_map{nullptr};

bool is_paged_for_boxes(const PoolView &pool) { return pool.page_tokens >= 16 && pool.page_tokens <= 128; }

/// False: the pool must be loaded another way.
bool make_maps(const PoolView &pool, bool many, sm90::TensorMaps *maps) {
  const auto encode = encode_tensor_map.load(std::memory_order_relaxed);
  const auto bits = reinterpret_cast<uintptr_t>(pool.data) | static_cast<uintptr_t>(pool.stride_bytes);
  if (encode == nullptr || bits % 16 != 0 || pool.capacity < 1 || pool.capacity > INT32_MAX - (1 << 25)) return false;
  if (pool.page_tokens != 0 && !is_paged_for_boxes(pool)) return false;
  const bool paged = pool.page_tokens != 0;
  const cuuint32_t stage_keys = sm90::stage_keys(many);
  const auto tokens = static_cast<cuuint64_t>(pool.page_tokens);
  const auto capacity = static_cast<cuuint64_t>(pool.capacity);
  const cuuint64_t sizes[3] = {sm90::kKeyBytes, paged ? tokens : capacity, capacity};
  const auto stride = static_cast<cuuint64_t>(pool.stride_bytes);
  const cuuint64_t strides[2] = {paged ? sm90::kKeyBytes : stride, stride};  // bytes, of dimensions 1 and 2
  const cuuint32_t box[3] = {sm90::kKeyBytes, paged ? static_cast<cuuint32_t>(tokens) : stage_keys, 1};
  const cuuint32_t steps[3] = {1, 1, 1};
  if (encode(&maps->keys, CU_TENSOR_MAP_DATA_TYPE_UINT8, paged ? 3 : 2, pool.data, sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS) {
    return false;
  }
  if (paged) return true;
  return encode(&maps->scales, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 1, pool.scales, &capacity, strides, &stage_keys, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

Plan make_plan(const ScoresParams &p, const LaunchLimits &limits) {
  Plan plan;
  plan.next_may_start = start_early(limits) ? 1 : 0;
  plan.page_shift = page_shift(p.keys);
  const auto key_bits = reinterpret_cast<uintptr_t>(p.keys.data) | static_cast<uintptr_t>(p.keys.stride_bytes);
  plan.key_unit = key_bits % 16 == 0 ? 16 : key_bits % 4 == 0 ? 4 : 1;
  const auto query_bits = reinterpret_cast<uintptr_t>(p.query.q) | static_cast<uintptr_t>(p.query.q_row_stride);
  plan.queries_aligned = query_bits % 16 == 0 ? 1 : 0;
  const int64_t blocks = (int64_t{p.rows.count} + 31) / 32;  // of 32 rows
  const int64_t per_chunk = (blocks + sm90::kMaxChunks - 1) / sm90::kMaxChunks;
  plan.chunk_rows = static_cast<int32_t>(per_chunk * 32);
  plan.num_chunks = static_cast<int32_t>((blocks + per_chunk - 1) / per_chunk);
  return plan;
}

template <int kHeads, bool kMany, bool kTensorMap>
cudaError_t launch(const sm90::TensorMaps &maps, const ScoresParams &params, const LaunchLimits &limits,
                   cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(limits.num_processors));
  config.blockDim = dim3(static_cast<unsigned>(threads_of(kMany, kTensorMap)));
  config.dynamicSmemBytes = shared_bytes(kHeads, kMany);
  config.stream = stream;
  cudaLaunchAttribute dependent = dependent_launch(limits);
  config.attrs = &dependent;
  config.numAttrs = kMany ? 0 : 1;  // prefill waits for the kernel in front as usual: it takes long enough
  return cudaLaunchKernelEx(&config, scores_sm90_kernel<kHeads, kMany, kTensorMap>, maps, params,
                            make_plan(params, limits));
}

template <int kHeads>
cudaError_t launch_heads(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  sm90::TensorMaps maps = {};
  const bool many = params.rows.count >= int64_t{kManyRowsPerSequence} * params.rows.num_seqs;
  const bool boxes = make_maps(params.keys, many, &maps);
  if (many) {
    return boxes ? launch<kHeads, true, true>(maps, params, limits, stream)
                 : launch<kHeads, true, false>(maps, params, limits, stream);
  }
  return boxes ? launch<kHeads, false, true>(maps, params, limits, stream)
               : launch<kHeads, false, false>(maps, params, limits, stream);
}

template <int kHeads, bool kMany, bool kTensorMap>
cudaError_t load() {
  cudaFuncAttributes attributes;
  const auto kernel = scores_sm90_kernel<kHeads, kMany, kTensorMap>;
  cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(shared_bytes(kHeads, kMany)));
}

template <int kHeads>
cudaError_t load_heads() {
  cudaError_t error = load<kHeads, false, false>();
  if (error == cudaSuccess) error = load<kHeads, false, true>();
  if (error == cudaSuccess) error = load<kHeads, true, false>();
  if (error == cudaSuccess) error = load<kHeads, true, true>();
  return error;
}

}  // namespace

cudaError_t load_scores_sm90(const LaunchLimits &limits) {
  if (!limits.sm90a) return cudaSuccess;
  void *function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found) ==
          cudaSuccess &&
      found == cudaDriverEntryPointSuccess) {
    encode_tensor_map.store(reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function), std::memory_order_relaxed);
  }
  (void)cudaGetLastError();
  cudaError_t error = load_heads<32>();
  if (error == cudaSuccess) error = load_heads<64>();
  return error;
}

cudaError_t launch_scores_sm90(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count == 0 || params.num_columns == 0) return cudaSuccess;
  return params.query.num_heads == 64 ? launch_heads<64>(params, limits, stream)
                                      : launch_heads<32>(params, limits, stream);
}

}  // namespace ic::cuda

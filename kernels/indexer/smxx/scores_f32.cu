// SPDX-License-Identifier: Apache-2.0
// fp32 index scores on the CUDA cores of any chip, in the CPU backend's arithmetic: chains of fused multiply-adds whose
// order no tile, split or page changes.
//
// Bound: 2 * H * (D + 1) flop per (row, key), on the fp32 units; a key's 4 * D bytes are read once per group of rows.
//
//   work item     a group of consecutive rows x every splits-th tile of 64 keys of the group
//   run           consecutive rows of a group that read one sequence: they share a tile in shared memory
//   pair tile     64 (row, head) pairs of a run, rows in order and heads ascending; pairs x keys is a matrix product,
//                 8 pairs x 4 keys in the registers of a thread
//   head sum      the pair tile's dot products go through shared memory; one thread per (row, key) adds them up. A row
//                 whose heads lie in two pair tiles carries its sum over.
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/indexer/smxx/score_columns.cuh"
#include "kernels/views/pool.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kCtasPerProcessor = 3;
constexpr int kTileKeys = 64;
constexpr int kTilePairs = 64;
constexpr int kKeyThreads = 16;                          // threads side by side along the keys
constexpr int kPairThreads = kThreads / kKeyThreads;     // and along the pairs
constexpr int kThreadKeys = kTileKeys / kKeyThreads;     // keys k, k + 16, ... of one thread
constexpr int kThreadPairs = kTilePairs / kPairThreads;  // pairs p, p + 8, ... of one thread
constexpr int kGroupPairs = 256;                         // rows of a group: as many as make this many pairs
constexpr int kMaxGroupRows = 32;
constexpr int kDotStride = kTileKeys + 16;  // two rows of a warp's store fall into different banks

template <int kHeadDim>
struct Shared {
  static constexpr int kStride = kHeadDim + 4;  // 16 bytes aside: eight consecutive vectors cover all banks
  alignas(16) float keys[kTileKeys][kStride];
  union {
    alignas(16) float queries[kTilePairs][kStride];
    float dots[kTilePairs][kDotStride];  // after relu
  };
  const float *key_at[kTileKeys];     // null: not there, or no row of the run sees it
  const float *query_at[kTilePairs];  // null: its row sees nothing of the tile
  float weights[kTilePairs];
  float carry[2][kTileKeys];  // head sum of the row that a pair tile ends in; read and write sides alternate
  RowRange rows[kMaxGroupRows];
};

/// Shape of the launch, from values that a captured graph keeps.
struct Plan {
  int64_t num_items;  // groups * splits
  int32_t group_rows;
  int32_t splits;
  int32_t num_groups;
  int32_t page_shift;       // log2(page_tokens), -1 = contiguous
  int32_t keys_aligned;     // 1: every key starts on 16 bytes
  int32_t queries_aligned;  // likewise
};

/// Address of a key, or null when it is not there.
__device__ const float *find_key(const PoolView &pool, int32_t shift, int32_t head_dim, int32_t seq, int32_t position,
                                 uint32_t *fault) {
  return reinterpret_cast<const float *>(
      vector_at(pool, find_place(pool, shift, seq, position, fault), int64_t{head_dim} * 4));
}

/// Starts the copy of 64 vectors into rows of shared memory; a null one becomes zeros.
template <int kHeadDim>
__device__ void copy_vectors(const float *const (&from)[kTileKeys], bool aligned,
                             float (&to)[kTileKeys][Shared<kHeadDim>::kStride]) {
  constexpr int kPieces = kHeadDim / 4;
  if (aligned) {
#pragma unroll 4
    for (int i = threadIdx.x; i < kTileKeys * kPieces; i += kThreads) {
      const float *vector = from[i / kPieces];
      float *piece = &to[i / kPieces][i % kPieces * 4];
      if (vector != nullptr) {
        __pipeline_memcpy_async(piece, vector + i % kPieces * 4, 16);
      } else {
        *reinterpret_cast<float4 *>(piece) = float4{0.0f, 0.0f, 0.0f, 0.0f};
      }
    }
  } else {
#pragma unroll 4
    for (int i = threadIdx.x; i < kTileKeys * kHeadDim; i += kThreads) {
      const float *vector = from[i / kHeadDim];
      float *element = &to[i / kHeadDim][i % kHeadDim];
      if (vector != nullptr) {
        __pipeline_memcpy_async(element, vector + i % kHeadDim, 4);
      } else {
        *element = 0.0f;
      }
    }
  }
}

/// relu(q . k) of all pairs and keys of the tiles; one chain per product, d ascending from +0.
template <int kHeadDim>
__device__ void multiply(Shared<kHeadDim> &shared) {
  const int key = threadIdx.x % kKeyThreads;
  const int pair = threadIdx.x / kKeyThreads;
  float dot[kThreadPairs][kThreadKeys] = {};
#pragma unroll 1
  for (int d = 0; d < kHeadDim; d += 4) {
    float4 k[kThreadKeys];
#pragma unroll
    for (int j = 0; j < kThreadKeys; ++j) {
      k[j] = *reinterpret_cast<const float4 *>(&shared.keys[key + j * kKeyThreads][d]);
    }
#pragma unroll
    for (int i = 0; i < kThreadPairs; ++i) {
      const float4 q = *reinterpret_cast<const float4 *>(&shared.queries[pair + i * kPairThreads][d]);
#pragma unroll
      for (int j = 0; j < kThreadKeys; ++j) {
        dot[i][j] = __fmaf_rn(q.x, k[j].x, dot[i][j]);
        dot[i][j] = __fmaf_rn(q.y, k[j].y, dot[i][j]);
        dot[i][j] = __fmaf_rn(q.z, k[j].z, dot[i][j]);
        dot[i][j] = __fmaf_rn(q.w, k[j].w, dot[i][j]);
      }
    }
  }
  __syncthreads();  // the products take the place of the queries
#pragma unroll
  for (int i = 0; i < kThreadPairs; ++i) {
#pragma unroll
    for (int j = 0; j < kThreadKeys; ++j) {
      const float z = dot[i][j];
      shared.dots[pair + i * kPairThreads][key + j * kKeyThreads] = z > 0.0f ? z : 0.0f;  // relu(NaN) = 0
    }
  }
}

/// Head sums of the run's rows in the pair tile that starts at first_pair; complete ones are written.
template <int kHeadDim>
__device__ void sum_heads(const ScoresParams &p, Shared<kHeadDim> &shared, int32_t group_row, int32_t run_row,
                          int32_t run_rows, int32_t first_pair, int32_t first_position, int side) {
  const int32_t heads = p.query.num_heads;
  const int32_t first = first_pair / heads;
  const int32_t last = min((first_pair + kTilePairs - 1) / heads, run_rows - 1);
  for (int32_t i = threadIdx.x; i < (last - first + 1) * kTileKeys; i += kThreads) {
    const int32_t row = first + i / kTileKeys;
    const int32_t key = i % kTileKeys;
    const int32_t row_pair = row * heads - first_pair;
    const int32_t end = min(row_pair + heads, kTilePairs);
    float sum = row_pair < 0 ? shared.carry[side][key] : 0.0f;
#pragma unroll 8
    for (int32_t m = max(row_pair, 0); m < end; ++m) sum = __fmaf_rn(shared.weights[m], shared.dots[m][key], sum);
    if (row_pair + heads > kTilePairs) {
      shared.carry[side ^ 1][key] = sum;
      continue;
    }
    const RowRange range = shared.rows[run_row + row];
    const int32_t position = first_position + key;
    if (position < range.begin || position >= range.end) continue;
    write_score(p, group_row + run_row + row, position, sum, shared.key_at[key] != nullptr);
  }
}

/// All scores of one tile of keys for a run of rows: rows [run_row, run_row + run_rows) of the group.
template <int kHeadDim>
__device__ void score_tile(const ScoresParams &p, const Plan &plan, Shared<kHeadDim> &shared, int32_t group_row,
                           int32_t run_row, int32_t run_rows, int32_t first_position, uint32_t *fault) {
  const QueryView &query = p.query;
  const int32_t heads = query.num_heads;
  const auto sees = [&](int32_t row, int32_t begin, int32_t end) {
    const RowRange &range = shared.rows[run_row + row];
    return range.begin < end && range.end > begin;
  };
  __syncthreads();  // nobody reads the last tile any more
  if (threadIdx.x < kTileKeys) {
    const int32_t position = first_position + static_cast<int32_t>(threadIdx.x);
    bool wanted = false;
    for (int32_t row = 0; row < run_rows; ++row) wanted |= sees(row, position, position + 1);
    shared.key_at[threadIdx.x] =
        wanted ? find_key(p.keys, plan.page_shift, kHeadDim, shared.rows[run_row].seq, position, fault) : nullptr;
  }
  __syncthreads();
  copy_vectors<kHeadDim>(shared.key_at, plan.keys_aligned != 0, shared.keys);

  int side = 0;
  for (int32_t first_pair = 0; first_pair < run_rows * heads; first_pair += kTilePairs) {
    const int32_t last_row = min((first_pair + kTilePairs - 1) / heads, run_rows - 1);
    bool any = false;
    for (int32_t row = first_pair / heads; row <= last_row; ++row) {
      any |= sees(row, first_position, first_position + kTileKeys);
    }
    if (!any) continue;
    __syncthreads();  // the last pair tile has been summed
    if (threadIdx.x < kTilePairs) {
      const int32_t pair = first_pair + static_cast<int32_t>(threadIdx.x);
      const int32_t row = pair / heads;
      const float *from = nullptr;
      if (row < run_rows && sees(row, first_position, first_position + kTileKeys)) {
        const int32_t head = pair - row * heads;
        const int64_t r = group_row + run_row + row;
        from = static_cast<const float *>(query.q) + r * query.q_row_stride + int64_t{head} * kHeadDim;
        float weight = query.w[r * query.w_row_stride + head];
        if (query.q_scale != nullptr) weight = __fmul_rn(weight, query.q_scale[r * query.q_scale_row_stride + head]);
        shared.weights[threadIdx.x] = weight;
      } else {
        shared.weights[threadIdx.x] = 0.0f;
      }
      shared.query_at[threadIdx.x] = from;
    }
    __syncthreads();
    copy_vectors<kHeadDim>(shared.query_at, plan.queries_aligned != 0, shared.queries);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    multiply<kHeadDim>(shared);
    __syncthreads();
    sum_heads<kHeadDim>(p, shared, group_row, run_row, run_rows, first_pair, first_position, side);
    side ^= 1;
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, kCtasPerProcessor)
    scores_f32_kernel(const __grid_constant__ ScoresParams p, const __grid_constant__ Plan plan) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto &shared = *reinterpret_cast<Shared<kHeadDim> *>(shared_bytes);
  uint32_t fault = 0;
  for (int64_t item = blockIdx.x; item < plan.num_items; item += gridDim.x) {
    // Last rows first: under causal masks they see most, and the short ones fill the gaps at the end.
    const auto group = plan.num_groups - 1 - static_cast<int32_t>(item / plan.splits);
    const auto split = static_cast<int32_t>(item % plan.splits);
    const int32_t group_row = group * plan.group_rows;
    const int32_t num_rows = min(plan.group_rows, p.rows.count - group_row);
    __syncthreads();
    if (threadIdx.x < num_rows) {
      shared.rows[threadIdx.x] = window_range(p, group_row + static_cast<int32_t>(threadIdx.x), &fault);
    }
    __syncthreads();
    if (p.others == OtherColumns::kClean) {
      for (int32_t row = 0; row < num_rows; ++row) {
        clean_columns(p, group_row + row, shared.rows[row], int64_t{split} * kThreads + threadIdx.x,
                      int64_t{plan.splits} * kThreads);
      }
    }

    for (int32_t row = 0; row < num_rows;) {
      const RowRange first = shared.rows[row];
      if (first.begin == first.end) {
        ++row;
        continue;
      }
      int32_t begin = first.begin;
      int32_t end = first.end;
      int32_t run_rows = 1;
      for (; row + run_rows < num_rows; ++run_rows) {
        const RowRange next = shared.rows[row + run_rows];
        if (next.begin == next.end) continue;  // an empty row breaks no run
        if (next.seq != first.seq) break;
        begin = min(begin, next.begin);
        end = max(end, next.end);
      }
      for (int64_t tile = begin / kTileKeys + split; tile * kTileKeys < end; tile += plan.splits) {
        score_tile<kHeadDim>(p, plan, shared, group_row, row, run_rows, static_cast<int32_t>(tile * kTileKeys), &fault);
      }
      row += run_rows;
    }
  }
  report_fault(p.rows.fault, fault);
}

template <int kHeadDim>
cudaError_t load() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, scores_f32_kernel<kHeadDim>);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(scores_f32_kernel<kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(sizeof(Shared<kHeadDim>)));
}

template <int kHeadDim>
cudaError_t launch(const ScoresParams &params, const Plan &plan, unsigned num_ctas, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(num_ctas);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = sizeof(Shared<kHeadDim>);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, scores_f32_kernel<kHeadDim>, params, plan);
}

bool is_aligned(const void *pointer, int64_t stride_bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride_bytes % 16 == 0;
}

Plan make_plan(const ScoresParams &p, const LaunchLimits &limits) {
  const int64_t last = std::min<int64_t>(p.rows.max_key_end, int64_t{p.first_column} + p.num_columns);
  const int64_t tiles = std::max<int64_t>(last - p.first_column, 1) / kTileKeys + 1;
  const int64_t wanted = int64_t{limits.num_processors} * kCtasPerProcessor * 8;
  int32_t group_rows = std::clamp(kGroupPairs / p.query.num_heads, 1, kMaxGroupRows);
  const auto groups = [&] { return (int64_t{p.rows.count} + group_rows - 1) / group_rows; };
  while (group_rows > 1 && groups() * tiles < wanted) group_rows /= 2;

  Plan plan;
  plan.group_rows = group_rows;
  plan.num_groups = static_cast<int32_t>(groups());
  plan.splits = static_cast<int32_t>(std::clamp<int64_t>((wanted + groups() - 1) / groups(), 1, tiles));
  plan.num_items = groups() * plan.splits;
  plan.page_shift = page_shift(p.keys);
  plan.keys_aligned = is_aligned(p.keys.data, p.keys.stride_bytes) ? 1 : 0;
  plan.queries_aligned = is_aligned(p.query.q, p.query.q_row_stride * 4) ? 1 : 0;
  return plan;
}

}  // namespace

cudaError_t load_scores_f32() {
  cudaError_t error = load<32>();
  if (error == cudaSuccess) error = load<64>();
  if (error == cudaSuccess) error = load<128>();
  return error;
}

cudaError_t launch_scores_f32(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count == 0 || params.num_columns == 0) return cudaSuccess;
  const Plan plan = make_plan(params, limits);
  const unsigned num_ctas = limits.grid(plan.num_items);
  switch (params.query.head_dim) {
    case 32:
      return launch<32>(params, plan, num_ctas, stream);
    case 64:
      return launch<64>(params, plan, num_ctas, stream);
    case 128:
      return launch<128>(params, plan, num_ctas, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ic::cuda

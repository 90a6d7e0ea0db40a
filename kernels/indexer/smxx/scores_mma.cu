// SPDX-License-Identifier: Apache-2.0
// Index scores of fp16, bf16 and e4m3 on the tensor cores of any chip since sm_80: keys on the rows of a matrix
// product, heads on its columns, so that relu, weights and head sum need nothing but the registers that the product
// ends in.
//
// Bound: prefill 2 * H * D flop per (row, key) by mma.sync; decode the same, or the keys' bytes when H is small.
//
//   work item    a group of consecutive rows x every splits-th tile of 32 keys that the group sees
//   run          consecutive rows of a group that read one sequence: they share the keys
//   warp tile    32 keys x all of D, as two 16-key A operands in registers; a warp takes its tiles alone: it copies the
//                next one into its own part of shared memory while it multiplies, and waits for no other warp
//   queries      of the whole group as fp16 or bf16 in shared memory; 8 heads are one B operand
//   head sum     a lane holds heads 8 n + 2 t and the next, t = lane % 4, for four keys: one chain over n, then
//                (0 + 1) + (2 + 3) over t by shuffles that leave each lane with one key
//
// A score passes the same instructions in the same order whatever the group, tile, split, window or page is: that is
// what mma_sync_id names. e4m3 is widened to fp16 on its way into registers (exact). Its four codes of a lane are
// consecutive, which permutes d inside a step of 16: product i of lane t of a quad is d = 4 t + i, and queries are
// stored to match.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/indexer/smxx/score_columns.cuh"
#include "kernels/ptx/async_copy.cuh"
#include "kernels/ptx/e4m3.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/views/pool.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kCtasPerProcessor = 2;
constexpr int kTileKeys = 32;
constexpr int kMaxGroupRows = 16;
constexpr int kItemsPerSlot = 4;  // work items for each thread block that fits on the chip: evens out the end

template <int kDtype, int kHeadDim>
struct Tile {
  static constexpr int kElementBytes = kDtype == IC_DTYPE_E4M3 ? 1 : 2;
  static constexpr int kKeyBytes = kHeadDim * kElementBytes;
  static constexpr int kKeyPieces = kKeyBytes / 16;       // pieces of 16 bytes
  static constexpr int kQueryPieces = kHeadDim * 2 / 16;  // as fp16 or bf16
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kWarpBytes = kTileKeys * kKeyBytes;
};

/// Shape of the launch, from values that a captured graph keeps.
struct Plan {
  uint32_t num_items;  // groups * splits, below 2^31
  int32_t group_rows;
  int32_t splits;
  int32_t num_groups;
  int32_t padded_heads;     // multiple of 8: the rest has zero queries and weights
  int32_t page_shift;       // log2(page_tokens), -1 = contiguous
  int32_t key_unit;         // bytes that every key's address is a multiple of: 16, 4 or less
  int32_t queries_aligned;  // 1: rows of queries start on 16 bytes
  uint32_t keys_at;         // bytes from the start of dynamic shared memory: queries, keys, weights
  uint32_t weights_at;
  uint32_t shared_bytes;
};

/// The rows of a work item, and its tiles numbered through all runs.
struct Group {
  RowRange rows[kMaxGroupRows];
  int32_t num_runs;
  int32_t run_row[kMaxGroupRows + 1];      // first row of a run, its end in the next entry
  int32_t run_tile[kMaxGroupRows];         // position of the run's first tile / 32
  int32_t tiles_until[kMaxGroupRows + 1];  // number of the run's first tile in the group
};

/// What the lane keeps of its own key (key_of_lane) while a tile is copied and multiplied.
struct LaneKey {
  float scale;
  bool there;
};

/// The run that tile `number` of a group belongs to, from that of an earlier tile.
__device__ int32_t run_of_tile(const Group &group, int32_t run, int32_t number) {
  while (number >= group.tiles_until[run + 1]) ++run;
  return run;
}
__device__ int32_t first_position(const Group &group, int32_t run, int32_t number) {
  return (group.run_tile[run] + number - group.tiles_until[run]) * kTileKeys;
}

/// Byte of a 16-byte piece in a matrix with rows of kPieces: eight rows at one piece lie in eight groups of banks.
template <int kPieces>
__device__ uint32_t swizzled(int row, int piece) {
  constexpr int kRowsPerLine = kPieces >= 8 ? 1 : 8 / kPieces;
  constexpr int kMask = (kPieces >= 8 ? 8 : kPieces) - 1;
  return static_cast<uint32_t>((row * kPieces + (piece ^ (row / kRowsPerLine & kMask))) * 16);
}

/// The key of a tile whose score the lane ends up with, and its inverse.
__device__ int key_of_lane(int lane) { return 8 * (lane % 4) + lane / 4; }
__device__ int lane_of_key(int key) { return 4 * (key % 8) + key / 8; }

/// Splits the group's rows into runs. One thread.
__device__ void find_runs(Group &group, int32_t num_rows) {
  int32_t runs = 0;
  int32_t tiles = 0;
  for (int32_t row = 0; row < num_rows;) {
    const RowRange first = group.rows[row];
    if (first.begin == first.end) {
      ++row;
      continue;
    }
    int32_t begin = first.begin;
    int32_t end = first.end;
    int32_t next = row + 1;
    for (; next < num_rows; ++next) {
      const RowRange range = group.rows[next];
      if (range.begin == range.end) continue;  // an empty row breaks no run
      if (range.seq != first.seq) break;
      begin = min(begin, range.begin);
      end = max(end, range.end);
    }
    group.run_row[runs] = row;
    group.run_tile[runs] = begin / kTileKeys;
    group.tiles_until[runs] = tiles;
    tiles += (end - 1) / kTileKeys - begin / kTileKeys + 1;
    ++runs;
    row = next;
  }
  group.num_runs = runs;
  group.run_row[runs] = num_rows;
  group.tiles_until[runs] = tiles;
}

/// 16 bytes from anywhere.
template <class Element>
__device__ uint4 load_piece(const Element *from, bool aligned) {
  if (aligned) return *reinterpret_cast<const uint4 *>(from);
  constexpr int kPerWord = 4 / sizeof(Element);
  uint32_t words[4] = {};
#pragma unroll
  for (int i = 0; i < 4 * kPerWord; ++i) {
    words[i / kPerWord] |= static_cast<uint32_t>(from[i]) << i % kPerWord * 8 * sizeof(Element);
  }
  return {words[0], words[1], words[2], words[3]};
}

/// Queries and weights of the group's rows that see something into shared memory.
template <int kDtype, int kHeadDim>
__device__ void stage_queries(const ScoresParams &p, const Plan &plan, const Group &group, int32_t group_row,
                              int32_t num_rows, uint8_t *queries, float *weights) {
  using Shape = Tile<kDtype, kHeadDim>;
  constexpr int kPieces = Shape::kQueryPieces;
  const QueryView &query = p.query;
  const bool aligned = plan.queries_aligned != 0;
  const int32_t num_pairs = num_rows * plan.padded_heads;
  for (int32_t pair = threadIdx.x; pair < num_pairs; pair += kThreads) {
    const int32_t row = pair / plan.padded_heads;
    const int32_t head = pair - row * plan.padded_heads;
    float weight = 0.0f;
    if (head < query.num_heads && group.rows[row].begin < group.rows[row].end) {
      const int64_t r = group_row + row;
      weight = query.w[r * query.w_row_stride + head];
      if (query.q_scale != nullptr) weight = __fmul_rn(weight, query.q_scale[r * query.q_scale_row_stride + head]);
    }
    weights[pair] = weight;
  }
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < num_pairs * Shape::kKeyPieces; i += kThreads) {
    const int32_t pair = i / Shape::kKeyPieces;
    const int32_t piece = i % Shape::kKeyPieces;
    const int32_t row = pair / plan.padded_heads;
    const int32_t head = pair - row * plan.padded_heads;
    uint4 values = {0, 0, 0, 0};
    if (head < query.num_heads && group.rows[row].begin < group.rows[row].end) {
      const int64_t at = (group_row + row) * query.q_row_stride + head * kHeadDim + piece * (16 / Shape::kElementBytes);
      if constexpr (kDtype == IC_DTYPE_E4M3) {
        values = load_piece(static_cast<const uint8_t *>(query.q) + at, aligned);
      } else {
        values = load_piece(static_cast<const uint16_t *>(query.q) + at, aligned);
      }
    }
    if constexpr (kDtype == IC_DTYPE_E4M3) {
      const uint4 low = {ptx::f16x2_from_e4m3x2(values.x), ptx::f16x2_from_e4m3x2(values.y),
                         ptx::f16x2_from_e4m3x2(values.z), ptx::f16x2_from_e4m3x2(values.w)};
      const uint4 high = {ptx::f16x2_from_e4m3x2(values.x >> 16), ptx::f16x2_from_e4m3x2(values.y >> 16),
                          ptx::f16x2_from_e4m3x2(values.z >> 16), ptx::f16x2_from_e4m3x2(values.w >> 16)};
      *reinterpret_cast<uint4 *>(queries + swizzled<kPieces>(pair, 2 * piece)) = low;
      *reinterpret_cast<uint4 *>(queries + swizzled<kPieces>(pair, 2 * piece + 1)) = high;
    } else {
      *reinterpret_cast<uint4 *>(queries + swizzled<kPieces>(pair, piece)) = values;
    }
  }
}

/// Starts the copies of a tile into the warp's part of shared memory. vector: the lane's key, null = not wanted; what
/// lies in its place then is multiplied and dropped, because a key meets no other.
template <int kDtype, int kHeadDim>
__device__ void copy_keys(const uint8_t *vector, int32_t unit, uint8_t *keys, int lane) {
  using Shape = Tile<kDtype, kHeadDim>;
  constexpr int kPieces = Shape::kKeyPieces;
  const auto of_key = [&](int key) {
    const auto bits = reinterpret_cast<unsigned long long>(vector);
    return reinterpret_cast<const uint8_t *>(__shfl_sync(~0u, bits, lane_of_key(key)));
  };
  if (unit == 16) {
    const uint32_t to = ptx::shared_address(keys);
    const uint8_t *first = of_key(0);
    if (__all_sync(~0u, vector == first + key_of_lane(lane) * Shape::kKeyBytes)) {
#pragma unroll
      for (int n = 0; n < kPieces; ++n) {
        const int i = n * 32 + lane;
        ptx::copy_async_16(to + swizzled<kPieces>(i / kPieces, i % kPieces), first + i * 16);
      }
    } else {
#pragma unroll 2
      for (int n = 0; n < kPieces; ++n) {
        const int i = n * 32 + lane;
        const uint8_t *from = of_key(i / kPieces);
        if (from != nullptr) {
          ptx::copy_async_16(to + swizzled<kPieces>(i / kPieces, i % kPieces), from + i % kPieces * 16);
        }
      }
    }
  } else if (unit == 4) {
    constexpr int kWords = kPieces * 4;
    const uint32_t to = ptx::shared_address(keys);
#pragma unroll 2
    for (int n = 0; n < kWords; ++n) {
      const int i = n * 32 + lane;
      const int word = i % kWords;
      const uint8_t *from = of_key(i / kWords);
      if (from != nullptr) {
        ptx::copy_async_4(to + swizzled<kPieces>(i / kWords, word / 4) + word % 4 * 4, from + word * 4);
      }
    }
  } else {
#pragma unroll 1
    for (int n = 0; n < kPieces; ++n) {
      const int i = n * 32 + lane;
      const uint8_t *from = of_key(i / kPieces);
      if (from == nullptr) continue;
      uint8_t *to = keys + swizzled<kPieces>(i / kPieces, i % kPieces);
      if constexpr (kDtype == IC_DTYPE_E4M3) {
        *reinterpret_cast<uint4 *>(to) = load_piece(from + i % kPieces * 16, false);
      } else {
        *reinterpret_cast<uint4 *>(to) = load_piece(reinterpret_cast<const uint16_t *>(from) + i % kPieces * 8, false);
      }
    }
  }
  ptx::copy_async_commit();
}

/// Asks for the page of the lane's key in a tile, -1 when no row sees the key. Nothing here waits for the answer.
__device__ int32_t ask_page(const ScoresParams &p, const Plan &plan, const Group &group, int32_t run, int32_t number,
                            int lane) {
  run = run_of_tile(group, run, number);
  const int32_t position = first_position(group, run, number) + key_of_lane(lane);
  bool wanted = false;
  for (int32_t row = group.run_row[run]; row < group.run_row[run + 1]; ++row) {
    wanted |= group.rows[row].begin <= position && position < group.rows[row].end;
  }
  return wanted ? page_entry(p.keys, plan.page_shift, group.rows[group.run_row[run]].seq, position) : -1;
}

/// Starts the copies of a tile. page: of the lane's key.
template <int kDtype, int kHeadDim>
__device__ LaneKey start_tile(const ScoresParams &p, const Plan &plan, const Group &group, int32_t run, int32_t number,
                              int32_t page, uint8_t *keys, int lane) {
  using Shape = Tile<kDtype, kHeadDim>;
  run = run_of_tile(group, run, number);
  PoolPlace place{-1, 0};
  if (page != -1) {
    const int32_t seq = group.rows[group.run_row[run]].seq;
    const int32_t position = first_position(group, run, number) + key_of_lane(lane);
    uint32_t fault = 0;
    place = place_on_page(p.keys, plan.page_shift, seq, position, page, &fault);
    report_fault(p.rows.fault, fault);
  }
  const uint8_t *vector = vector_at(p.keys, place, Shape::kKeyBytes);
  LaneKey key{0.0f, vector != nullptr};
  if constexpr (kDtype == IC_DTYPE_E4M3) {
    if (key.there) key.scale = *scale_at(p.keys, place, Shape::kKeyBytes);
  }
  copy_keys<kDtype, kHeadDim>(vector, plan.key_unit, keys, lane);
  return key;
}

/// The A operands of the warp's tile.
template <int kDtype, int kHeadDim>
__device__ void load_keys(uint32_t (&a)[2][kHeadDim / 16][4], const uint8_t *keys, int lane) {
  using Shape = Tile<kDtype, kHeadDim>;
  const uint32_t from = ptx::shared_address(keys);
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const int row = m * 16 + lane % 16;
    if constexpr (kDtype == IC_DTYPE_E4M3) {
#pragma unroll
      for (int step = 0; step < Shape::kSteps; step += 2) {
        uint32_t codes[4];
        ptx::ldmatrix_x4(codes, from + swizzled<Shape::kKeyPieces>(row, step + lane / 16));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          a[m][step + i / 2][i % 2] = ptx::f16x2_from_e4m3x2(codes[i]);
          a[m][step + i / 2][i % 2 + 2] = ptx::f16x2_from_e4m3x2(codes[i] >> 16);
        }
      }
    } else {
#pragma unroll
      for (int step = 0; step < Shape::kSteps; ++step) {
        ptx::ldmatrix_x4(a[m][step], from + swizzled<Shape::kKeyPieces>(row, 2 * step + lane / 16));
      }
    }
  }
}

/// Adds kBlocks blocks of 8 heads to the lane's sums. queries: address of piece lane / 8 of row lane % 8, in a matrix
/// that starts on 128 bytes. Piece 4 further is bit 6 the other way, swizzled or not; piece 8 further is 128 bytes on.
template <int kDtype, int kHeadDim, int kBlocks>
__device__ void add_heads(float (&sum)[4], const uint32_t (&a)[2][kHeadDim / 16][4], uint32_t queries,
                          const float *weights) {
  constexpr int kPieces = Tile<kDtype, kHeadDim>::kQueryPieces;
  float c[kBlocks][2][4] = {};
#pragma unroll
  for (int i = 0; i < kPieces / 4; ++i) {
    uint32_t b[kBlocks][4];
#pragma unroll
    for (int n = 0; n < kBlocks; ++n) {
      ptx::ldmatrix_x4(b[n], (i % 2 == 0 ? queries : queries ^ 64) + n * 8 * kPieces * 16 + i / 2 * 128);
    }
#pragma unroll
    for (int step = 0; step < 2; ++step) {
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          if constexpr (kDtype == IC_DTYPE_BF16) {
            ptx::mma_bf16(c[n][m], a[m][2 * i + step], b[n][2 * step], b[n][2 * step + 1]);
          } else {
            ptx::mma_f16(c[n][m], a[m][2 * i + step], b[n][2 * step], b[n][2 * step + 1]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
    const float2 w = *reinterpret_cast<const float2 *>(weights + n * 8);
#pragma unroll
    for (int j = 0; j < 4; ++j) {  // fmaxf(NaN, 0) = 0
      sum[j] = __fmaf_rn(w.x, fmaxf(c[n][j / 2][j % 2 * 2], 0.0f), sum[j]);
      sum[j] = __fmaf_rn(w.y, fmaxf(c[n][j / 2][j % 2 * 2 + 1], 0.0f), sum[j]);
    }
  }
}

/// Sums of the lane's heads for the keys lane / 4 + 8 j: fused chains, heads ascending from +0.
template <int kDtype, int kHeadDim>
__device__ void sum_heads(float (&sum)[4], const uint32_t (&a)[2][kHeadDim / 16][4], const uint8_t *queries,
                          const float *weights, int32_t padded_heads, int lane) {
  constexpr int kPieces = Tile<kDtype, kHeadDim>::kQueryPieces;
  uint32_t from = ptx::shared_address(queries) + swizzled<kPieces>(lane % 8, lane / 8);
  weights += lane % 4 * 2;
  int32_t head = 0;
#pragma unroll 1
  for (; head + 16 <= padded_heads; head += 16) {  // two blocks at once: four independent chains of products
    add_heads<kDtype, kHeadDim, 2>(sum, a, from, weights);
    from += 16 * kPieces * 16;
    weights += 16;
  }
  if (head < padded_heads) add_heads<kDtype, kHeadDim, 1>(sum, a, from, weights);
}

/// (lane 0 + lane 1) + (lane 2 + lane 3) of each quad; lane t keeps the sum of key lane / 4 + 8 t.
__device__ float add_quad(const float (&sum)[4], int lane) {
  const bool odd = lane % 2 != 0;
  const bool upper = lane % 4 >= 2;
  const float low = __fadd_rn(odd ? sum[1] : sum[0], __shfl_xor_sync(~0u, odd ? sum[0] : sum[1], 1));
  const float high = __fadd_rn(odd ? sum[3] : sum[2], __shfl_xor_sync(~0u, odd ? sum[2] : sum[3], 1));
  return __fadd_rn(upper ? high : low, __shfl_xor_sync(~0u, upper ? low : high, 2));
}

template <int kDtype, int kHeadDim>
__global__ void __launch_bounds__(kThreads, kCtasPerProcessor)
    scores_mma_kernel(const __grid_constant__ ScoresParams p, const __grid_constant__ Plan plan) {
  using Shape = Tile<kDtype, kHeadDim>;
  extern __shared__ __align__(128) uint8_t shared_bytes[];
  __shared__ Group group;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  uint8_t *queries = shared_bytes;
  uint8_t *keys = shared_bytes + plan.keys_at + warp * Shape::kWarpBytes;
  auto *weights = reinterpret_cast<float *>(shared_bytes + plan.weights_at);
  for (uint32_t item = blockIdx.x; item < plan.num_items; item += gridDim.x) {
    // Last rows first: under causal masks they see most, and the short ones fill the gaps at the end.
    const auto group_number = plan.num_groups - 1 - static_cast<int32_t>(item / static_cast<uint32_t>(plan.splits));
    const auto split = static_cast<int32_t>(item % static_cast<uint32_t>(plan.splits));
    const int32_t group_row = group_number * plan.group_rows;
    const int32_t num_rows = min(plan.group_rows, p.rows.count - group_row);
    __syncthreads();  // nobody reads the last group any more
    if (threadIdx.x < num_rows) {
      uint32_t fault = 0;
      group.rows[threadIdx.x] = window_range(p, group_row + static_cast<int32_t>(threadIdx.x), &fault);
      report_fault(p.rows.fault, fault);
    }
    __syncthreads();
    if (threadIdx.x == 0) find_runs(group, num_rows);
    __syncthreads();
    const int32_t num_tiles = group.tiles_until[group.num_runs];
    const int32_t stride = plan.splits * kWarps;
    int32_t number = split * kWarps + warp;
    LaneKey next;
    int32_t page = -1;  // of the lane's key in the tile after the next
    if (number < num_tiles) {
      page = ask_page(p, plan, group, 0, number, lane);
      next = start_tile<kDtype, kHeadDim>(p, plan, group, 0, number, page, keys, lane);
      if (number + stride < num_tiles) page = ask_page(p, plan, group, 0, number + stride, lane);
    }
    if (p.others == OtherColumns::kClean) {
      for (int32_t row = 0; row < num_rows; ++row) {
        clean_columns(p, group_row + row, group.rows[row], int64_t{split} * kThreads + threadIdx.x,
                      int64_t{plan.splits} * kThreads);
      }
    }
    if (split * kWarps >= num_tiles) continue;  // nothing left for the whole block
    stage_queries<kDtype, kHeadDim>(p, plan, group, group_row, num_rows, queries, weights);
    __syncthreads();

    int32_t run = 0;
#pragma unroll 1
    for (; number < num_tiles; number += stride) {
      const LaneKey key = next;
      uint32_t a[2][Shape::kSteps][4];
      ptx::copy_async_wait<0>();
      __syncwarp();
      load_keys<kDtype, kHeadDim>(a, keys, lane);
      __syncwarp();
      run = run_of_tile(group, run, number);
      if (number + stride < num_tiles) {
        next = start_tile<kDtype, kHeadDim>(p, plan, group, run, number + stride, page, keys, lane);
        if (number + 2 * stride < num_tiles) page = ask_page(p, plan, group, run, number + 2 * stride, lane);
      }
      const int32_t first = first_position(group, run, number);
#pragma unroll 1
      for (int32_t row = group.run_row[run]; row < group.run_row[run + 1]; ++row) {
        const RowRange range = group.rows[row];
        if (range.begin >= first + kTileKeys || range.end <= first) continue;
        float sum[4] = {};
        const int32_t pair = row * plan.padded_heads;
        sum_heads<kDtype, kHeadDim>(sum, a, queries + pair * Shape::kQueryPieces * 16, weights + pair,
                                    plan.padded_heads, lane);
        float score = add_quad(sum, lane);
        if constexpr (kDtype == IC_DTYPE_E4M3) score = __fmul_rn(score, key.scale);
        const int32_t position = first + key_of_lane(lane);
        if (position >= group.rows[row].begin && position < group.rows[row].end) {
          write_score(p, group_row + row, position, score, key.there);
        }
      }
    }
  }
}

/// Shared memory that one thread block may have, less what is static.
int32_t shared_limit(int32_t compute_capability) {
  constexpr int32_t kStatic = 1024;
  switch (compute_capability) {
    case 80:
    case 87:
      return 163 * 1024 - kStatic;
    case 90:
    case 100:
    case 103:
    case 110:
      return 227 * 1024 - kStatic;
    default:
      return 99 * 1024 - kStatic;
  }
}

template <int kDtype, int kHeadDim>
Plan make_plan(const ScoresParams &p, const LaunchLimits &limits) {
  using Shape = Tile<kDtype, kHeadDim>;
  Plan plan;
  plan.padded_heads = (p.query.num_heads + 7) / 8 * 8;

  // As many rows per group as leave room for a second thread block on the processor, if that is not too few: keys are
  // read and converted once per group.
  const int32_t limit = shared_limit(limits.compute_capability);
  const auto pairs_in = [&](int32_t bytes) {
    return (bytes - kWarps * Shape::kWarpBytes - 1024) / (Shape::kQueryPieces * 16 + 4);
  };
  const int32_t pairs = pairs_in(limit / 2) >= 64 ? pairs_in(limit / 2) : pairs_in(limit);
  int32_t group_rows = std::clamp(std::min(pairs, 256) / plan.padded_heads, 1, kMaxGroupRows);

  const int64_t last = std::min<int64_t>(p.rows.max_key_end, int64_t{p.first_column} + p.num_columns);
  const int64_t tiles = std::max<int64_t>(last - p.first_column, 1) / (kTileKeys * kWarps) + 1;  // of all warps
  const int64_t wanted = int64_t{limits.num_processors} * kCtasPerProcessor * kItemsPerSlot;
  const auto groups = [&] { return (int64_t{p.rows.count} + group_rows - 1) / group_rows; };
  while (group_rows > 1 && groups() * tiles < wanted) group_rows /= 2;

  plan.group_rows = group_rows;
  plan.num_groups = static_cast<int32_t>(groups());
  plan.splits = static_cast<int32_t>(std::clamp<int64_t>(wanted / groups(), 1, tiles));
  plan.num_items = static_cast<uint32_t>(groups() * plan.splits);
  plan.page_shift = page_shift(p.keys);
  const auto key_bits = reinterpret_cast<uintptr_t>(p.keys.data) | static_cast<uintptr_t>(p.keys.stride_bytes);
  plan.key_unit = key_bits % 16 == 0 ? 16 : key_bits % 4 == 0 ? 4 : 1;
  const auto query_bits =
      reinterpret_cast<uintptr_t>(p.query.q) | static_cast<uintptr_t>(p.query.q_row_stride * Shape::kElementBytes);
  plan.queries_aligned = query_bits % 16 == 0 ? 1 : 0;
  plan.keys_at = static_cast<uint32_t>(group_rows * plan.padded_heads * Shape::kQueryPieces * 16);
  plan.weights_at = plan.keys_at + kWarps * Shape::kWarpBytes;
  plan.shared_bytes = plan.weights_at + static_cast<uint32_t>(group_rows * plan.padded_heads) * 4;
  return plan;
}

template <int kDtype, int kHeadDim>
cudaError_t load() {
  int device = 0;
  int most = 0;
  cudaFuncAttributes attributes;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, scores_mma_kernel<kDtype, kHeadDim>);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(scores_mma_kernel<kDtype, kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               most - static_cast<int>(attributes.sharedSizeBytes));
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(scores_mma_kernel<kDtype, kHeadDim>, cudaFuncAttributePreferredSharedMemoryCarveout,
                              cudaSharedmemCarveoutMaxShared);
}

template <int kDtype>
cudaError_t load_all() {
  cudaError_t error = load<kDtype, 32>();
  if (error == cudaSuccess) error = load<kDtype, 64>();
  if (error == cudaSuccess) error = load<kDtype, 128>();
  return error;
}

template <int kDtype, int kHeadDim>
cudaError_t launch(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  const Plan plan = make_plan<kDtype, kHeadDim>(params, limits);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(plan.num_items));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = plan.shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, scores_mma_kernel<kDtype, kHeadDim>, params, plan);
}

template <int kDtype>
cudaError_t launch_any_dim(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  switch (params.query.head_dim) {
    case 32:
      return launch<kDtype, 32>(params, limits, stream);
    case 64:
      return launch<kDtype, 64>(params, limits, stream);
    case 128:
      return launch<kDtype, 128>(params, limits, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t load_scores_mma() {
  cudaError_t error = load_all<IC_DTYPE_F16>();
  if (error == cudaSuccess) error = load_all<IC_DTYPE_BF16>();
  if (error == cudaSuccess) error = load_all<IC_DTYPE_E4M3>();
  return error;
}

cudaError_t launch_scores_mma(const ScoresParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count == 0 || params.num_columns == 0) return cudaSuccess;
  switch (params.query.dtype) {
    case IC_DTYPE_F16:
      return launch_any_dim<IC_DTYPE_F16>(params, limits, stream);
    case IC_DTYPE_BF16:
      return launch_any_dim<IC_DTYPE_BF16>(params, limits, stream);
    case IC_DTYPE_E4M3:
      return launch_any_dim<IC_DTYPE_E4M3>(params, limits, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ic::cuda

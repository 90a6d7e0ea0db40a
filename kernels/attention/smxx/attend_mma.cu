// SPDX-License-Identifier: Apache-2.0
// Sparse MLA on the tensor cores: bf16 queries, latent 512 and rotary 64 dimensions, bf16 or 656-byte fp8 tokens.
//
// Bound: 2 * (576 + 512) flop per (row, head, key); every tile of heads of a row gathers the row's tokens once.
//
//   work item   a row (or one split of it) x a tile of 64 or 16 heads; one CTA of 8 warps
//   block       64 keys of the list, gathered by 16-byte cp.async into shared memory while the last block is computed;
//               addresses are found one block earlier still
//   scores      Q K^T: the warps lie as (32 or 16 heads) x (16 keys); fp32 accumulators
//   weights     exp(score - running maximum), rounded to bf16, through shared memory
//   values      P V: each warp owns 64 of the 512 columns for all heads of the tile
//   split       after 8 blocks the sums join those of the row (in the workspace: both do not fit into registers)
//
// fp8 tokens become bf16 unscaled, which is exact. The scale of a group of 128 dimensions is applied in fp32: to the
// group's part of the score, and to the weights, of which there are four copies, one per group of columns.
//
// Shared memory, rows of 1152 bytes in pieces of 16, the pieces of 128 bytes permuted by row % 8 (no bank conflicts):
//
//   | Q 16|64 x 1152 | K/V 64 x 1152, 1 or 2 stages | fp8: tokens as they are 64 x 656 | fp8: 4 x P | state |
//   bf16: P lies over the rotary part of the current block, which nobody needs after the scores
//
// A head's bits do not depend on the tile size: the chains over dimensions, keys and warps are the same.
#include <cuda_runtime.h>

#include <cstdint>

#include "indexcache.h"
#include "kernels/attention/smxx/fp8_token.h"
#include "kernels/attention/smxx/key_list.cuh"
#include "kernels/attention/smxx/plan.h"
#include "kernels/attention/smxx/softmax.cuh"
#include "kernels/ptx/async_copy.cuh"
#include "kernels/ptx/bf16.cuh"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/ptx/thread_index.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kLatent = 512;
constexpr int kDim = 576;
constexpr int kRowBytes = kDim * 2;
constexpr int kSegments = kRowBytes / 128;      // of 64 dimensions; the last one is the rotary part
constexpr int kRopeAt = (kSegments - 1) * 128;  // bytes
constexpr int kBlockKeys = 64;
constexpr int kSplitBlocks = kSplitEntries / kBlockKeys;
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kKeyWarps = 4;  // warps side by side along the keys of a block, 16 keys each
constexpr int kGroups = 4;    // of 128 latent dimensions with a scale each
constexpr float kLog2e = 0x1.715476p+0f;

/// Byte of 16-byte piece `piece` of row `row` behind the row's first byte.
__device__ inline int piece_at(int piece, int row) { return (piece >> 3) * 128 + ((piece ^ row) & 7) * 16; }

/// What a CTA works on. In shared memory: kept in registers over the blocks it would crowd out the sums.
struct Item {
  KeyList list;
  int64_t row_split;  // number of the (row, split)
  int32_t row;
  int32_t head;   // first of the tile
  int32_t heads;  // of the tile that exist
  int32_t begin;  // entries of the list
  int32_t end;
};

template <int kHeads, bool kFp8>
struct Tile {
  static constexpr int kWarpHeads = kHeads == 64 ? 32 : 16;              // of a warp's scores
  static constexpr int kScoreWarps = kKeyWarps * (kHeads / kWarpHeads);  // the others have no scores
  static constexpr int kScoreTiles = kWarpHeads / 16;
  static constexpr int kSumTiles = kHeads / 16;
  static constexpr int kColumns = kLatent / kWarps;  // of a warp's weighted sums
  static constexpr int kColumnTiles = kColumns / 8;
  static constexpr int kWeightRow = kFp8 ? 128 : kRowBytes;  // bytes from head to head of P

  struct State {
    Item item;
    const uint8_t *key_at[3][kBlockKeys];  // by block % 3; null: skipped
    float group_scale[kFp8 ? kBlockKeys : 1][kGroups];
    float parts[kKeyWarps][kHeads];  // maxima of a block, denominators of a split
    float rescale[kHeads];
    float maximum[kHeads];  // of a split
    SplitResult total[kHeads];
    JoinWeights weights[kHeads];
    float factor[kHeads];
  };
  static constexpr int kQueryBytes = kHeads * kRowBytes;
  static constexpr int kBlockBytes = kBlockKeys * kRowBytes;
  static constexpr int kRawBytes = kFp8 ? kBlockKeys * kFp8TokenBytes : 0;
  static constexpr int kWeightBytes = kFp8 ? kGroups * kHeads * 128 : 0;
  static constexpr int shared_bytes(int stages) {
    return kQueryBytes + stages * kBlockBytes + kRawBytes + kWeightBytes + static_cast<int>(sizeof(State));
  }

  unsigned char *query;
  unsigned char *blocks;
  unsigned char *raw;
  unsigned char *weights;
  State *state;

  __device__ Tile(unsigned char *shared, int stages)
      : query(shared),
        blocks(query + kQueryBytes),
        raw(blocks + stages * kBlockBytes),
        weights(raw + kRawBytes),
        state(reinterpret_cast<State *>(weights + kWeightBytes)) {}
};

/// The queries of a tile into shared memory; heads that do not exist are zeros. Closes no group.
template <int kHeads, bool kFp8>
__device__ void load_queries(const AttendParams &p, bool aligned, unsigned char *to, int32_t row, int32_t head) {
  using T = Tile<kHeads, kFp8>;
  const int32_t heads = min(kHeads, p.num_heads - head);
  const auto *from = static_cast<const uint16_t *>(p.q) + row * p.q_row_stride + int64_t{head} * kDim;
  constexpr int kPieces = kRowBytes / 16;
  const uint32_t base = ptx::shared_address(to);
#pragma unroll 2
  for (int i = threadIdx.x; i < kHeads * kPieces; i += kThreads) {
    const int h = i / kPieces;
    const int piece = i % kPieces;
    const int at = h * kRowBytes + piece_at(piece, h);
    const bool there = h < heads;
    const uint16_t *elements = from + (there ? int64_t{h} * kDim + piece * 8 : 0);
    if (aligned) {
      ptx::copy_async_16_or_zero(base + at, elements, there);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) reinterpret_cast<uint16_t *>(to + at)[e] = there ? elements[e] : uint16_t{0};
    }
  }
}

/// The copy of a block's tokens, in segments of 128 bytes that a kernel can put between its other work: all of them at
/// once would fill the queue of the memory pipe, and the warps would wait for it. Skipped keys become zeros.
template <bool kFp8>
class BlockCopy {
 public:
  static constexpr int kSegments = kFp8 ? kFp8TokenBytes / 128 + 1 : kRowBytes / 128;

  /// @param wanted  false: copies nothing
  __device__ BlockCopy(const uint8_t *const (&key_at)[kBlockKeys], unsigned char *to, bool wanted) : wanted_(wanted) {
    const int thread = ptx::thread_index();
    lane_ = thread % 8;  // eight lanes side by side in a token
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      const int key = thread / 8 + i * (kThreads / 8);
      from_[i] = key_at[key];
      to_[i] = ptx::shared_address(to) +
               (kFp8 ? key * kFp8TokenBytes + lane_ * 16 : key * kRowBytes + ((lane_ ^ key) & 7) * 16);
    }
  }

  __device__ void copy(const AttendParams &p, int segment) const {
    if (!wanted_ || (kFp8 && segment * 8 + lane_ >= kFp8TokenBytes / 16)) return;
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      const bool there = from_[i] != nullptr;
      const uint8_t *from = there ? from_[i] + segment * 128 + lane_ * 16 : p.kv.data;
      ptx::copy_async_16_or_zero(to_[i] + segment * 128, from, there);
    }
  }

  __device__ void copy_all(const AttendParams &p) const {
#pragma unroll 3
    for (int segment = 0; segment < kSegments; ++segment) copy(p, segment);
  }

 private:
  static constexpr int kKeys = kBlockKeys * 8 / kThreads;  // of a thread
  const uint8_t *from_[kKeys];
  uint32_t to_[kKeys];
  int lane_;
  bool wanted_;
};

/// Four e4m3 numbers to bf16, exact; NaN codes become 480. The bits of e4m3 at the same place in a bf16 stand for the
/// value * 2^-120 (exponent biases 7 and 127), subnormals included.
__device__ inline uint2 bf16x4_from_e4m3x4(uint32_t codes) {
  constexpr uint32_t kScale = 0x7b807b80u;             // 2^120
  constexpr uint32_t kNegativeZero = 0x80008000u;      // neutral, -0 included
  const uint32_t low = __byte_perm(codes, 0, 0x1404);  // a code in the high byte of each half
  const uint32_t high = __byte_perm(codes, 0, 0x3424);
  return {ptx::fma_bf16x2(((low >> 4) & 0x07f007f0u) | (low & 0x80008000u), kScale, kNegativeZero),
          ptx::fma_bf16x2(((high >> 4) & 0x07f007f0u) | (high & 0x80008000u), kScale, kNegativeZero)};
}

/// The high bit of every byte that is a NaN code: 0x7f or 0xff.
__device__ inline uint32_t e4m3_nans(uint32_t codes) { return ((codes & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u; }

/// Puts NaN into a row where the token has NaN codes.
__device__ __noinline__ void widen_nans(const unsigned char *token, unsigned char *row, int key) {
  for (int d = 0; d < kLatent; ++d) {
    if ((token[d] & 0x7f) == 0x7f) *reinterpret_cast<uint16_t *>(row + piece_at(d / 8, key) + d % 8 * 2) = 0x7fff;
  }
}

/// A block of fp8 tokens to bf16 rows and scales.
template <int kHeads>
__device__ void widen_block(const Tile<kHeads, true> &tile) {
  const int thread = ptx::thread_index();
  const int piece = thread % 32;  // a warp per key
  // Every other group of four lanes writes its upper piece first: eight lanes then cover all banks.
  const int first = thread >> 2 & 1;
  uint32_t nans = 0;
#pragma unroll
  for (int key = thread / 32; key < kBlockKeys; key += kWarps) {
    const uint4 codes = *reinterpret_cast<const uint4 *>(tile.raw + key * kFp8TokenBytes + piece * 16);
    const uint2 a = bf16x4_from_e4m3x4(codes.x);
    const uint2 b = bf16x4_from_e4m3x4(codes.y);
    const uint2 c = bf16x4_from_e4m3x4(codes.z);
    const uint2 d = bf16x4_from_e4m3x4(codes.w);
    const uint4 lower = {a.x, a.y, b.x, b.y};
    const uint4 upper = {c.x, c.y, d.x, d.y};
    unsigned char *row = tile.blocks + key * kRowBytes;
    *reinterpret_cast<uint4 *>(row + piece_at(2 * piece + first, key)) = first != 0 ? upper : lower;
    *reinterpret_cast<uint4 *>(row + piece_at(2 * piece + 1 - first, key)) = first != 0 ? lower : upper;
    nans |= e4m3_nans(codes.x) | e4m3_nans(codes.y) | e4m3_nans(codes.z) | e4m3_nans(codes.w);
  }
  if (__any_sync(~0u, nans != 0)) {  // hardly ever
    __syncwarp();
    for (int key = thread / 32 + piece * kWarps; key < kBlockKeys; key += 32 * kWarps) {
      widen_nans(tile.raw + key * kFp8TokenBytes, tile.blocks + key * kRowBytes, key);
    }
  }
#pragma unroll
  for (int i = thread; i < kBlockKeys * 8; i += kThreads) {
    const int key = i / 8;
    *reinterpret_cast<uint4 *>(tile.blocks + key * kRowBytes + piece_at(kRopeAt / 16 + i % 8, key)) =
        *reinterpret_cast<const uint4 *>(tile.raw + key * kFp8TokenBytes + kFp8RopeAt + i % 8 * 16);
  }
  if (thread < kBlockKeys) {
    *reinterpret_cast<float4 *>(tile.state->group_scale[thread]) =
        *reinterpret_cast<const float4 *>(tile.raw + thread * kFp8TokenBytes + kFp8ScalesAt);
  }
}

/// q . k of a warp's heads and 16 keys, and meanwhile the copy of another block. score[m][n]: fragments of 16 heads x 8
/// keys.
template <int kHeads, bool kFp8>
__device__ void multiply_scores(const AttendParams &p, const Tile<kHeads, kFp8> &tile, const unsigned char *block,
                                const BlockCopy<kFp8> &copy, float (&score)[Tile<kHeads, kFp8>::kScoreTiles][2][4]) {
  using T = Tile<kHeads, kFp8>;
  const int thread = ptx::thread_index();
  const int lane = thread % 32;
  const int key = thread / 32 % kKeyWarps * 16;
  const int head = thread / 32 / kKeyWarps * T::kWarpHeads;
  const uint32_t q = ptx::shared_address(tile.query) + (head + (lane & 15)) * kRowBytes;
  const uint32_t k = ptx::shared_address(block) + (key + (lane & 7) + (lane >> 4) * 8) * kRowBytes;
  float part[T::kScoreTiles][2][4];  // fp8: of a group of dimensions
#pragma unroll
  for (int m = 0; m < T::kScoreTiles; ++m) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) score[m][n][e] = part[m][n][e] = 0.0f;
    }
  }
#pragma unroll(kFp8 ? 2 : 3)
  for (int segment = 0; segment < (kFp8 ? kSegments - 1 : kSegments); ++segment) {
    if (segment < BlockCopy<kFp8>::kSegments) copy.copy(p, segment);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, k + segment * 128 + (((2 * step + (lane >> 3 & 1)) ^ lane) & 7) * 16);
#pragma unroll
      for (int m = 0; m < T::kScoreTiles; ++m) {
        uint32_t a[4];
        ptx::ldmatrix_x4(a, q + m * 16 * kRowBytes + segment * 128 + (((2 * step + (lane >> 4)) ^ lane) & 7) * 16);
        ptx::mma_bf16(kFp8 ? part[m][0] : score[m][0], a, b[0], b[1]);
        ptx::mma_bf16(kFp8 ? part[m][1] : score[m][1], a, b[2], b[3]);
      }
    }
    if constexpr (kFp8) {
      if (segment % 2 == 0) continue;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float scale = tile.state->group_scale[key + n * 8 + lane % 4 * 2 + e % 2][segment / 2];
#pragma unroll
          for (int m = 0; m < T::kScoreTiles; ++m) {
            score[m][n][e] = __fmaf_rn(part[m][n][e], scale, score[m][n][e]);
            part[m][n][e] = 0.0f;
          }
        }
      }
    }
  }
  if constexpr (kFp8) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, k + kRopeAt + (((2 * step + (lane >> 3 & 1)) ^ lane) & 7) * 16);
#pragma unroll
      for (int m = 0; m < T::kScoreTiles; ++m) {
        uint32_t a[4];
        ptx::ldmatrix_x4(a, q + m * 16 * kRowBytes + kRopeAt + (((2 * step + (lane >> 4)) ^ lane) & 7) * 16);
        ptx::mma_bf16(part[m][0], a, b[0], b[1]);
        ptx::mma_bf16(part[m][1], a, b[2], b[3]);
      }
    }
#pragma unroll
    for (int m = 0; m < T::kScoreTiles; ++m) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) score[m][n][e] = __fadd_rn(score[m][n][e], part[m][n][e]);
      }
    }
  }
}

/// Weights of a warp's columns onto its sums: sum[m][n] += P[16 m ..][keys] V[keys][8 n ..].
template <int kHeads, bool kFp8>
__device__ void multiply_values(const Tile<kHeads, kFp8> &tile, const unsigned char *block,
                                const unsigned char *weights,
                                float (&sum)[Tile<kHeads, kFp8>::kSumTiles][Tile<kHeads, kFp8>::kColumnTiles][4]) {
  using T = Tile<kHeads, kFp8>;
  const int thread = ptx::thread_index();
  const int lane = thread % 32;
  const int column = thread / 32 * T::kColumns;
  const uint32_t p =
      ptx::shared_address(weights) + (kFp8 ? column / 128 * (kHeads * 128) : 0) + (lane & 15) * T::kWeightRow;
  const uint32_t v = ptx::shared_address(block) + (lane & 15) * kRowBytes;
#pragma unroll
  for (int step = 0; step < kBlockKeys / 16; ++step) {
    uint32_t a[T::kSumTiles][4];
#pragma unroll
    for (int m = 0; m < T::kSumTiles; ++m) {
      ptx::ldmatrix_x4(a[m], p + m * 16 * T::kWeightRow + (((2 * step + (lane >> 4)) ^ lane) & 7) * 16);
    }
#pragma unroll
    for (int n = 0; n < T::kColumnTiles; n += 2) {
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, v + step * 16 * kRowBytes + piece_at(column / 8 + n + (lane >> 4), lane));
#pragma unroll
      for (int m = 0; m < T::kSumTiles; ++m) {
        ptx::mma_bf16(sum[m][n], a[m], b[0], b[1]);
        ptx::mma_bf16(sum[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// Item `number` of the call: tiles of a row lie next to each other, so that they run at the same time and share what
/// the second cache level holds. Adds IC_FAULT_* bits to *fault for an illegal row.
template <int kHeads>
__device__ Item make_item(const AttendParams &p, const AttendPlan &plan, int64_t number, uint32_t *fault) {
  Item item;
  item.head = static_cast<int32_t>(number % plan.head_tiles) * kHeads;
  item.heads = min(kHeads, p.num_heads - item.head);
  item.row_split = number / plan.head_tiles;
  const bool walks = plan.splits == 0;
  item.row = static_cast<int32_t>(walks ? item.row_split : item.row_split / plan.splits);
  item.list = key_list(p, item.row, fault);
  item.begin = walks ? 0 : static_cast<int32_t>(item.row_split % plan.splits) * kSplitEntries;
  item.end = walks ? item.list.count : min(item.list.count, item.begin + kSplitEntries);
  return item;
}

template <int kHeads, bool kFp8>
__global__ void __launch_bounds__(kThreads, 1)
    attend_mma_kernel(const __grid_constant__ AttendParams p, const __grid_constant__ AttendPlan plan) {
  using T = Tile<kHeads, kFp8>;
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const T tile(shared_bytes, plan.stages);
  typename T::State &state = *tile.state;
  const int64_t token_bytes = kFp8 ? kFp8TokenBytes : kRowBytes;
  const bool two_stages = !kFp8 && plan.stages > 1;
  const bool walks = plan.splits == 0;
  uint32_t fault = 0;

  for (int64_t number = blockIdx.x; number < plan.num_items; number += gridDim.x) {
    __syncthreads();  // nobody reads the last item's shared memory any more
    if (threadIdx.x == 0) state.item = make_item<kHeads>(p, plan, number, &fault);
    __syncthreads();
    const int32_t num_blocks = (state.item.end - state.item.begin + kBlockKeys - 1) / kBlockKeys;
    if (num_blocks <= 0) {
      if (walks) store_empty_row(p, state.item.row, state.item.head, state.item.heads);
      continue;
    }

    // ---- queries, addresses of the first two blocks, tokens of the first ----
    load_queries<kHeads, kFp8>(p, plan.q_aligned != 0, tile.query, state.item.row, state.item.head);
    int32_t index = -1;  // of this thread's key, two blocks ahead of the addresses
    if (threadIdx.x < kBlockKeys) {
      const KeyList list = state.item.list;
      const int32_t end = state.item.end;
      const int32_t entry = state.item.begin + static_cast<int32_t>(threadIdx.x);
      const int32_t first = load_index(list, entry, end);
      const int32_t second = load_index(list, entry + kBlockKeys, end);
      index = load_index(list, entry + 2 * kBlockKeys, end);
      const int32_t first_page = load_page(p, list, plan.page_shift, first);
      const int32_t second_page = load_page(p, list, plan.page_shift, second);
      state.key_at[0][threadIdx.x] = token_address(p, list, plan.page_shift, first, first_page, token_bytes, &fault);
      state.key_at[1][threadIdx.x] = token_address(p, list, plan.page_shift, second, second_page, token_bytes, &fault);
    }
    if (threadIdx.x < kHeads) state.total[threadIdx.x] = {-INFINITY, 0.0f};
    __syncthreads();
    BlockCopy<kFp8>(state.key_at[0], kFp8 ? tile.raw : tile.blocks, true).copy_all(p);
    ptx::copy_async_commit();

    float maximum[T::kScoreTiles][2] = {}, denominator[T::kScoreTiles][2] = {};
    float sum[T::kSumTiles][T::kColumnTiles][4] = {};

    int32_t slot = 0;  // block % 3
    for (int32_t block = 0; block < num_blocks; ++block) {
      const int32_t next_slot = slot == 2 ? 0 : slot + 1;
      const int32_t free_slot = next_slot == 2 ? 0 : next_slot + 1;
      unsigned char *keys = tile.blocks + (two_stages ? (block & 1) * T::kBlockBytes : 0);
      unsigned char *weights = kFp8 ? tile.weights : keys + kRopeAt;
      const bool first_of_split = block % kSplitBlocks == 0;

      // ---- the block is here; the next one is on its way ----
      ptx::copy_async_wait<0>();
      __syncthreads();
      if constexpr (kFp8) {
        widen_block(tile);
        __syncthreads();
      }
      const BlockCopy<kFp8> copy(state.key_at[next_slot], kFp8 ? tile.raw : tile.blocks + (~block & 1) * T::kBlockBytes,
                                 (kFp8 || two_stages) && block + 1 < num_blocks);
      int32_t coming_index = -1;
      int32_t coming_page = -1;
      if (threadIdx.x < kBlockKeys) {
        const int32_t entry = state.item.begin + (block + 3) * kBlockKeys + static_cast<int32_t>(threadIdx.x);
        coming_page = load_page(p, state.item.list, plan.page_shift, index);
        coming_index = load_index(state.item.list, entry, state.item.end);
      }

      // ---- scores and their maxima ----
      float score[T::kScoreTiles][2][4];
      const int thread = ptx::thread_index();
      const int lane = thread % 32;
      const int key_warp = thread / 32 % kKeyWarps;
      // The head of m = 0, e < 2; + 16 m, + 8 for e >= 2
      const int score_head = thread / 32 / kKeyWarps * T::kWarpHeads + lane / 4;
      const bool scores = T::kScoreWarps == kWarps || thread < T::kScoreWarps * 32;
      if (scores) {
        multiply_scores<kHeads, kFp8>(p, tile, keys, copy, score);
        bool there[2][2];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            there[n][e] = state.key_at[slot][key_warp * 16 + n * 8 + lane % 4 * 2 + e] != nullptr;
          }
        }
#pragma unroll
        for (int m = 0; m < T::kScoreTiles; ++m) {
          float top[2] = {-INFINITY, -INFINITY};
#pragma unroll
          for (int n = 0; n < 2; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              score[m][n][e] = there[n][e % 2] ? __fmul_rn(score[m][n][e], p.softmax_scale) : -INFINITY;
              top[e / 2] = fmaxf(top[e / 2], score[m][n][e]);
            }
          }
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            top[half] = fmaxf(top[half], __shfl_xor_sync(~0u, top[half], 1));
            top[half] = fmaxf(top[half], __shfl_xor_sync(~0u, top[half], 2));
            if (lane % 4 == 0) state.parts[key_warp][score_head + m * 16 + half * 8] = top[half];
          }
        }
      } else {
        copy.copy_all(p);
      }
      ptx::copy_async_commit();
      __syncthreads();

      // ---- weights ----
      if (scores) {
        float group_scale[2][2][kGroups];
        if constexpr (kFp8) {
#pragma unroll
          for (int n = 0; n < 2; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const float4 s =
                  *reinterpret_cast<const float4 *>(state.group_scale[key_warp * 16 + n * 8 + lane % 4 * 2 + e]);
              group_scale[n][e][0] = s.x;
              group_scale[n][e][1] = s.y;
              group_scale[n][e][2] = s.z;
              group_scale[n][e][3] = s.w;
            }
          }
        }
#pragma unroll
        for (int m = 0; m < T::kScoreTiles; ++m) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int h = score_head + m * 16 + half * 8;
            const float old = first_of_split ? -INFINITY : maximum[m][half];
            float top = old;
#pragma unroll
            for (int part = 0; part < kKeyWarps; ++part) top = fmaxf(top, state.parts[part][h]);
            const float base = exponent_base(top);
            const float rescale = ptx::exp2_approx(__fmul_rn(__fsub_rn(old, base), kLog2e));
            float total = first_of_split ? 0.0f : __fmul_rn(denominator[m][half], rescale);
            unsigned char *weight_row = weights + h * T::kWeightRow + lane % 4 * 4;
#pragma unroll
            for (int n = 0; n < 2; ++n) {
              float weight[2];
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                weight[e] = ptx::exp2_approx(__fmul_rn(__fsub_rn(score[m][n][half * 2 + e], base), kLog2e));
                total = __fadd_rn(total, weight[e]);
              }
              const int at = ((key_warp * 2 + n) ^ (h & 7)) * 16;
              if constexpr (kFp8) {
#pragma unroll
                for (int group = 0; group < kGroups; ++group) {
                  *reinterpret_cast<uint32_t *>(weight_row + group * (kHeads * 128) + at) = ptx::bf16x2_from_f32(
                      __fmul_rn(weight[0], group_scale[n][0][group]), __fmul_rn(weight[1], group_scale[n][1][group]));
                }
              } else {
                *reinterpret_cast<uint32_t *>(weight_row + at) = ptx::bf16x2_from_f32(weight[0], weight[1]);
              }
            }
            maximum[m][half] = top;
            denominator[m][half] = total;
            if (key_warp == 0 && lane % 4 == 0) state.rescale[h] = rescale;
          }
        }
      }
      __syncthreads();

      // ---- values ----
      // Always, though most factors are 1: branches around so many registers make the compiler spill.
#pragma unroll
      for (int m = 0; m < T::kSumTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float rescale = state.rescale[m * 16 + half * 8 + lane / 4];
#pragma unroll
          for (int n = 0; n < T::kColumnTiles; ++n) {
            sum[m][n][half * 2] = __fmul_rn(sum[m][n][half * 2], rescale);
            sum[m][n][half * 2 + 1] = __fmul_rn(sum[m][n][half * 2 + 1], rescale);
          }
        }
      }
      multiply_values<kHeads, kFp8>(tile, keys, weights, sum);

      // ---- addresses of the block after the next ----
      if (threadIdx.x < kBlockKeys) {
        state.key_at[free_slot][threadIdx.x] =
            token_address(p, state.item.list, plan.page_shift, index, coming_page, token_bytes, &fault);
        index = coming_index;
      }
      slot = next_slot;

      // ---- end of a split ----
      const bool last = block + 1 == num_blocks;
      if (last || (block + 1) % kSplitBlocks == 0) {
#pragma unroll
        for (int m = 0; m < T::kScoreTiles; ++m) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float total = denominator[m][half];
            total = __fadd_rn(total, __shfl_xor_sync(~0u, total, 1));
            total = __fadd_rn(total, __shfl_xor_sync(~0u, total, 2));
            const int h = score_head + m * 16 + half * 8;
            if (scores && lane % 4 == 0) state.parts[key_warp][h] = total;
            if (scores && key_warp == 0 && lane % 4 == 0) state.maximum[h] = maximum[m][half];
          }
        }
        __syncthreads();
        const int32_t heads = state.item.heads;
        const int32_t head = state.item.head;
        const int32_t row = state.item.row;
        if (threadIdx.x < heads) {
          const int h = threadIdx.x;
          float total = state.parts[0][h];
#pragma unroll
          for (int part = 1; part < kKeyWarps; ++part) total = __fadd_rn(total, state.parts[part][h]);
          const SplitResult result = {state.maximum[h], total};
          if (walks) {
            SplitResult joined = state.total[h];
            state.weights[h] = join(joined, result);
            state.total[h] = joined;
            if (last) {
              state.factor[h] = output_factor(p, joined, head + h);
              store_lse(p, joined, row, head + h);
            }
          } else {
            split_results(p)[state.item.row_split * p.num_heads + head + h] = result;
          }
        }
        __syncthreads();
        float *split_sum =
            walks ? nullptr : split_sums(p, plan.splits) + (state.item.row_split * p.num_heads + head) * kLatent;
        auto *scratch =
            reinterpret_cast<float4 *>(static_cast<float *>(p.workspace) + int64_t{blockIdx.x} * (kHeads * kLatent)) +
            thread;
        const bool first_split = block < kSplitBlocks;
#pragma unroll
        for (int m = 0; m < T::kSumTiles; ++m) {
          // All loads first: one latency, not one after another.
          float4 totals[T::kColumnTiles];
          float4 *places = scratch + m * T::kColumnTiles * kThreads;
#pragma unroll
          for (int n = 0; n < T::kColumnTiles; ++n) {
            totals[n] = walks && !first_split ? places[n * kThreads] : float4{0.0f, 0.0f, 0.0f, 0.0f};
          }
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int h = m * 16 + half * 8 + lane / 4;
            if (h >= heads) continue;
            const int column = thread / 32 * T::kColumns + lane % 4 * 2;
            if (!walks) {
#pragma unroll
              for (int n = 0; n < T::kColumnTiles; ++n) {
                *reinterpret_cast<float2 *>(split_sum + int64_t{h} * kLatent + column + n * 8) =
                    float2{sum[m][n][half * 2], sum[m][n][half * 2 + 1]};
              }
              continue;
            }
            const JoinWeights join_weights = state.weights[h];
            const float factor = state.factor[h];
            const int64_t out = output_at(p, row, head + h) + column;
#pragma unroll
            for (int n = 0; n < T::kColumnTiles; ++n) {
              float &first = half == 0 ? totals[n].x : totals[n].z;
              float &second = half == 0 ? totals[n].y : totals[n].w;
              first = join_sum(first, sum[m][n][half * 2], join_weights);
              second = join_sum(second, sum[m][n][half * 2 + 1], join_weights);
              if (last) {
                store_output_pair(p, plan.out_aligned != 0, out + n * 8, scaled_output(first, factor),
                                  scaled_output(second, factor));
              }
            }
          }
          if (walks && !last) {
#pragma unroll
            for (int n = 0; n < T::kColumnTiles; ++n) places[n * kThreads] = totals[n];
          }
#pragma unroll
          for (int n = 0; n < T::kColumnTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) sum[m][n][e] = 0.0f;  // the next split starts afresh
          }
        }
      }

      if (!kFp8 && !two_stages && !last) {
        __syncthreads();  // all are done with the block
        BlockCopy<kFp8>(state.key_at[next_slot], tile.blocks, true).copy_all(p);
        ptx::copy_async_commit();
      }
    }
  }
  report_fault(p.rows.fault, fault);
}

template <int kHeads, bool kFp8>
cudaError_t load(int64_t shared_limit) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, attend_mma_kernel<kHeads, kFp8>);
  if (error != cudaSuccess) return error;
  const int32_t stages = attend_mma_stages(kHeads, kFp8 ? IC_DTYPE_E4M3 : IC_DTYPE_BF16, shared_limit);
  if (stages == 0) return cudaSuccess;  // never launched on this chip
  return cudaFuncSetAttribute(attend_mma_kernel<kHeads, kFp8>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              Tile<kHeads, kFp8>::shared_bytes(stages));
}

template <int kHeads, bool kFp8>
cudaError_t launch(const AttendParams &params, const AttendPlan &plan, unsigned num_ctas, cudaStream_t stream) {
  using T = Tile<kHeads, kFp8>;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(num_ctas);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(T::shared_bytes(plan.stages));
  config.stream = stream;
  return cudaLaunchKernelEx(&config, attend_mma_kernel<kHeads, kFp8>, params, plan);
}

template <int kHeads, bool kFp8>
int32_t stages_that_fit(int64_t shared_bytes) {
  using T = Tile<kHeads, kFp8>;
  if (!kFp8 && T::shared_bytes(2) <= shared_bytes) return 2;
  return T::shared_bytes(1) <= shared_bytes ? 1 : 0;
}

}  // namespace

int32_t attend_mma_stages(int32_t heads, int32_t kv_dtype, int64_t shared_bytes) {
  const bool fp8 = kv_dtype == IC_DTYPE_E4M3;
  if (heads == 64) return fp8 ? stages_that_fit<64, true>(shared_bytes) : stages_that_fit<64, false>(shared_bytes);
  return fp8 ? stages_that_fit<16, true>(shared_bytes) : stages_that_fit<16, false>(shared_bytes);
}

cudaError_t load_attend_mma() {
  int device = 0;
  int shared_limit = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (error == cudaSuccess) error = load<64, false>(shared_limit);
  if (error == cudaSuccess) error = load<16, false>(shared_limit);
  if (error == cudaSuccess) error = load<64, true>(shared_limit);
  if (error == cudaSuccess) error = load<16, true>(shared_limit);
  return error;
}

cudaError_t launch_attend_mma(const AttendParams &params, const AttendPlan &plan, int32_t heads, unsigned num_ctas,
                              cudaStream_t stream) {
  if (params.kv_dtype == IC_DTYPE_E4M3) {
    return heads == 64 ? launch<64, true>(params, plan, num_ctas, stream)
                       : launch<16, true>(params, plan, num_ctas, stream);
  }
  return heads == 64 ? launch<64, false>(params, plan, num_ctas, stream)
                     : launch<16, false>(params, plan, num_ctas, stream);
}

}  // namespace ic::cuda

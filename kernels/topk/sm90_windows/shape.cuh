// SPDX-License-Identifier: Apache-2.0
// A shape of the selection and what a block keeps in shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/params.h"
#include "kernels/policy/sm90.h"
#include "kernels/ptx/cluster.cuh"
#include "kernels/topk/sm90_rows.cuh"

namespace ic::cuda::windows {

constexpr uint32_t kWarp = 0xffffffffu;
constexpr int32_t kMostFew = 32;        // entries that are ranked by comparison
constexpr int32_t kTileColumns = 1024;  // of a warp; 32 in a row of each thread

/// Words that the warps of a block leave for each other.
struct BlockWords {
  uint64_t landed[32];  // mbarriers of the warps' slots
  uint32_t of_warp[32];
  uint32_t of_warp_too[32];
  int32_t bin[2][3];    // which, entries above it, entries in it
  uint32_t num_above;   // scores above the window in this block's part
  uint32_t num_listed;  // scores in the window
  uint32_t num_ties;    // scores of its lowest key, where these stay out of the list
  uint32_t num_few;
  uint32_t chosen_in_front;  // in the parts of blocks in front of this one
  uint2 of_block[8];         // (above, listed) of the cluster's blocks
  uint2 ties_of_block[8];    // (ties, 0)
  uint2 few[kMostFew];
};

/// One shape of the kernel.
/// kThreads_, kBlocksPerProcessor_: of a block, and blocks that fit
/// kSampleVectors_: most 16-byte groups that a thread samples
/// kCapacity_: entries of the list
/// kColumns_: most columns of a block's part of a row
/// kCluster_: blocks that share a row
/// kBins_: of its histogram
template <int kThreads_, int kSampleVectors_, int kCapacity_, int kColumns_, int kCluster_, int kBlocksPerProcessor_,
          int kBins_>
struct SelectShape {
  static constexpr int kThreads = kThreads_;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kTile = kWarps * kTileColumns;  // of the block
  static constexpr int kSampleVectors = kSampleVectors_;
  static constexpr int kStrata = kThreads * kSampleVectors;  // of the sample
  static constexpr int kCapacity = kCapacity_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kLeastCapacity = kCapacity - kColumns / 64;  // beside ties
  static constexpr int kCluster = kCluster_;
  static constexpr int kBlocksPerProcessor = kBlocksPerProcessor_;
  static constexpr int kBins = kBins_;
  static constexpr int kBinBits = kBins >= 2048 ? 11 : 10;  // of a key

  static constexpr uint32_t kBitsAt = kTile * 4;               // one per column: above the window
  static constexpr uint32_t kListAt = kBitsAt + kColumns / 8;  // (key, position) in the window, in no order
  static constexpr uint32_t kBinsAt = kListAt + kCapacity * 8;
  static constexpr uint32_t kWordsAt = kBinsAt + kBins * 4;
  static constexpr uint32_t kBytes = kWordsAt + sizeof(BlockWords);

  // The list's memory serves ties and the output row, too.
  static_assert(kColumns % 1024 == 0 && kColumns / 8 <= kCapacity * 8 && sm90::kMostSelected * 4 <= kCapacity * 8);
  static_assert(kBins % (2 * kThreads) == 0 && kBins >= 1024 && kLeastCapacity > 0 && kWarps <= 32 && kCluster <= 8);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

extern __shared__ __align__(128) uint8_t select_shared[];

__device__ inline uint32_t shared_address(const void *p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

template <class S>
__device__ inline uint32_t *column_bits() {
  return reinterpret_cast<uint32_t *>(select_shared + S::kBitsAt);
}
template <class S>
__device__ inline uint2 *candidates() {
  return reinterpret_cast<uint2 *>(select_shared + S::kListAt);
}
/// The output row, when the list is done with.
template <class S>
__device__ inline int32_t *ranked() {
  return reinterpret_cast<int32_t *>(select_shared + S::kListAt);
}
/// Zero whenever nobody counts.
template <class S>
__device__ inline uint32_t *bins() {
  return reinterpret_cast<uint32_t *>(select_shared + S::kBinsAt);
}
template <class S>
__device__ inline BlockWords &block_words() {
  return *reinterpret_cast<BlockWords *>(select_shared + S::kWordsAt);
}

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % 32; }
__device__ inline int warp_id() { return static_cast<int>(threadIdx.x) / 32; }

__device__ inline int32_t warp_inclusive_sum(int32_t value) {
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int32_t other = __shfl_up_sync(kWarp, value, distance);
    if (lane_id() >= distance) value += other;
  }
  return value;
}

// ---- words of bits: the highest is the first column -----------------------------------------------------------------

/// A word with more bits is handled by its warp together, so that runs of bits do not leave lanes idle.
constexpr int32_t kMostAlone = 12;

__device__ inline bool has_bit(uint32_t word, int32_t i) { return (word & (0x80000000u >> i)) != 0; }
__device__ inline int32_t bits_in_front(uint32_t word, int32_t i) { return __popc(word & ~(kWarp >> i)); }
__device__ inline int32_t take_first_bit(uint32_t *word) {
  const int32_t i = __clz(static_cast<int>(*word));
  *word &= ~(0x80000000u >> i);
  return i;
}

// ---- keys: scores as integers in the order of the selection --------------------------------------------------------

constexpr uint32_t kKeyOfMinusInfinity = 0x007fffffu;
constexpr uint32_t kKeyOfInfinity = 0xff800000u;

/// -0 as +0. Not for a NaN.
__device__ inline uint32_t key_of(float score) {
  const uint32_t bits = __float_as_uint(__fadd_rn(score, 0.0f));
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}
__device__ inline float score_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}
__device__ inline float without_nan(float score) { return fmaxf(score, -INFINITY); }

/// Keys that the k-th lies between, ends included; both are keys of scores.
struct Window {
  uint32_t low;
  uint32_t high;
  bool ties;  // many have the lowest key: they become bits and stay out of the list
  __device__ bool has_bottom() const { return low == kKeyOfMinusInfinity; }
  /// Where the k-th is if it is not in here: next to the window, if `next_to` and it has a width, else anywhere.
  __device__ Window above(bool next_to) const {
    const uint32_t width = high - low;
    const bool bounded = next_to && width > 0 && width < kKeyOfInfinity - high;
    return {high + 1, bounded ? high + width : kKeyOfInfinity, false};
  }
  __device__ Window below(bool next_to) const {
    const uint32_t width = (high - low) / 2;  // scores are denser there
    const bool bounded = next_to && width > 0 && width < low - kKeyOfMinusInfinity;
    return {bounded ? low - width : kKeyOfMinusInfinity, low - 1, false};
  }
};

// ---- rows ----------------------------------------------------------------------------------------------------------

using sm90::RowWords;
using sm90::slice;
using sm90::Span;

/// Entries that the list of each block of a row has room for.
template <class S>
__device__ inline int32_t list_capacity(const Window &window, const Span &row) {
  if (!window.ties) return S::kCapacity;
  const int32_t columns = slice<S>(row, 0).end - row.base;  // no part has more
  return S::kCapacity - (columns + kTileColumns - 1) / kTileColumns * (kTileColumns / 64);
}

/// One per column: has the window's lowest key. The end of the list's memory.
template <class S>
__device__ inline uint32_t *tie_bits(const Window &window, const Span &row) {
  return reinterpret_cast<uint32_t *>(select_shared + S::kListAt + 8 * list_capacity<S>(window, row));
}

#endif

}  // namespace ic::cuda::windows

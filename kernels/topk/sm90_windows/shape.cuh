// SPDX-License-Identifier: Apache-2.0
// A shape of the selection and what a block keeps in shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/params.h"
#include "kernels/policy/sm90.h"
#include "kernels/ptx/bits.cuh"
#include "kernels/ptx/shared.cuh"
#include "kernels/topk/order_key.cuh"
#include "kernels/topk/sm90_line.cuh"
#include "kernels/topk/sm90_rows.cuh"
#include "kernels/topk/sm90_warp.cuh"

namespace ic::cuda::windows {

using sm90::kMostFew;

constexpr int32_t kTileColumns = 1024;  // of a warp; 32 in a row of each thread

/// Words that the warps of a block leave for each other.
struct BlockWords {
  uint64_t landed[32];  // mbarriers of the warps' slots
  uint64_t counted;     // of the other blocks' counts
  uint64_t gathered;    // and of their lists
  uint32_t of_warp[32];
  uint32_t of_warp_too[32];
  uint32_t chosen_of_warp[32];
  int32_t bin[2][3];    // which, entries above it, entries in it
  uint32_t num_above;   // scores above the window in this block's part
  uint32_t num_listed;  // scores in the window
  uint32_t num_ties;    // scores of its lowest key, where these stay out of the list
  uint32_t num_few;
  uint32_t chosen_in_front;  // in the parts of blocks in front of this one
  uint4 of_block[8];         // (above, listed, ties) of the cluster's other blocks
  uint2 few[kMostFew];
};

/// One shape of the kernel.
/// kThreads_, kBlocksPerProcessor_: of a block, and blocks that fit
/// kSampleGroups_: 16-byte groups that a thread samples
/// kCapacity_: entries of the list
/// kColumns_: most columns of a block's part of a row
/// kCluster_: blocks that share a row
/// kBins_: of its histogram
template <int kThreads_, int kSampleGroups_, int kCapacity_, int kColumns_, int kCluster_, int kBlocksPerProcessor_,
          int kBins_>
struct SelectShape {
  static constexpr int kThreads = kThreads_;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kTile = kWarps * kTileColumns;  // of the block
  /// Tiles of a warp on their way. More of them are asked for while the window is looked for: where parts are long.
  static constexpr int kSlots = kBlocksPerProcessor_ == 1 && kCluster_ <= 3 ? 2 : 1;
  static constexpr int kSampleGroups = kSampleGroups_;
  static constexpr int kStrata = kThreads * kSampleGroups;  // of the sample
  /// Of the window to both sides of the k-th, in standard deviations. A wrong window of one row delays all the others
  /// of a call; clusters of eight have few.
  static constexpr float kMargin = kCluster_ == 8 ? 3.5f : 4.0f;
  static constexpr int kCapacity = kCapacity_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kLeastCapacity = kCapacity - kColumns / 64;  // beside ties
  static constexpr int kCluster = kCluster_;
  static constexpr int kBlocksPerProcessor = kBlocksPerProcessor_;
  static constexpr int kBins = kBins_;
  /// Entries of a list that is stored into the other blocks: of a part's share of usual windows 1.4 times at 128K
  /// columns, 1.2 times at 200K; in clusters of eight 2.1 and 1.7 times.
  static constexpr int kMostPushed = kCluster == 8 ? 512 : 3072 / kCluster;
  static constexpr int kBinBits = kBins >= 2048 ? 11 : 10;  // of a key

  static constexpr uint32_t kBitsAt = kSlots * kTile * 4;      // one per column: above the window
  static constexpr uint32_t kListAt = kBitsAt + kColumns / 8;  // (key, position) in the window, in no order
  static constexpr uint32_t kBinsAt = kListAt + kCapacity * 8;
  static constexpr uint32_t kWordsAt = kBinsAt + kBins * 4;
  static constexpr uint32_t kBytes = kWordsAt + sizeof(BlockWords);

  // The list's memory serves ties and the output row, too.
  static_assert(kColumns % 1024 == 0 && kColumns / 8 <= kCapacity * 8 && sm90::kMostSelected * 4 <= kCapacity * 8);
  static_assert(kBins % (2 * kThreads) == 0 && kBins >= 1024 && kLeastCapacity > 0 && kWarps * kSlots <= 32 &&
                kCluster <= 8);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using ptx::shared_address;
using sm90::kWarp;
using sm90::RowWords;
using sm90::slice;
using sm90::Span;
using sm90::warp_inclusive_sum;

extern __shared__ __align__(128) uint8_t select_shared[];

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
/// Zero before entries are counted.
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

// ---- words of bits: the highest is the first column -----------------------------------------------------------------

/// A word with more bits is handled by its warp together, so that runs of bits do not leave lanes idle.
constexpr int32_t kMostAlone = 12;

__device__ inline bool has_bit(uint32_t word, int32_t i) { return (word & (0x80000000u >> i)) != 0; }
__device__ inline int32_t bits_in_front(uint32_t word, int32_t i) { return __popc(word & ~(kWarp >> i)); }
/// word: not zero.
__device__ inline int32_t take_first_bit(uint32_t *word) {
  const uint32_t i = ptx::leading_zeros(*word);
  *word &= 0x7fffffffu >> i;
  return static_cast<int32_t>(i);
}

// ---- keys ----------------------------------------------------------------------------------------------------------

/// Where a window may end: compared as a score, the key of -0 would be that of +0, which is larger.
__device__ inline uint32_t window_end(uint32_t key) { return key == kMinusZeroKey ? kMinusZeroKey - 1 : key; }

/// Keys that the k-th lies between, ends included.
struct Window {
  uint32_t low;
  uint32_t high;
  bool ties;  // many have the lowest key: they become bits and stay out of the list
  __device__ bool has_bottom() const { return low == kMinusInfinityKey; }
  /// Where the k-th is if it is not in here: next to the window, if `next_to` and it has a width, else anywhere.
  __device__ Window above(bool next_to) const {
    const uint32_t width = high - low;
    const bool bounded = next_to && width > 0 && width < kInfinityKey - high;
    return {high + 1, bounded ? window_end(high + width) : kInfinityKey, false};
  }
  __device__ Window below(bool next_to) const {
    const uint32_t width = (high - low) / 2;  // scores are denser there
    const bool bounded = next_to && width > 0 && width < low - kMinusInfinityKey;
    return {bounded ? low - width : kMinusInfinityKey, window_end(low - 1), false};
  }
};

// ---- rows ----------------------------------------------------------------------------------------------------------

/// Of the warp's first tile of a part.
__device__ inline int32_t first_tile_column(const Span &part) { return part.base + warp_id() * kTileColumns; }

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

// SPDX-License-Identifier: Apache-2.0
// The candidates of a row in shared memory, in no order: (key, position) pairs; how the k-th of them is found and how
// the list is cut down to the k best. Functions are called by all threads of a block.
//
// Loops are rolled on purpose: each runs once per row, and straight-line code would miss the instruction cache. Those
// of keep_best() are not, so that its entries are in registers.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/policy/sm90.h"
#include "kernels/ptx/shared.cuh"
#include "kernels/ptx/thread_index.cuh"
#include "kernels/topk/sm90_line.cuh"
#include "kernels/topk/sm90_warp.cuh"

namespace ic::cuda::lists {

constexpr int kCutBins = 2048;
using sm90::kMostFew;

/// Counters, and words that the warps of a block leave for each other.
struct BlockWords {
  uint64_t landed[8];  // mbarriers of the warps' slots
  uint32_t of_warp[32];
  uint32_t of_warp_too[32];
  uint32_t bin[3];        // which, entries above it, entries in it
  uint32_t num_listed;    // entries asked for; more than fit after an overflow
  uint32_t valid_listed;  // entries before the first that did not fit
  uint32_t num_few;
  uint32_t num_chosen;
  uint32_t last_key;  // where the last row started
  int2 ranges[4];     // columns of the row of turn t in [t % 4]
  uint2 few[kMostFew];
};

/// The kernel's only shape. Long rows are many rows here: a block per row, and no clusters.
struct Shape {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kCluster = 1;
  static constexpr int kBlocksPerProcessor = 3;
  static constexpr int kSampleGroups = 2;  // of 16 bytes, that a thread samples
  static constexpr int kSamples = kThreads * kSampleGroups * 4;
  static constexpr int kCapacity = 4096;  // of the list
  static constexpr int kPerThread = kCapacity / kThreads;
  static constexpr int kVectors = 8;  // 16-byte groups of a lane in a warp's tile
  static constexpr int kWarpTile = 128 * kVectors;
  static constexpr int kTile = kWarps * kWarpTile;

  static constexpr uint32_t kListAt = kTile * 4;
  static constexpr uint32_t kBinsAt = kListAt + kCapacity * 8;
  static constexpr uint32_t kWordsAt = kBinsAt + kCutBins * 4;
  static constexpr uint32_t kBytes = kWordsAt + sizeof(BlockWords);

  static_assert(kCutBins >= sm90::kMostSelected);  // the output row is built there
  static_assert(kCapacity % kThreads == 0 && kCutBins % (4 * kThreads) == 0);
  static_assert(kVectors <= 8 && kPerThread <= 32);  // accepted elements of a lane are bits of a word
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using ptx::shared_address;
using sm90::is_above;
using sm90::kWarp;
using sm90::Line;
using sm90::warp_inclusive_sum;

extern __shared__ __align__(128) uint8_t select_shared[];

__device__ inline uint2 *candidates() { return reinterpret_cast<uint2 *>(select_shared + Shape::kListAt); }
/// Zero before entries are counted; the output row is built there, too.
__device__ inline uint32_t *bins() { return reinterpret_cast<uint32_t *>(select_shared + Shape::kBinsAt); }
__device__ inline BlockWords &block_words() { return *reinterpret_cast<BlockWords *>(select_shared + Shape::kWordsAt); }

struct Bin {
  int32_t index;
  int32_t above;  // entries in higher bins
  int32_t count;
};

/// The bin, from the top, that holds the wanted-th entry; the bins become zero again. Two barriers; the caller has one
/// before.
__device__ inline Bin find_bin(int32_t wanted) {
  constexpr int kOwn = kCutBins / Shape::kThreads;
  BlockWords &words = block_words();
  const int tid = ptx::thread_index();
  const int lane = tid % 32;
  const int first = kCutBins - (tid + 1) * kOwn;
  int32_t counts[kOwn];
  int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn / 4; ++i) {
    int4 &four = reinterpret_cast<int4 *>(bins() + first)[i];
    counts[4 * i] = four.x;
    counts[4 * i + 1] = four.y;
    counts[4 * i + 2] = four.z;
    counts[4 * i + 3] = four.w;
    sum += four.x + four.y + four.z + four.w;
    four = make_int4(0, 0, 0, 0);
  }
  const int32_t inclusive = warp_inclusive_sum(sum);
  if (lane == 31) words.of_warp[tid / 32] = static_cast<uint32_t>(inclusive);
  __syncthreads();
  int32_t before =
      static_cast<int32_t>(__reduce_add_sync(kWarp, lane < tid / 32 ? words.of_warp[lane] : 0u)) + inclusive - sum;
  if (before < wanted && wanted <= before + sum) {
#pragma unroll
    for (int i = kOwn - 1; i >= 0; --i) {
      if (before < wanted && wanted <= before + counts[i]) {
        words.bin[0] = static_cast<uint32_t>(first + i);
        words.bin[1] = static_cast<uint32_t>(before);
        words.bin[2] = static_cast<uint32_t>(counts[i]);
      }
      before += counts[i];
    }
  }
  __syncthreads();
  return {static_cast<int32_t>(words.bin[0]), static_cast<int32_t>(words.bin[1]), static_cast<int32_t>(words.bin[2])};
}

/// The line that exactly k of the first `count` >= k entries are above; positions lie in [begin, end).
__device__ inline Line find_line(int32_t count, int32_t k, int32_t begin, int32_t end) {
  const uint2 *list = candidates();
  BlockWords &words = block_words();
  const int tid = ptx::thread_index();
  const int lane = tid % 32;
  uint32_t low = 0xffffffffu;
  uint32_t high = 0;
  if (tid == 0) words.num_few = 0;
#pragma unroll 4
  for (int32_t i = tid; i < count; i += Shape::kThreads) {
    const uint32_t key = list[i].x;
    high = max(high, key);
    low = min(low, key);
  }
  high = __reduce_max_sync(kWarp, high);
  low = __reduce_min_sync(kWarp, low);
  if (lane == 0) {
    words.of_warp[tid / 32] = high;
    words.of_warp_too[tid / 32] = low;
  }
  __syncthreads();
  high = __reduce_max_sync(kWarp, lane < Shape::kWarps ? words.of_warp[lane] : 0u);
  low = __reduce_min_sync(kWarp, lane < Shape::kWarps ? words.of_warp_too[lane] : 0xffffffffu);
  uint32_t tie_key = 0;
  bool ties = false;  // low and high are then complements of positions
#pragma unroll 1
  for (;;) {
    const uint32_t span = high - low;
    const int shift = max(0, 21 - __clz(static_cast<int>(span)));
    if (!ties) {
#pragma unroll 4
      for (int32_t i = tid; i < count; i += Shape::kThreads) {
        const uint32_t distance = list[i].x - low;
        if (distance <= span) atomicAdd(bins() + (distance >> shift), 1u);
      }
    } else {
#pragma unroll 2
      for (int32_t i = tid; i < count; i += Shape::kThreads) {
        const uint2 entry = list[i];
        const uint32_t distance = ~entry.y - low;
        if (entry.x == tie_key && distance <= span) atomicAdd(bins() + (distance >> shift), 1u);
      }
    }
    __syncthreads();
    const Bin bin = find_bin(k);
    k -= bin.above;
    const uint32_t edge = low + (static_cast<uint32_t>(bin.index) << shift);
    const uint32_t width = (1u << shift) - 1;
    const uint32_t top = high - edge < width ? high : edge + width;
    if (bin.count == k) return ties ? Line{tie_key, ~edge} : Line{edge, 0xffffffffu};
    if (bin.count <= kMostFew) {  // ranked by comparison, in every warp
#pragma unroll 4
      for (int32_t i = tid; i < count; i += Shape::kThreads) {
        const uint2 entry = list[i];
        const uint32_t value = ties ? ~entry.y : entry.x;
        if (value - edge <= top - edge && (!ties || entry.x == tie_key)) {
          words.few[ptx::shared_fetch_add(shared_address(&words.num_few), 1)] = entry;
        }
      }
      __syncthreads();
      return sm90::line_of_few(words.few, bin.count, k);
    }
    if (edge == top) {
      tie_key = edge;
      ties = true;
      low = ~static_cast<uint32_t>(end - 1);
      high = ~static_cast<uint32_t>(begin);
    } else {
      low = edge;
      high = top;
    }
  }
}

/// Keeps the k best of the list, which has at least k valid entries, and resets the counters to that.
__device__ __noinline__ Line keep_best(int32_t k, int32_t begin, int32_t end) {
  uint2 *list = candidates();
  BlockWords &words = block_words();
  const int tid = ptx::thread_index();
  const auto count = static_cast<int32_t>(min(words.valid_listed, words.num_listed));
  __syncthreads();
  if (tid == 0) {
    words.num_listed = 0;
    words.valid_listed = 0xffffffffu;
  }
  const Line line = find_line(count, k, begin, end);
  uint2 own[Shape::kPerThread];
  uint32_t stays = 0;  // a bit per entry
#pragma unroll
  for (int e = 0; e < Shape::kPerThread; ++e) {
    const int32_t i = e * Shape::kThreads + tid;
    own[e] = i < count ? list[i] : make_uint2(0, 0);
    if (i < count && is_above(own[e], line)) stays |= 1u << e;
  }
  uint32_t at = sm90::take_places(&words.num_listed, __popc(stays)).own;
  __syncthreads();  // all entries have been read
#pragma unroll
  for (int e = 0; e < Shape::kPerThread; ++e) {
    if ((stays >> e & 1u) != 0) list[at++] = own[e];
  }
  __syncthreads();
  return line;
}

#endif

}  // namespace ic::cuda::lists

// SPDX-License-Identifier: Apache-2.0
// The candidates of a row in shared memory, in no order: (key, position) pairs; how the k-th of them is found and how
// the list is cut down to the k best. Functions are called by all threads of a block.
//
// Loops are rolled on purpose: each runs once per row, and straight-line code would miss the instruction cache.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/policy/sm90.h"
#include "kernels/ptx/cluster.cuh"
#include "kernels/ptx/thread_index.cuh"

namespace ic::cuda::lists {

constexpr int kCutBins = 2048;
constexpr uint32_t kWarp = 0xffffffffu;
constexpr int32_t kMostFew = 32;  // entries that are ranked by comparison

/// Counters, and words that the warps of a block leave for each other.
struct BlockWords {
  uint64_t landed[64];  // mbarriers of the warps' slots
  uint32_t of_warp[32];
  uint32_t of_warp_too[32];
  uint32_t bin[3];        // which, entries above it, entries in it
  uint32_t num_listed;    // entries asked for; more than fit after an overflow
  uint32_t valid_listed;  // entries before the first that did not fit
  uint32_t overflow;      // a warp could not append
  uint32_t num_few;
  uint32_t num_chosen;
  uint32_t last_key;  // where the last row started
  uint32_t reserved;
  int2 ranges[4];  // columns of the row of turn t in [t % 4]
  uint2 few[kMostFew];
};

/// One shape of the kernel.
/// kThreads_, kBlocksPerProcessor_: of a block, and blocks that fit
/// kSampleVectors_: 16-byte groups that a thread samples
/// kCapacity_: of the list
/// kVectors_: 16-byte groups of a lane in a warp's tile; kSlots_: tiles that a warp has in flight
template <int kThreads_, int kSampleVectors_, int kCapacity_, int kVectors_, int kSlots_, int kBlocksPerProcessor_>
struct SelectShape {
  static constexpr int kThreads = kThreads_;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kSampleVectors = kSampleVectors_;
  static constexpr int kSamples = kThreads * kSampleVectors * 4;
  static constexpr int kCapacity = kCapacity_;
  static constexpr int kPerThread = kCapacity / kThreads;
  static constexpr int kVectors = kVectors_;
  static constexpr int kWarpTile = 128 * kVectors;
  static constexpr int kTile = kWarps * kWarpTile;
  static constexpr int kSlots = kSlots_;
  static constexpr int kCluster = 1;
  static constexpr int kBlocksPerProcessor = kBlocksPerProcessor_;

  static constexpr uint32_t kListAt = kWarps * kSlots * kWarpTile * 4;
  static constexpr uint32_t kBinsAt = kListAt + kCapacity * 8;
  static constexpr uint32_t kWordsAt = kBinsAt + kCutBins * 4;
  static constexpr uint32_t kBytes = kWordsAt + sizeof(BlockWords);

  static_assert(kCutBins >= sm90::kMostSelected);  // the output row is built there
  static_assert(kCapacity % kThreads == 0 && kCutBins % (4 * kThreads) == 0);
  static_assert(kVectors <= 8 && kPerThread <= 32);  // accepted elements of a lane are bits of a word
  static_assert(kWarps * kSlots <= 64);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

extern __shared__ __align__(128) uint8_t select_shared[];

__device__ inline uint32_t shared_address(const void *p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

template <class S>
__device__ inline uint2 *candidates() {
  return reinterpret_cast<uint2 *>(select_shared + S::kListAt);
}
/// Zero whenever nobody counts; the output row is built there, too.
template <class S>
__device__ inline uint32_t *bins() {
  return reinterpret_cast<uint32_t *>(select_shared + S::kBinsAt);
}
template <class S>
__device__ inline BlockWords &block_words() {
  return *reinterpret_cast<BlockWords *>(select_shared + S::kWordsAt);
}

__device__ inline int32_t warp_inclusive_sum(int32_t value) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int32_t other = __shfl_up_sync(kWarp, value, distance);
    if (lane >= distance) value += other;
  }
  return value;
}

struct Bin {
  int32_t index;
  int32_t above;  // entries in higher bins
  int32_t count;
};

/// The bin, from the top, that holds the wanted-th entry; the bins become zero again. Two barriers; the caller has one
/// before.
template <class S>
__device__ inline Bin find_bin(int32_t wanted) {
  constexpr int kOwn = kCutBins / S::kThreads;
  BlockWords &words = block_words<S>();
  const int tid = ptx::thread_index();
  const int lane = tid % 32;
  const int first = kCutBins - (tid + 1) * kOwn;
  int32_t counts[kOwn];
  int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn / 4; ++i) {
    int4 &four = reinterpret_cast<int4 *>(bins<S>() + first)[i];
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

/// The line below the k best: keys above `key`, and of those equal to it the positions up to `position`.
struct Line {
  uint32_t key;
  uint32_t position;
};

__device__ inline bool is_above(const uint2 &entry, const Line &line) {
  return entry.x > line.key || (entry.x == line.key && entry.y <= line.position);
}

/// The line that exactly k of the first `count` >= k entries are above; positions lie in [begin, end).
template <class S>
__device__ inline Line find_line(int32_t count, int32_t k, int32_t begin, int32_t end) {
  const uint2 *list = candidates<S>();
  BlockWords &words = block_words<S>();
  const int tid = ptx::thread_index();
  const int lane = tid % 32;
  uint32_t low = 0xffffffffu;
  uint32_t high = 0;
  if (tid == 0) words.num_few = 0;
#pragma unroll 4
  for (int32_t i = tid; i < count; i += S::kThreads) {
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
  high = __reduce_max_sync(kWarp, lane < S::kWarps ? words.of_warp[lane] : 0u);
  low = __reduce_min_sync(kWarp, lane < S::kWarps ? words.of_warp_too[lane] : 0xffffffffu);
  uint32_t tie_key = 0;
  bool ties = false;  // low and high are then complements of positions
#pragma unroll 1
  for (;;) {
    const uint32_t span = high - low;
    const int shift = max(0, 21 - __clz(static_cast<int>(span)));
    if (!ties) {
#pragma unroll 4
      for (int32_t i = tid; i < count; i += S::kThreads) {
        const uint32_t distance = list[i].x - low;
        if (distance <= span) atomicAdd(bins<S>() + (distance >> shift), 1u);
      }
    } else {
#pragma unroll 2
      for (int32_t i = tid; i < count; i += S::kThreads) {
        const uint2 entry = list[i];
        const uint32_t distance = ~entry.y - low;
        if (entry.x == tie_key && distance <= span) atomicAdd(bins<S>() + (distance >> shift), 1u);
      }
    }
    __syncthreads();
    const Bin bin = find_bin<S>(k);
    k -= bin.above;
    const uint32_t edge = low + (static_cast<uint32_t>(bin.index) << shift);
    const uint32_t width = (1u << shift) - 1;
    const uint32_t top = high - edge < width ? high : edge + width;
    if (bin.count == k) return ties ? Line{tie_key, ~edge} : Line{edge, 0xffffffffu};
    if (bin.count <= kMostFew) {  // ranked by comparison, in every warp
#pragma unroll 4
      for (int32_t i = tid; i < count; i += S::kThreads) {
        const uint2 entry = list[i];
        const uint32_t value = ties ? ~entry.y : entry.x;
        if (value - edge <= top - edge && (!ties || entry.x == tie_key)) {
          words.few[ptx::shared_fetch_add<false>(shared_address(&words.num_few), 1)] = entry;
        }
      }
      __syncthreads();
      const uint2 mine = words.few[lane];
      const auto pair = [](const uint2 &e) { return static_cast<uint64_t>(e.x) << 32 | static_cast<uint32_t>(~e.y); };
      const uint64_t own = pair(mine);
      int32_t better = 0;
#pragma unroll 4
      for (int32_t i = 0; i < bin.count; ++i) better += pair(words.few[i]) > own ? 1 : 0;
      const int winner = __ffs(static_cast<int>(__ballot_sync(kWarp, lane < bin.count && better == k - 1))) - 1;
      return {__shfl_sync(kWarp, mine.x, winner), __shfl_sync(kWarp, mine.y, winner)};
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
template <class S>
__device__ __noinline__ Line keep_best(int32_t k, int32_t begin, int32_t end) {
  uint2 *list = candidates<S>();
  BlockWords &words = block_words<S>();
  const int tid = ptx::thread_index();
  const int lane = tid % 32;
  const auto count = static_cast<int32_t>(min(words.valid_listed, words.num_listed));
  __syncthreads();
  if (tid == 0) {
    words.num_listed = 0;
    words.valid_listed = 0xffffffffu;
    words.overflow = 0;
  }
  const Line line = find_line<S>(count, k, begin, end);
  uint2 own[S::kPerThread];
  uint32_t stays = 0;  // a bit per entry
#pragma unroll
  for (int e = 0; e < S::kPerThread; ++e) {
    const int32_t i = e * S::kThreads + tid;
    own[e] = i < count ? list[i] : make_uint2(0, 0);
    if (i < count && is_above(own[e], line)) stays |= 1u << e;
  }
  const int32_t inclusive = warp_inclusive_sum(__popc(stays));
  uint32_t at = 0;
  if (lane == 31)
    at = ptx::shared_fetch_add<false>(shared_address(&words.num_listed), static_cast<uint32_t>(inclusive));
  at = __shfl_sync(kWarp, at, 31) + static_cast<uint32_t>(inclusive - __popc(stays));
  __syncthreads();  // all entries have been read
#pragma unroll
  for (int e = 0; e < S::kPerThread; ++e) {
    if ((stays >> e & 1u) != 0) list[at++] = own[e];
  }
  __syncthreads();
  return line;
}

#endif

}  // namespace ic::cuda::lists

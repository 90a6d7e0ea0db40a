// SPDX-License-Identifier: Apache-2.0
// The candidates of one row in shared memory, and what is done with them: find the k-th, keep the k best, sort, write.
// All functions are called by every thread of a block of kListThreads.
//
//   shared_words   bins of a histogram, or winners on their way (scratch_words)
//                  keys       [capacity]  order_key()
//                  positions  [capacity]
//
// A list is "ordered" when its entries ascend in position: then the first of equal keys win, and a selection from it
// ascends as well. Otherwise position decides by value and the winners are sorted.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "core/params.h"
#include "indexcache.h"
#include "kernels/topk/order_key.cuh"

namespace ic::cuda {

constexpr int kListThreads = 256;
constexpr int kListWarps = kListThreads / 32;
constexpr int kBins = 2048;
constexpr int kDigitBits = 11;
constexpr uint32_t kAllLanes = 0xffffffffu;

/// Where the parts of shared memory lie, in words.
struct ListShape {
  int32_t capacity;
  int32_t keys_at;
  int32_t positions_at;
};

/// spare: room beside the k best, for what one tile may add. At least k entries of a power of two must fit for a sort.
inline ListShape list_shape(int32_t k, int32_t spare) {
  const int32_t padded = (k + 127) / 128 * 128;
  const int32_t scratch = std::max(padded, kBins);
  const int32_t capacity = padded + spare;
  return {capacity, scratch, scratch + capacity};
}

inline size_t list_bytes(const ListShape &shape) {
  return static_cast<size_t>(shape.positions_at + shape.capacity) * 4;
}

extern __shared__ __align__(16) uint32_t shared_words[];

/// Sum of `value` over the threads before this one, and over all.
__device__ inline uint32_t block_prefix(uint32_t value, uint32_t *total) {
  __shared__ uint32_t warp_totals[kListWarps];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  uint32_t inclusive = value;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint32_t other = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += other;
  }
  __syncthreads();  // the totals of the last call have been read
  if (lane == 31) warp_totals[warp] = inclusive;
  __syncthreads();
  uint32_t before = 0;
  uint32_t all = 0;
#pragma unroll
  for (int w = 0; w < kListWarps; ++w) {
    const uint32_t one = warp_totals[w];
    if (w < warp) before += one;
    all += one;
  }
  *total = all;
  return before + inclusive - value;
}

/// The rank-th largest of some values.
struct Kth {
  uint32_t value;
  int32_t wanted;  // how many of those that equal it are among the `rank` largest
  int32_t equal;   // how many equal it
};

/// Among the first `count` keys or, with kTies, among the complements of the positions of the entries that hold
/// tie_key: there rank 1 is the smallest position. 1 <= rank <= number of values. Histograms of up to 11 bits of the
/// distance from the largest value; up to 32 values in the bin of the rank-th are compared with each other or, with
/// `roughly`, answered by the lower edge of the bin.
template <bool kTies>
__device__ __noinline__ Kth find_kth(ListShape shape, int32_t count, int32_t rank, uint32_t tie_key, bool roughly) {
  __shared__ uint32_t warp_low[kListWarps];
  __shared__ uint32_t warp_high[kListWarps];
  __shared__ uint32_t found[3];  // bin, rank inside it, values in it
  __shared__ uint32_t few[32];
  __shared__ uint32_t num_few;
  __shared__ uint32_t num_lowest;
  uint32_t *bins = shared_words;
  const uint32_t *keys = shared_words + shape.keys_at;
  const uint32_t *positions = shared_words + shape.positions_at;
  const int tid = static_cast<int>(threadIdx.x);
  const int lane = tid % 32;
  const auto clear_bins = [&] {
#pragma unroll
    for (int i = 0; i < kBins / kListThreads; ++i) bins[tid + i * kListThreads] = 0;
  };
  // Calls body(value) for this thread's share of the values.
  const auto for_each = [&](auto &&body) {
#pragma unroll 4
    for (int32_t i = tid; i < count; i += kListThreads) {
      if constexpr (kTies) {
        if (keys[i] == tie_key) body(~positions[i]);
      } else {
        body(keys[i]);
      }
    }
  };

  __syncthreads();  // the list is complete, the scratch free
  uint32_t low = 0xffffffffu;
  uint32_t high = 0;
  for_each([&](uint32_t value) {
    low = min(low, value);
    high = max(high, value);
  });
  low = __reduce_min_sync(kAllLanes, low);
  high = __reduce_max_sync(kAllLanes, high);
  if (lane == 0) {
    warp_low[tid / 32] = low;
    warp_high[tid / 32] = high;
  }
  if (tid == 0) num_few = num_lowest = 0;
  clear_bins();
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kListWarps; ++w) {
    low = min(low, warp_low[w]);
    high = max(high, warp_high[w]);
  }
  if (low == high && !kTies) return {high, rank, count};

  const uint32_t span = high - low;
  uint32_t base = 0;     // distance from `high` of the first value that is still in question
  uint32_t last = span;  // and, from there, of the last
  // Scores of both signs span nearly all keys, and the wanted one is mostly near the top: a factor of 256 in magnitude
  // first, with bins as fine, and what is below it causes no traffic.
  uint32_t window = min(last, (1u << 26) - 1);
  bool first_pass = true;
  const auto digit_shift = [](uint32_t width) { return max(0, 32 - __clz(static_cast<int>(width)) - kDigitBits); };
  int shift = digit_shift(window);
  for (;;) {
    uint32_t lowest = 0;
    for_each([&](uint32_t value) {
      const uint32_t distance = high - value - base;
      if (distance <= window) atomicAdd(bins + (distance >> shift), 1u);
      lowest += value == low ? 1u : 0u;
    });
    if (!kTies && first_pass) {
      lowest = __reduce_add_sync(kAllLanes, lowest);
      if (lane == 0) atomicAdd(&num_lowest, lowest);
    }
    __syncthreads();
    if (!kTies && first_pass) {  // a plateau of zeros under a few scores: the usual end of a row with few positive ones
      const auto equal = static_cast<int32_t>(num_lowest);
      if (rank > count - equal) return {low, rank - (count - equal), equal};
      first_pass = false;
    }
    const uint4 *own = reinterpret_cast<const uint4 *>(bins) + 2 * tid;
    const uint4 a = own[0];
    const uint4 b = own[1];
    uint32_t all = 0;
    uint32_t before = block_prefix(a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w, &all);
    const uint32_t in_bin[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    const auto wanted = static_cast<uint32_t>(rank);
    if (all < wanted) {
      base += window + 1;
      last -= window + 1;
      rank -= static_cast<int32_t>(all);
      window = last;
      shift = digit_shift(window);
      clear_bins();
      __syncthreads();
      continue;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (before < wanted && wanted <= before + in_bin[i]) {
        found[0] = static_cast<uint32_t>(8 * tid + i);
        found[1] = wanted - before;
        found[2] = in_bin[i];
      }
      before += in_bin[i];
    }
    __syncthreads();
    base += found[0] << shift;
    rank = static_cast<int32_t>(found[1]);
    const auto equal = static_cast<int32_t>(found[2]);
    if (shift == 0) return {high - base, rank, equal};
    last = (1u << shift) - 1;
    if (equal <= 32 && roughly) return {high - min(base + last, span), 0, 0};
    if (equal <= 32) break;
    window = last;
    shift = digit_shift(window);
    clear_bins();
    __syncthreads();
  }

  for_each([&](uint32_t value) {
    if (high - value - base <= last) few[atomicAdd(&num_few, 1u)] = value;
  });
  __syncthreads();
  const auto left = static_cast<int32_t>(num_few);
  const uint32_t mine = few[lane < left ? lane : 0];
  int32_t above = 0;
  int32_t equal = 0;
  for (int32_t i = 0; i < left; ++i) {
    const uint32_t other = few[i];
    above += other > mine;
    equal += other == mine;
  }
  const uint32_t is_it = __ballot_sync(kAllLanes, lane < left && above < rank && rank <= above + equal);
  const int winner = __ffs(static_cast<int>(is_it)) - 1;
  return {__shfl_sync(kAllLanes, mine, winner), rank - __shfl_sync(kAllLanes, above, winner),
          __shfl_sync(kAllLanes, equal, winner)};
}

/// What separates the k best of a list: better entries win, and the first `ties` of those on the line.
struct Cut {
  uint32_t key;
  int32_t position;  // unordered lists only
  int32_t ties;
};

template <bool kOrdered>
__device__ inline Cut find_cut(ListShape shape, int32_t count, int32_t k) {
  const Kth kth = find_kth<false>(shape, count, k, 0, false);
  if (kOrdered) return {kth.value, 0, kth.wanted};
  if (kth.equal == kth.wanted) return {kth.value, INT32_MAX, kth.wanted};
  // Positions are all different if the caller kept the contract; if not, equal entries are the same entry.
  const Kth tie = find_kth<true>(shape, count, kth.wanted, kth.value, false);
  return {kth.value, static_cast<int32_t>(~tie.value), tie.wanted};
}

/// One thread's run of a list, and how many winners and ties lie in front of it.
struct Run {
  int32_t begin;
  int32_t end;
  int32_t better;
  int32_t ties;
};

template <bool kOrdered>
__device__ inline void classify(const Cut &cut, uint32_t key, int32_t position, bool *better, bool *tie) {
  *better = key > cut.key || (!kOrdered && key == cut.key && position < cut.position);
  *tie = key == cut.key && (kOrdered || position == cut.position);
}

template <bool kOrdered>
__device__ inline Run find_run(ListShape shape, int32_t count, const Cut &cut) {
  const uint32_t *keys = shared_words + shape.keys_at;
  const auto *positions = reinterpret_cast<const int32_t *>(shared_words + shape.positions_at);
  const int32_t length = (count + kListThreads - 1) / kListThreads | 1;  // odd: the threads' runs start in all banks
  Run run;
  run.begin = min(count, static_cast<int32_t>(threadIdx.x) * length);
  run.end = min(count, run.begin + length);
  uint32_t counts = 0;
  for (int32_t i = run.begin; i < run.end; ++i) {
    bool better, tie;
    classify<kOrdered>(cut, keys[i], kOrdered ? 0 : positions[i], &better, &tie);
    counts += (better ? 1u : 0u) + (tie ? 0x10000u : 0u);
  }
  uint32_t all = 0;
  const uint32_t before = block_prefix(counts, &all);
  run.better = static_cast<int32_t>(before & 0xffffu);
  run.ties = static_cast<int32_t>(before >> 16);
  return run;
}

/// The winners' words of one array of the list, in the list's order, into the scratch. Ends with a barrier.
template <bool kOrdered>
__device__ inline void stage_winners(ListShape shape, const Run &run, const Cut &cut, int32_t array_at) {
  const uint32_t *keys = shared_words + shape.keys_at;
  const auto *positions = reinterpret_cast<const int32_t *>(shared_words + shape.positions_at);
  int32_t ties = run.ties;
  int32_t to = run.better + min(ties, cut.ties);
  for (int32_t i = run.begin; i < run.end; ++i) {
    bool better, tie;
    classify<kOrdered>(cut, keys[i], kOrdered ? 0 : positions[i], &better, &tie);
    if (tie) better = ties++ < cut.ties;
    if (better) shared_words[to++] = shared_words[array_at + i];
  }
  __syncthreads();
}

/// Leaves the k best of count > k entries, in the list's order. k <= 4096.
template <bool kOrdered>
__device__ __noinline__ Cut keep_best(ListShape shape, int32_t count, int32_t k) {
  constexpr int kHeld = 4096 / kListThreads;
  const Cut cut = find_cut<kOrdered>(shape, count, k);
  const Run run = find_run<kOrdered>(shape, count, cut);
  // Both arrays say who wins, so none is overwritten before both have been read: the positions wait in registers.
  stage_winners<kOrdered>(shape, run, cut, shape.positions_at);
  uint32_t held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int32_t at = static_cast<int32_t>(threadIdx.x) + i * kListThreads;
    held[i] = at < k ? shared_words[at] : 0;
  }
  __syncthreads();
  stage_winners<kOrdered>(shape, run, cut, shape.keys_at);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int32_t at = static_cast<int32_t>(threadIdx.x) + i * kListThreads;
    if (at < k) {
      shared_words[shape.positions_at + at] = held[i];
      shared_words[shape.keys_at + at] = shared_words[at];
    }
  }
  __syncthreads();
  return cut;
}

/// Sorts the list by position or, with by_score, by (key descending, position ascending).
__device__ __noinline__ inline void sort_list(ListShape shape, int32_t count, bool by_score) {
  uint32_t *keys = shared_words + shape.keys_at;
  uint32_t *positions = shared_words + shape.positions_at;
  int32_t size = 1;
  while (size < count) size *= 2;  // at most twice k, or 4096: the list has room
  for (int32_t i = count + static_cast<int32_t>(threadIdx.x); i < size; i += kListThreads) {
    keys[i] = kAbsentKey;
    positions[i] = INT32_MAX;
  }
  __syncthreads();
  const auto rank_of = [&](uint32_t key, uint32_t position) {
    return by_score ? uint64_t{~key} << 32 | position : uint64_t{position} << 32 | ~key;
  };
  // Every warp has its own run of pairs; only far exchanges meet the runs of others.
  const int32_t warp_pairs = max(size / 2 / kListWarps, 32);
  const int32_t first_pair =
      static_cast<int32_t>(threadIdx.x) / 32 * warp_pairs + static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t end_pair = min(size / 2, (static_cast<int32_t>(threadIdx.x) / 32 + 1) * warp_pairs);
  for (int32_t length = 2; length <= size; length *= 2) {
    for (int32_t distance = length / 2; distance > 0; distance /= 2) {
#pragma unroll 4
      for (int32_t t = first_pair; t < end_pair; t += 32) {
        const int32_t i = 2 * t - (t & (distance - 1));
        const int32_t j = i + distance;
        const uint32_t key_i = keys[i], key_j = keys[j];
        const uint32_t position_i = positions[i], position_j = positions[j];
        const bool ascending = (i & length) == 0;
        if ((rank_of(key_i, position_i) > rank_of(key_j, position_j)) == ascending) {
          keys[i] = key_j;
          keys[j] = key_i;
          positions[i] = position_j;
          positions[j] = position_i;
        }
      }
      const int32_t next = distance > 1 ? distance / 2 : length;
      if (max(distance, next) > warp_pairs) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    }
  }
  __syncthreads();
}

/// Writes a row of a selection: positions from shared_words[positions_at ..), keys likewise; padding behind.
__device__ inline void write_positions(const SelectionOut &out, int64_t row, int32_t count, int32_t positions_at) {
  int32_t *indices = out.indices + row * out.index_stride;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += kListThreads) {
    indices[i] = i < count ? static_cast<int32_t>(shared_words[positions_at + i]) : -1;
  }
  if (threadIdx.x == 0) out.lengths[row] = count;
}

__device__ inline void write_scores(const SelectionOut &out, int64_t row, int32_t count, int32_t keys_at) {
  float *scores = out.scores + row * out.index_stride;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += kListThreads) {
    scores[i] = i < count ? score_of_key(shared_words[keys_at + i]) : -INFINITY;
  }
}

/// The k best of `count` listed entries into the row's output, in the order asked for. Ends with a barrier.
template <bool kOrdered>
__device__ inline void write_best(const SelectionOut &out, int64_t row, ListShape shape, int32_t count) {
  const bool sort = out.order == IC_ORDER_SCORE || (!kOrdered && out.order == IC_ORDER_POSITION);
  __syncthreads();  // the list is complete
  if (count <= out.k) {
    if (sort) sort_list(shape, count, out.order == IC_ORDER_SCORE);
    write_positions(out, row, count, shape.positions_at);
    if (out.scores != nullptr) write_scores(out, row, count, shape.keys_at);
  } else if (sort) {
    keep_best<kOrdered>(shape, count, out.k);
    sort_list(shape, out.k, out.order == IC_ORDER_SCORE);
    write_positions(out, row, out.k, shape.positions_at);
    if (out.scores != nullptr) write_scores(out, row, out.k, shape.keys_at);
  } else {
    const Cut cut = find_cut<kOrdered>(shape, count, out.k);
    const Run run = find_run<kOrdered>(shape, count, cut);
    stage_winners<kOrdered>(shape, run, cut, shape.positions_at);
    write_positions(out, row, out.k, 0);
    if (out.scores != nullptr) {
      __syncthreads();
      stage_winners<kOrdered>(shape, run, cut, shape.keys_at);
      write_scores(out, row, out.k, 0);
    }
  }
  __syncthreads();
}

}  // namespace ic::cuda

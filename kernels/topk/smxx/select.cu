// SPDX-License-Identifier: Apache-2.0
// The k best of each row of a score matrix, exactly, and ascending in position without a sort.
//
// Bound: one read of the row, 4 bytes per score. Design (docs/kernels/topk.md):
//
//   sample     about 2000 scores of a row, one group of four per stratum, give a threshold that a little more than k
//              scores reach; rows that fit the list need none
//   stream     the row goes by once, in position order; what reaches the threshold is appended to a list in shared
//              memory. Ties with the threshold are let in only until there are k of them. When the list is full the k
//              best stay and the threshold becomes "better than the k-th": whatever the data, nothing is lost
//   select     histograms over the list find the k-th and how many of its ties belong to the best
//   too few    (a sample that lies): the row is streamed again, everything is accepted at the start
//
// When rows are too few for the chip, a row is cut into segments of columns: every block draws the same sample of the
// whole row and leaves its candidates, in order, in the workspace; a second launch joins them.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/topk/launch.h"
#include "kernels/topk/smxx/append.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kVectors = 4;  // of four scores, per thread and tile: fewer barriers weigh more than more blocks
constexpr int kWarpTile = 32 * 4 * kVectors;
constexpr int kTile = kListWarps * kWarpTile;
constexpr int kSpare = kTile;  // of the list, beside k: what a tile may add
static_assert(kSpare >= kRunTile);
constexpr int kMaxSplits = 4 * kListThreads;  // find_starts()
constexpr int kMinSplitColumns = 4096;        // a segment is at least about this long
constexpr int kMinRowColumns = 24576;         // shorter rows are not cut
constexpr int kCtasPerProcessor = 2;          // that cut rows are spread over
constexpr uint32_t kEverything = kAbsentKey + 1;
constexpr uint32_t kComplete = 0x80000000u;     // of a segment's count: no key was left out for being low
constexpr uint32_t kTiesDropped = 0x40000000u;  // ties with the first threshold were: enough keys are in front of them

/// What the segments of cut rows leave, [rows * splits, k].
struct Partials {
  uint32_t *counts;  // [rows * splits] with kComplete, kTiesDropped
  uint32_t *keys;
  uint32_t *positions;
};

struct Plan {
  uint32_t num_items;  // rows * splits; below 2^31
  int32_t splits;
  ListShape shape;
  Partials partials;
};

/// A part of a row: columns [begin, end) of `scores`.
struct Columns {
  const float *scores;
  int32_t begin;
  int32_t end;
  bool nan_is_absent;
};

__device__ inline int32_t misalignment(const Columns &c) {
  return static_cast<int32_t>(reinterpret_cast<uintptr_t>(c.scores + c.begin) / 4 % 4);
}

__device__ inline float nan_score() { return __uint_as_float(0x7fc00000u); }

/// Columns [at, at + 4), which start on 16 bytes; NaN for those outside.
__device__ inline float4 load_vector(const Columns &c, int32_t at) {
  if (at >= c.begin && at + 4 <= c.end) return __ldcs(reinterpret_cast<const float4 *>(c.scores + at));
  const auto load = [&](int32_t i) { return i >= c.begin && i < c.end ? c.scores[i] : nan_score(); };
  return {load(at), load(at + 1), load(at + 2), load(at + 3)};
}

__device__ inline float element(const float4 &v, int i) {
  return (i & 2) != 0 ? ((i & 1) != 0 ? v.w : v.z) : ((i & 1) != 0 ? v.y : v.x);
}

__device__ inline uint32_t hash(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

/// What a row's sample suggests. Hints only: whatever they are, the result is exact.
struct Start {
  uint32_t lowest;    // the lowest key to be accepted: one that the k best very likely reach, and not many more
  bool ties_dropped;  // more than k keys of the row that reach `lowest` very likely lie in front of the segment
};

/// Segment `split` of `splits` of the columns.
__device__ inline Start sample_columns(ListShape shape, const Columns &c, int32_t k, int32_t split, int32_t splits) {
  const int32_t length = c.end - c.begin;
  if (length <= shape.capacity) return {kEverything, false};
  const int32_t aligned = c.begin + (4 - misalignment(c)) % 4;
  const int32_t vectors = (c.end - aligned) / 4;
  const int32_t strata = length > 65536 ? 1024 : length > 16384 ? 512 : 256;
  uint32_t *keys = shared_words + shape.keys_at;
  for (int32_t s = static_cast<int32_t>(threadIdx.x); s < strata; s += kListThreads) {
    const auto low = static_cast<int32_t>(int64_t{vectors} * s / strata);
    const auto high = static_cast<int32_t>(int64_t{vectors} * (s + 1) / strata);
    const uint32_t jitter = hash(static_cast<uint32_t>(s) * 0x9e3779b9u + static_cast<uint32_t>(length));
    const int32_t vector = low + static_cast<int32_t>(jitter % static_cast<uint32_t>(high - low));
    const float4 v = *reinterpret_cast<const float4 *>(c.scores + aligned + 4 * int64_t{vector});
    uint4 sample;
    sample.x = order_key(v.x, c.nan_is_absent);
    sample.y = order_key(v.y, c.nan_is_absent);
    sample.z = order_key(v.z, c.nan_is_absent);
    sample.w = order_key(v.w, c.nan_is_absent);
    reinterpret_cast<uint4 *>(keys)[s] = sample;
  }
  // The sample's rank that k scores of the row correspond to, and six standard deviations for safety.
  const float expected = static_cast<float>(k) * static_cast<float>(4 * strata) / static_cast<float>(length);
  const int32_t rank = min(4 * strata, static_cast<int32_t>(expected + 6.0f * sqrtf(expected) + 3.0f));
  Start start{max(find_kth<false>(shape, 4 * strata, rank, 0, true).value, kEverything), false};
  if (split > 0) {
    const int32_t in_front = 4 * (strata * split / splits);
    uint32_t reaching = 0;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < in_front; i += kListThreads) {
      reaching += keys[i] >= start.lowest ? 1u : 0u;
    }
    uint32_t all = 0;
    block_prefix(reaching, &all);
    const auto num = static_cast<float>(all);
    start.ties_dropped = num - 6.0f * sqrtf(num) - 3.0f > expected;
  }
  return start;
}

/// Streams the columns through the list, which then holds whatever could be among the k best, in order, if k or more
/// keys reach `lowest`; else all that do. Returns the number of entries. Ends with a barrier.
__device__ inline int32_t stream_columns(ListShape shape, const Columns &c, int32_t k, uint32_t lowest) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  uint32_t *keys = shared_words + shape.keys_at;
  uint32_t *positions = shared_words + shape.positions_at;
  const int32_t first_tile = c.begin - misalignment(c);
  int32_t at = first_tile + warp * kWarpTile + lane * 4;
  int32_t count = 0;
  int32_t ties = 0;  // with the first threshold, as far as they were counted
  bool ties_open = true;
  int side = 0;

  float4 next[kVectors];
  const auto load_next = [&](int32_t from) {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) next[j] = load_vector(c, from + j * 128);
  };
  load_next(at);
  for (int32_t tile = first_tile; tile < c.end;) {
    float4 now[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; ++j) now[j] = next[j];
    if (tile + kTile < c.end) load_next(at + kTile);

    uint32_t accepted = 0;  // bit 4 * j + i: element i of vector j
    if (lowest > kMinusInfinityKey) {
      const float bound = score_of_key(lowest);  // no NaN reaches it
#pragma unroll
      for (int i = 0; i < 4 * kVectors; ++i) accepted |= element(now[i / 4], i % 4) >= bound ? 1u << i : 0u;
    } else {
#pragma unroll
      for (int i = 0; i < 4 * kVectors; ++i) {
        const int32_t column = at + i / 4 * 128 + i % 4;
        const bool inside = column >= c.begin && column < c.end;
        accepted |= inside && order_key(element(now[i / 4], i % 4), c.nan_is_absent) >= lowest ? 1u << i : 0u;
      }
    }
    uint32_t own = 0;  // entries of this lane, eight bits for each vector
#pragma unroll
    for (int j = 0; j < kVectors; ++j) own |= static_cast<uint32_t>(__popc(accepted >> (4 * j) & 15u)) << (8 * j);
    uint32_t inclusive = own;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const uint32_t other = __shfl_up_sync(kAllLanes, inclusive, distance);
      if (lane >= distance) inclusive += other;
    }
    const uint32_t in_vectors = __shfl_sync(kAllLanes, inclusive, 31);
    int32_t in_warp = 0;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) in_warp += static_cast<int32_t>(in_vectors >> (8 * j) & 0xffu);
    uint32_t equal = 0;
    if (ties_open && in_warp > kWarpTile / 8) {  // a plateau; a tie now and then does no harm
#pragma unroll
      for (int i = 0; i < 4 * kVectors; ++i) {
        const bool tie = order_key(element(now[i / 4], i % 4), c.nan_is_absent) == lowest;
        equal += tie ? accepted >> i & 1u : 0u;
      }
      equal = __reduce_add_sync(kAllLanes, equal);
    }
    const TileCounts counts = count_tile(in_warp, static_cast<int32_t>(equal), side);
    side ^= 1;
    if (count + counts.all > shape.capacity) {
      lowest = keep_best<true>(shape, count, k).key + 1;  // later keys that equal the k-th are worse than it
      count = k;
      ties_open = false;
      load_next(at);  // this tile again
      continue;
    }

    int32_t to = count + counts.before;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      uint32_t left = accepted >> (4 * j) & 15u;
      int32_t place = to + static_cast<int32_t>((inclusive - own) >> (8 * j) & 0xffu);
      while (left != 0) {
        const int i = __ffs(static_cast<int>(left)) - 1;
        left &= left - 1;
        keys[place] = order_key(element(now[j], i), c.nan_is_absent);
        positions[place] = static_cast<uint32_t>(at + j * 128 + i);
        ++place;
      }
      to += static_cast<int32_t>(in_vectors >> (8 * j) & 0xffu);
    }
    count += counts.all;
    ties += counts.marked;
    if (ties_open && ties >= k) {
      ++lowest;
      ties_open = false;
    }
    tile += kTile;
    at += kTile;
  }
  __syncthreads();
  return count;
}

/// Asks for the first 32 KiB, so that they arrive while the sample is looked at.
__device__ inline void prefetch_columns(const Columns &c) {
  const int32_t at = c.begin + static_cast<int32_t>(threadIdx.x) * 32;
  if (at < c.end) asm volatile("prefetch.global.L2 [%0];" ::"l"(c.scores + at));
}

/// The columns of a row that hold its keys; empty for a row with an illegal value.
__device__ inline Columns row_columns(const SelectRowsParams &p, int32_t row) {
  uint32_t fault = 0;
  const RowRange range = row_range(p.rows, row, &fault);
  return {p.scores + row * p.score_stride, range.begin, range.end, p.nan_is_absent != 0};
}

/// A row whose keys all belong to its selection, without a look at their scores.
__device__ inline void write_all(const SelectionOut &out, int64_t row, const Columns &c) {
  int32_t *indices = out.indices + row * out.index_stride;
  const int32_t count = c.end - c.begin;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += kListThreads) {
    indices[i] = i < count ? c.begin + i : -1;
  }
  if (threadIdx.x == 0) out.lengths[row] = count;
}

__global__ void __launch_bounds__(kListThreads, 3)
    select_kernel(const __grid_constant__ SelectRowsParams p, const __grid_constant__ Plan plan) {
  const ListShape shape = plan.shape;
  const int32_t k = p.out.k;
  for (uint32_t item = blockIdx.x; item < plan.num_items; item += gridDim.x) {
    // Last rows first: under causal masks they are the long ones.
    const auto row = p.rows.count - 1 - static_cast<int32_t>(item / static_cast<uint32_t>(plan.splits));
    const auto split = static_cast<int32_t>(item % static_cast<uint32_t>(plan.splits));
    const Columns columns = row_columns(p, row);
    const int32_t span = columns.end - columns.begin;
    Columns segment = columns;
    if (plan.splits == 1) {
      if (span <= k && !columns.nan_is_absent && p.out.scores == nullptr && p.out.order != IC_ORDER_SCORE) {
        write_all(p.out, row, columns);
        continue;
      }
    } else {
      segment.begin = columns.begin + static_cast<int32_t>(int64_t{span} * split / plan.splits);
      segment.end = columns.begin + static_cast<int32_t>(int64_t{span} * (split + 1) / plan.splits);
    }
    prefetch_columns(segment);
    const Start start = sample_columns(shape, columns, k, split, plan.splits);
    uint32_t lowest = start.ties_dropped ? start.lowest + 1 : start.lowest;
    int32_t count = 0;
    for (;;) {
      __syncthreads();  // the sample has been read
      count = stream_columns(shape, segment, k, lowest);
      if (plan.splits > 1 || count >= k || lowest == kEverything) break;
      lowest = kEverything;
    }
    if (plan.splits == 1) {
      write_best<true>(p.out, row, shape, count);
      continue;
    }
    if (count > k) {
      keep_best<true>(shape, count, k);
      count = k;
    }
    const int64_t part = int64_t{row} * plan.splits + split;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kListThreads) {
      plan.partials.keys[part * k + i] = shared_words[shape.keys_at + i];
      plan.partials.positions[part * k + i] = shared_words[shape.positions_at + i];
    }
    if (threadIdx.x == 0) {
      plan.partials.counts[part] = static_cast<uint32_t>(count) | (lowest == kEverything ? kComplete : 0u) |
                                   (start.ties_dropped ? kTiesDropped : 0u);
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kListThreads, 2)
    join_kernel(const __grid_constant__ SelectRowsParams p, const __grid_constant__ Plan plan) {
  __shared__ int32_t starts[kMaxSplits + 1];
  const ListShape shape = plan.shape;
  const int32_t k = p.out.k;
  for (int32_t row = static_cast<int32_t>(blockIdx.x); row < p.rows.count; row += static_cast<int32_t>(gridDim.x)) {
    const int64_t first = int64_t{row} * plan.splits;
    const uint32_t *counts = plan.partials.counts + first;
    const int32_t total = find_starts(starts, plan.splits, [&](int32_t split) {
      return static_cast<int32_t>(counts[split] & ~(kComplete | kTiesDropped));
    });
    // What the segments left out must be worse than k keys that are here.
    bool missing = total < k && (counts[0] & kComplete) == 0;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < plan.splits; i += kListThreads) {
      missing |= (counts[i] & kTiesDropped) != 0 && starts[i] < k;
    }
    int32_t count = 0;
    if (__syncthreads_or(missing ? 1 : 0) == 0) {
      count = stream_runs<true>(shape, k, starts, plan.splits, total,
                                [&](int32_t split, int32_t i, uint32_t *key, uint32_t *position) {
                                  const int64_t at = (first + split) * k + i;
                                  *key = plan.partials.keys[at];
                                  *position = plan.partials.positions[at];
                                });
    } else {
      count = stream_columns(shape, row_columns(p, row), k, kEverything);
    }
    write_best<true>(p.out, row, shape, count);
  }
}

/// Segments of all cut rows of a call; a call with more rows than this cuts none.
int32_t most_segments(const LaunchLimits &limits) {
  return std::clamp(limits.num_processors * kCtasPerProcessor, 2, kMaxSplits);
}

int32_t most_splits(int32_t max_end) { return max_end < kMinRowColumns ? 1 : max_end / kMinSplitColumns; }

int32_t plan_splits(int32_t rows, int32_t max_end, const LaunchLimits &limits) {
  return std::clamp(std::min(most_segments(limits) / rows, most_splits(max_end)), 1, kMaxSplits);
}

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

cudaError_t load(const void *kernel) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(list_bytes(list_shape(4096, kSpare))));
}

}  // namespace

cudaError_t load_select_portable() {
  const cudaError_t error = load(reinterpret_cast<const void *>(select_kernel));
  return error != cudaSuccess ? error : load(reinterpret_cast<const void *>(join_kernel));
}

size_t select_workspace_bytes(int32_t max_rows, int32_t max_end, int32_t k, const LaunchLimits &limits) {
  if (most_splits(max_end) == 1) return 0;
  const auto segments =
      static_cast<size_t>(std::min<int64_t>(most_segments(limits), int64_t{max_rows} * most_splits(max_end)));
  return rounded(segments * 4) + 2 * rounded(segments * static_cast<size_t>(k) * 4);
}

cudaError_t launch_select_portable(const SelectRowsParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.rows.count <= 0) return cudaSuccess;
  Plan plan = {};
  plan.splits = plan_splits(params.rows.count, params.rows.max_key_end, limits);
  plan.num_items = static_cast<uint32_t>(params.rows.count) * static_cast<uint32_t>(plan.splits);
  plan.shape = list_shape(params.out.k, kSpare);
  if (plan.splits > 1) {
    const auto segments = static_cast<size_t>(plan.num_items);
    auto *workspace = static_cast<uint8_t *>(params.workspace);
    const size_t list = rounded(segments * static_cast<size_t>(params.out.k) * 4);
    plan.partials.counts = reinterpret_cast<uint32_t *>(workspace);
    plan.partials.keys = reinterpret_cast<uint32_t *>(workspace + rounded(segments * 4));
    plan.partials.positions = reinterpret_cast<uint32_t *>(workspace + rounded(segments * 4) + list);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid(plan.num_items));
  config.blockDim = dim3(kListThreads);
  config.dynamicSmemBytes = list_bytes(plan.shape);
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, select_kernel, params, plan);
  if (error != cudaSuccess || plan.splits == 1) return error;
  config.gridDim = dim3(limits.grid(params.rows.count));
  return cudaLaunchKernelEx(&config, join_kernel, params, plan);
}

}  // namespace ic::cuda

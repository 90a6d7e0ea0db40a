// SPDX-License-Identifier: Apache-2.0
// The k best of each row of a score matrix on Hopper: one read of the row by bulk copies, no barrier between warps.
//
// Bound: bytes, 4 per score. Design (docs/kernels/topk_sm90.md):
//
//   slots      every warp has tiles of its own in the row and slots of its own in shared memory, which it refills
//   itself
//              by bulk copies, across rows
//   threshold  from a sample of the row, drawn while the row before is finished; the last row's threshold is taken
//   again
//              if the sample agrees. If many scores tie with it, those behind a position are left out
//   list       what reaches the threshold, in no order. Full: the block keeps the k best and goes on with the line
//   below
//              them. Too few: the row is read again, everything accepted. Both are exact for any data
//   line       histogram of the list's keys, then comparison inside one bin
//   output     the chosen positions set bits of a bitmap; a prefix over its words gives each its rank: ascending order
//              without a sort, and one bulk store
//
// Few rows: a cluster per row, each block has a slice of the columns; all draw the same sample. The blocks take turns
// as the row's leader, which finishes.
#include <cuda_runtime.h>

#include "kernels/policy/sm90.h"
#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/sm90_launch.h"
#include "kernels/topk/sm90_lists/append.cuh"
#include "kernels/topk/smxx/order_key.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda::lists {
namespace {

using sm90::SelectVariant;

/// threads, sample vectors, list, vectors, slots, cluster, blocks per processor
using Rows = SelectShape<256, 2, 4096, 8, 1, 1, 3>;
using OneBlock = SelectShape<512, 2, 5120, 8, 2, 1, 1>;
using TwoBlocks = SelectShape<512, 2, 5120, 8, 2, 2, 1>;

struct Plan {
  bool bulk_output;  // rows of indices lie on 16 bytes
};

/// How the chosen positions get their places. Lies over the list, when they are in registers.
struct Ranks {
  uint4 *bits;       // of the row's positions, from a multiple of kGroup
  uint16_t *before;  // bits in front of each group
  static constexpr int32_t kGroup = 128;
  __host__ __device__ static int32_t groups(int32_t columns) { return (columns + kGroup - 1) / kGroup; }
  __host__ __device__ static int32_t bytes(int32_t columns) { return groups(columns) * (kGroup / 8 + 2); }
};

/// Longest rows (max_end) whose bitmap fits the list.
template <class S>
bool bitmap_fits(int32_t max_end) {
  return max_end < (1 << 20) && Ranks::bytes(max_end + Ranks::kGroup) <= S::kCapacity * 8;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Of the sampled threshold, in standard deviations: a row that must be read again delays all others of a call, and may
/// not happen in thousands of them. The second time it must not fail.
constexpr float kMargin = 4.0f;
constexpr float kWideMargin = 8.0f;

__device__ inline uint32_t hash(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

__device__ inline Span row_span(const SelectRowsParams &p, int32_t row) {
  uint32_t fault = 0;
  const RowRange range = row_range(p.rows, row, &fault);
  return {range.begin & ~3, range.begin, range.end};
}

/// This block's part of a row.
template <class S>
__device__ inline Span slice(const Span &row, int32_t rank) {
  if constexpr (S::kCluster == 1) {
    return row;
  } else {
    const int32_t columns = row.end - row.base;
    const int32_t each = (columns + 32 * S::kCluster - 1) / (32 * S::kCluster) * 32;
    const int32_t from = row.base + min(rank * each, columns);
    return {from, max(from, row.begin), min(from + each, row.end)};
  }
}

/// Rows that do not fit the list are streamed; the others are listed straight from memory.
template <class S>
__device__ inline bool is_streamed(const Span &row) {
  return row.count() > S::kCapacity;
}

/// Zero, as they must be whenever nobody counts.
template <class S>
__device__ inline void clear_bins() {
  for (int i = static_cast<int>(threadIdx.x); i < kCutBins / 4; i += S::kThreads) {
    reinterpret_cast<uint4 *>(list_bins<S>())[i] = make_uint4(0, 0, 0, 0);
  }
}

template <class S>
struct Sample {
  float4 scores[S::kSampleVectors];

  /// Groups of four scores, one in each of equal strata, at a place that depends on the length only.
  __device__ void load(const float *row_scores, const Span &row) {
    const int32_t first = (row.begin + 3) & ~3;
    const auto vectors = static_cast<uint32_t>(row.end - first) / 4;
    const auto *from = reinterpret_cast<const float4 *>(row_scores + first);
    constexpr uint32_t kStrata = S::kSamples / 4;
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) {
      const uint32_t s = static_cast<uint32_t>(i * S::kThreads) + threadIdx.x;
      const uint32_t low = s * vectors / kStrata;
      const uint32_t high = (s + 1) * vectors / kStrata;
      const uint32_t jitter = hash(s * 0x9e3779b9u + static_cast<uint32_t>(row.count()));
      scores[i] = __ldg(from + low + __umulhi(jitter, high - low));
    }
  }
  /// No row follows. (A sample that is neither loaded nor cleared would be kept, in memory, while tiles go by.)
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) scores[i] = make_float4(0, 0, 0, 0);
  }
  template <class Body>
  __device__ void for_each(Body &&body) const {
#pragma unroll
    for (int i = 0; i < S::kSampleVectors; ++i) {
      body(key_of(without_nan(scores[i].x)));
      body(key_of(without_nan(scores[i].y)));
      body(key_of(without_nan(scores[i].z)));
      body(key_of(without_nan(scores[i].w)));
    }
  }
};

/// Where a row starts: scores at or above line.key; those equal to it only in tiles that start at or before
/// line.position. A guess: whatever it is, the result is exact. Behind the first barrier the bins become zero: the last
/// row's output was built there.
template <class S>
__device__ inline Line find_start(const Sample<S> &sample, const Span &row, int32_t k, float margin,
                                  uint32_t last_key) {
  BlockWords &words = block_words<S>();
  uint32_t *bins = sample_bins<S>();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  // The sample's rank that k scores of the row correspond to, and a margin; up to rank `most` the list has room.
  const float fraction = static_cast<float>(S::kSamples) / static_cast<float>(row.count());
  const float expected = static_cast<float>(k) * fraction;
  const float z = margin * sqrtf(fmaxf(1.0f - fraction, 0.0f));
  const float root = 0.5f * z + sqrtf(0.25f * z * z + expected);
  const int32_t least = min(S::kSamples - 1, static_cast<int32_t>(root * root) + 1);
  const int32_t most =
      max(least, min(least + least * 3 / 8, static_cast<int32_t>(0.92f * static_cast<float>(S::kCapacity) * fraction)));

  uint32_t reaching_last = 0;
  sample.for_each([&](uint32_t key) { reaching_last += key >= last_key ? 1u : 0u; });
  reaching_last = __reduce_add_sync(kWarp, reaching_last);
  if (lane == 0) words.of_warp[warp] = reaching_last;
  __syncthreads();
  const auto reached = static_cast<int32_t>(__reduce_add_sync(kWarp, lane < S::kWarps ? words.of_warp[lane] : 0u));
  clear_bins<S>();
  // All blocks of a cluster must agree, so they do not use what only some of them know.
  const int32_t slack = least / 16;
  if (S::kCluster == 1 && last_key != 0 && reached >= least - slack && reached <= max(most, least + slack)) {
    return {last_key, 0xffffffffu};
  }

  const int32_t rank = S::kCluster == 1 ? (least + most + 1) / 2 : least;
  __syncthreads();
  sample.for_each([&](uint32_t key) { atomicAdd(bins + (key >> 21), 1u); });
  __syncthreads();
  Bin bin = find_bin<S>(bins, rank);
  uint32_t key = static_cast<uint32_t>(bin.index) << 21;
  uint32_t position = 0xffffffffu;
  int32_t above = bin.above;
  if (above + bin.count > rank + rank / 16) {
    sample.for_each([&](uint32_t one) {
      if (one >> 21 == key >> 21) atomicAdd(bins + (one >> 10 & 2047u), 1u);
    });
    __syncthreads();
    bin = find_bin<S>(bins, rank - above);
    key |= static_cast<uint32_t>(bin.index) << 10;
    above += bin.above;
    if (above + bin.count > most + 8) {  // a plateau, or values that agree in 22 bits
      sample.for_each([&](uint32_t one) {
        if (one >> 10 == key >> 10) atomicAdd(bins + (one & 1023u), 1u);
      });
      __syncthreads();
      bin = find_bin<S>(bins, rank - above);
      key |= static_cast<uint32_t>(bin.index);
      above += bin.above;
      if (above + bin.count > most + 8) {  // ties: as far as the row should have to be read for enough of them
        const auto better = static_cast<float>(above);
        const float missing = static_cast<float>(k) - better / fraction + 4.0f * sqrtf(better + 1.0f) / fraction;
        const float ties = fmaxf(0.0f, missing) * 1.1f + 200.0f;
        const float columns = ties * static_cast<float>(S::kSamples) / static_cast<float>(bin.count);
        position =
            static_cast<uint32_t>(row.begin) + static_cast<uint32_t>(fminf(columns, static_cast<float>(row.count())));
      }
    }
  }
  return {key, position};
}

/// Makes the list straight from memory: of a row that is not streamed, or that has fewer than k scores above its start.
/// guess: the row was streamed; the list then starts at a guess with a wide margin, and with everything only if this is
/// wrong as well. Rare, and a function of its own so that nothing is kept for it elsewhere.
template <class S>
__device__ __noinline__ void list_again(const float *scores, Span part, Span row, int32_t k, bool nan_is_absent,
                                        bool guess) {
  BlockWords &words = block_words<S>();
  __syncthreads();
  clear_bins<S>();
  uint32_t start = 0;
  if (guess) {
    Sample<S> sample;
    sample.load(scores, row);
    start = find_start<S>(sample, row, k, kWideMargin, 0).key;
  }
  float bound = start > kKeyOfMinusInfinity ? bound_of(start) : -INFINITY;
#pragma unroll 1
  for (;;) {
    __syncthreads();
    if (threadIdx.x == 0) {
      words.num_listed = 0;
      words.valid_listed = 0xffffffffu;
      words.overflow = 0;
    }
    __syncthreads();
    list_from<S>(scores, part, row, k, nan_is_absent, bound);
    if (bound == -INFINITY || static_cast<int32_t>(words.num_listed) >= k) return;
    bound = -INFINITY;
  }
}

/// A row without a candidate list: all its columns, or none.
template <class S>
__device__ inline void write_all(const SelectRowsParams &p, int32_t row, const Span &span) {
  const SelectionOut &out = p.out;
  const float *scores = p.scores + row * p.score_stride;
  const int32_t count = span.count();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < out.k_padded; i += S::kThreads) {
    out.indices[row * out.index_stride + i] = i < count ? span.begin + i : -1;
    if (out.scores != nullptr) {
      out.scores[row * out.index_stride + i] =
          i < count ? score_of_key(order_key(scores[span.begin + i], false)) : -INFINITY;
    }
  }
  if (threadIdx.x == 0) out.lengths[row] = count;
}

/// The entries above the line, ascending. List and bins are overwritten.
template <class S>
__device__ inline void write_ranked(const SelectRowsParams &p, const Plan &plan, int32_t row, const Span &span,
                                    int32_t listed, const Line &line) {
  const SelectionOut &out = p.out;
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  const int lane = tid % 32;
  const uint2 *list = candidates<S>();
  const int32_t first_position = span.begin & -Ranks::kGroup;
  const int32_t groups = Ranks::groups(span.end - first_position);
  Ranks ranks;
  ranks.bits = reinterpret_cast<uint4 *>(select_shared + S::kListAt);
  ranks.before = reinterpret_cast<uint16_t *>(ranks.bits + groups);
  auto *ranked = reinterpret_cast<int32_t *>(list_bins<S>());

  constexpr uint32_t kNone = 0xffffffffu;
  uint32_t chosen[S::kPerThread];
#pragma unroll
  for (int e = 0; e < S::kPerThread; ++e) {
    chosen[e] = kNone;
    if (e * S::kThreads < listed) {  // uniform
      const int32_t i = e * S::kThreads + tid;
      if (i < listed) {
        const uint2 entry = list[i];
        if (is_above(entry, line)) chosen[e] = entry.y - static_cast<uint32_t>(first_position);
      }
    }
  }
  __syncthreads();
  for (int32_t i = tid; i < groups; i += S::kThreads) ranks.bits[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
#pragma unroll
  for (int e = 0; e < S::kPerThread; ++e) {
    if (e * S::kThreads < listed && chosen[e] != kNone) {
      atomicOr(reinterpret_cast<uint32_t *>(ranks.bits) + (chosen[e] >> 5), 1u << (chosen[e] & 31));
    }
  }
  __syncthreads();
  // Each thread has a run of groups, an odd number because of the banks; its prefixes are relative at first.
  const int32_t each = ((groups + S::kThreads - 1) / S::kThreads) | 1;
  const int32_t from = min(groups, tid * each);
  const int32_t to = min(groups, from + each);
  uint32_t sum = 0;
#pragma unroll 2
  for (int32_t i = from; i < to; ++i) {
    const uint4 group = ranks.bits[i];
    ranks.before[i] = static_cast<uint16_t>(sum);
    sum += static_cast<uint32_t>(__popc(group.x) + __popc(group.y) + __popc(group.z) + __popc(group.w));
  }
  const auto inclusive = static_cast<uint32_t>(warp_inclusive_sum(static_cast<int32_t>(sum)));
  if (lane == 31) words.of_warp[tid / 32] = inclusive;
  __syncthreads();
  const uint32_t before = __reduce_add_sync(kWarp, lane < tid / 32 ? words.of_warp[lane] : 0u) + inclusive - sum;
  const auto count = static_cast<int32_t>(__reduce_add_sync(kWarp, lane < S::kWarps ? words.of_warp[lane] : 0u));
  for (int32_t i = from; i < to; ++i) ranks.before[i] = static_cast<uint16_t>(ranks.before[i] + before);
  for (int32_t i = count + tid; i < out.k_padded; i += S::kThreads) ranked[i] = -1;
  __syncthreads();
#pragma unroll
  for (int e = 0; e < S::kPerThread; ++e) {
    if (e * S::kThreads < listed && chosen[e] != kNone) {
      const uint32_t x = chosen[e];
      const uint4 group = ranks.bits[x / Ranks::kGroup];
      const uint64_t below = (uint64_t{1} << (x & 63)) - 1;
      const bool upper = (x & 64) != 0;
      const uint64_t low = uint64_t{group.y} << 32 | group.x;
      const uint64_t high = uint64_t{group.w} << 32 | group.z;
      const int in_front = __popcll((upper ? high : low) & below) + (upper ? __popcll(low) : 0);
      ranked[ranks.before[x / Ranks::kGroup] + in_front] = static_cast<int32_t>(x) + first_position;
    }
  }
  ptx::fence_async();
  __syncthreads();
  int32_t *indices = out.indices + row * out.index_stride;
  if (plan.bulk_output) {
    if (tid == 0) ptx::bulk_store(indices, shared_address(ranked), static_cast<uint32_t>(out.k_padded) * 4);
  } else {
    for (int32_t i = tid; i < out.k_padded; i += S::kThreads) indices[i] = ranked[i];
  }
  if (out.scores != nullptr) {
    const float *scores = p.scores + row * p.score_stride;
    for (int32_t i = tid; i < out.k_padded; i += S::kThreads) {
      const int32_t position = ranked[i];
      out.scores[row * out.index_stride + i] =
          position < 0 ? -INFINITY : score_of_key(order_key(scores[position], false));
    }
  }
  if (tid == 0) out.lengths[row] = count;
}

/// The leader's list and those of the other blocks of its cluster become one, which holds what could be among the k
/// best. Returns its length. own_count: of the block of this lane's rank. The counter of the leader's list may still be
/// read by the others, unless they all together exceed the list.
template <class S>
__device__ inline int32_t gather_lists(int32_t rank, int32_t own_count, int32_t k, const Span &row) {
  uint2 *list = candidates<S>();
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  const int lane = tid % 32;
  const int32_t theirs = lane < S::kCluster && lane != rank ? own_count : 0;
  const int32_t inclusive = warp_inclusive_sum(theirs);
  const int32_t start = inclusive - theirs;
  const int32_t others = __shfl_sync(kWarp, inclusive, S::kCluster - 1);
  const auto own = static_cast<int32_t>(words.num_listed);
  // Entry i of the others' lists, laid end to end; by all lanes of a warp.
  const auto fetch = [&](int32_t i) {
    int of = 0;
#pragma unroll
    for (int step = S::kCluster / 2; step > 0; step /= 2) {
      if (__shfl_sync(kWarp, start, of + step) <= i) of += step;
    }
    const int32_t offset = i - __shfl_sync(kWarp, start, of);
    if (i >= others) return make_uint2(0, 0);
    return ptx::cluster_load_pair(ptx::cluster_address(shared_address(list), static_cast<uint32_t>(of)) +
                                  8 * static_cast<uint32_t>(offset));
  };
  if (own + others <= S::kCapacity) {
    __syncthreads();
#pragma unroll 4
    for (int32_t i = tid; i - lane < others; i += S::kThreads) {
      const uint2 entry = fetch(i);
      if (i < others) list[own + i] = entry;
    }
    __syncthreads();
    return own + others;
  }
  __syncthreads();
  constexpr int kEach = 4;
  Line line = {0, 0xffffffffu};  // everything is above
#pragma unroll 1
  for (int32_t first = 0; first < others; first += kEach * S::kThreads) {
    uint2 entries[kEach];
    uint32_t waiting = 0;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int32_t i = first + e * S::kThreads + tid;
      entries[e] = fetch(i);
      if (i < others) waiting |= 1u << e;
    }
    bool full;
#pragma unroll 1
    do {
      full = false;
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        const bool goes = (waiting >> e & 1u) != 0 && is_above(entries[e], line);
        const uint32_t going = __ballot_sync(kWarp, goes);
        uint32_t at = 0;
        if (going != 0) {
          if (lane == 0) {
            at = ptx::shared_fetch_add<false>(shared_address(&words.num_listed), static_cast<uint32_t>(__popc(going)));
          }
          at = __shfl_sync(kWarp, at, 0);
          if (at + static_cast<uint32_t>(__popc(going)) > S::kCapacity) {
            if (lane == 0) atomicMin(&words.valid_listed, at);
            full = true;
            continue;
          }
          if (goes) list[at + static_cast<uint32_t>(__popc(going & ((1u << lane) - 1)))] = entries[e];
        }
        waiting &= ~(1u << e);
      }
      full = __syncthreads_or(full ? 1 : 0) != 0;
      if (full) line = keep_best<S>(k, row.begin, row.end);
    } while (full);
  }
  return static_cast<int32_t>(words.num_listed);  // behind the last barrier of the loop
}

/// The slots of one warp: tiles of its rows, in order, on their way.
template <class S>
class Slots {
 public:
  __device__ Slots(const SelectRowsParams &p, int32_t first_item, int32_t item_step, int32_t rank)
      : p_(p), item_(first_item), item_step_(item_step), rank_(rank), warp_(static_cast<int>(threadIdx.x) / 32) {}

  /// Asks for the first tiles; the barriers have been initialised.
  __device__ void start() {
    open();
#pragma unroll 1
    for (int s = 0; s < S::kSlots; ++s) refill(s);
  }
  /// Waits for the oldest tile. `columns` of it are in the row.
  __device__ const float *wait(const float *row_scores, int32_t column, int32_t columns, bool unsafe_end) {
    ptx::mbarrier_wait(barrier(slot_), parity_);
    float *tile = reinterpret_cast<float *>(select_shared) + (warp_ * S::kSlots + slot_) * S::kWarpTile;
    if (unsafe_end && columns < S::kWarpTile && columns % 4 != 0) {
      const int32_t copied = columns & ~3;
      const int lane = static_cast<int>(threadIdx.x) % 32;
      if (lane < columns - copied) tile[copied + lane] = row_scores[column + copied + lane];
      ptx::fence_async();  // the slot's next tile comes after this
      __syncwarp();
    }
    return tile;
  }
  /// The oldest tile has been read by all lanes.
  __device__ void release() {
    __syncwarp();
    refill(slot_);
    if (++slot_ == S::kSlots) {
      slot_ = 0;
      parity_ ^= 1;
    }
  }
  /// Whether the 16 bytes that hold the row's last column could reach beyond the matrix.
  __device__ static bool ends_unsafely(const SelectRowsParams &p, int32_t row, int32_t end) {
    return row == p.rows.count - 1 && ((end + 3) & ~3) > p.rows.max_key_end;
  }

 private:
  __device__ uint32_t barrier(int s) const { return shared_address(&block_words<S>().landed[warp_ * S::kSlots + s]); }
  /// Goes to the next row that this warp has tiles of.
  __device__ void open() {
    for (; item_ < p_.rows.count; item_ += item_step_) {
      const int32_t row = p_.rows.count - 1 - item_;
      const Span whole = row_span(p_, row);
      const Span part = slice<S>(whole, rank_);
      column_ = part.base + warp_ * S::kWarpTile;
      end_ = part.end;
      if (is_streamed<S>(whole) && column_ < end_) {
        copy_end_ = ends_unsafely(p_, row, end_) ? end_ & ~3 : (end_ + 3) & ~3;
        return;
      }
    }
  }
  __device__ void refill(int s) {
    if (item_ >= p_.rows.count) return;
    if (threadIdx.x % 32 == 0) {
      const auto bytes = static_cast<uint32_t>(max(0, min(S::kWarpTile, copy_end_ - column_))) * 4;
      ptx::mbarrier_arrive_expect(barrier(s), bytes);
      if (bytes > 0) {
        const int32_t row = p_.rows.count - 1 - item_;
        ptx::bulk_load(
            shared_address(select_shared) + static_cast<uint32_t>((warp_ * S::kSlots + s) * S::kWarpTile) * 4,
            p_.scores + row * p_.score_stride + column_, bytes, barrier(s));
      }
    }
    column_ += S::kTile;
    if (column_ >= end_) {
      item_ += item_step_;
      open();
    }
  }

  const SelectRowsParams &p_;
  int32_t item_;  // rows are counted from the last
  int32_t item_step_;
  int32_t rank_;
  int32_t warp_;
  int32_t column_ = 0;
  int32_t end_ = 0;
  int32_t copy_end_ = 0;
  int slot_ = 0;
  uint32_t parity_ = 0;
};

template <class S>
__device__ inline void select_rows(const SelectRowsParams &p, const Plan &plan) {
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  const int lane = tid % 32;
  const int warp = tid / 32;
  const int32_t rank = S::kCluster > 1 ? static_cast<int32_t>(ptx::cluster_rank()) : 0;
  const auto first_item = static_cast<int32_t>(blockIdx.x) / S::kCluster;
  const auto item_step = static_cast<int32_t>(gridDim.x) / S::kCluster;
  const int32_t k = p.out.k;
  const bool nan_is_absent = p.nan_is_absent != 0;

  if (tid < S::kWarps * S::kSlots) {
    ptx::mbarrier_init(shared_address(&words.landed[tid]), 1);
    ptx::mbarrier_init_fence();
    ptx::fence_async();
  }
  for (int i = tid; i < kCutBins; i += S::kThreads) sample_bins<S>()[i] = list_bins<S>()[i] = 0;
  Sample<S> sample;
  const auto load_sample = [&](int32_t item) {
    const int32_t row = p.rows.count - 1 - item;
    const Span span = row < 0 ? Span{0, 0, 0} : row_span(p, row);
    if (is_streamed<S>(span)) {
      sample.load(p.scores + row * p.score_stride, span);
    } else {
      sample.clear();
    }
  };
  load_sample(first_item);
  Slots<S> slots(p, first_item, item_step, rank);
  __syncthreads();
  slots.start();

  uint32_t last_key = 0;
  int32_t turn = 0;
  for (int32_t item = first_item; item < p.rows.count; item += item_step, ++turn) {
    const int32_t row = p.rows.count - 1 - item;
    const Span span = row_span(p, row);
    const Span part = slice<S>(span, rank);
    const float *scores = p.scores + row * p.score_stride;
    const int32_t leader = turn % S::kCluster;
    if (span.count() <= 0 || (span.count() <= k && !nan_is_absent)) {
      if (rank == leader) write_all<S>(p, row, span);
      load_sample(item + item_step);
      continue;
    }
    const bool streamed = is_streamed<S>(span);
    if (tid == 0) {
      ptx::bulk_stores_read();
      words.num_listed = 0;
      words.valid_listed = 0xffffffffu;
      words.overflow = 0;
    }
    bool again = !streamed;
    if (streamed) {
      Line line = find_start<S>(sample, span, k, kMargin, last_key);
      last_key = line.key;
      if (line.key <= kKeyOfMinusInfinity) {  // mostly masked: the tiles must go by, but are not looked at
        again = true;
        line = {kNoBound, 0};
      }
      const bool unsafe_end = Slots<S>::ends_unsafely(p, row, part.end);
      int32_t column = part.base + warp * S::kWarpTile;
      uint32_t mask = 0;
      bool full = false;
      const float *tile = nullptr;
      for (;;) {
        while (!full && column < part.end) {
          if (__any_sync(kWarp, *static_cast<volatile uint32_t *>(&words.overflow) != 0)) break;
          const int32_t columns = part.end - column;
          tile = slots.wait(scores, column, columns, unsafe_end);
          const float bound = bound_of(static_cast<uint32_t>(column) > line.position ? line.key + 1 : line.key);
          mask = reaching<S, false>(bound, tile, columns, max(0, part.begin - column), false);
          full = append<S, false>(mask, tile, column);
          if (!full) {
            slots.release();
            column += S::kTile;
          } else if (lane == 0) {
            *static_cast<volatile uint32_t *>(&words.overflow) = 1;
          }
        }
        if (__syncthreads_or(full ? 1 : 0) == 0) break;
        line = keep_best<S>(k, span.begin, span.end);
        if (full) {
          mask = still_above(line, mask, tile, column);
          full = append<S, false>(mask, tile, column);
          if (!full) {
            slots.release();
            column += S::kTile;
          } else if (lane == 0) {
            *static_cast<volatile uint32_t *>(&words.overflow) = 1;
          }
        }
      }
      if (S::kCluster == 1 && static_cast<int32_t>(words.num_listed) < k) again = true;
    }
    int32_t own_count = 0;
    if constexpr (S::kCluster > 1) {
      if (streamed) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
        const uint32_t counter = shared_address(&words.num_listed);
        if (lane < S::kCluster) {
          own_count =
              static_cast<int32_t>(ptx::cluster_load(ptx::cluster_address(counter, static_cast<uint32_t>(lane))));
        }
        again |= static_cast<int32_t>(__reduce_add_sync(kWarp, static_cast<uint32_t>(own_count))) < k;
      }
    }
    if (again) {
      if (S::kCluster > 1 && streamed) {  // all have read the counters
        ptx::cluster_arrive();
        ptx::cluster_wait();
      }
      // Blocks of a cluster have parts of the row, and do not know whether k scores of all of it reach a guess.
      list_again<S>(scores, part, span, k, nan_is_absent, S::kCluster == 1 && streamed);
      if constexpr (S::kCluster > 1) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
        own_count = 0;
        if (lane < S::kCluster) {
          own_count = static_cast<int32_t>(
              ptx::cluster_load(ptx::cluster_address(shared_address(&words.num_listed), static_cast<uint32_t>(lane))));
        }
      }
    }
    load_sample(item + item_step);
    int32_t gathered = 0;
    if constexpr (S::kCluster > 1) {
      if (static_cast<int32_t>(__reduce_add_sync(kWarp, static_cast<uint32_t>(own_count))) > S::kCapacity) {
        ptx::cluster_arrive();  // all have read the counters, and the leader's will change
        ptx::cluster_wait();
      }
      if (rank != leader) {
        ptx::cluster_arrive();  // matched by the leader when it has read the lists
        ptx::cluster_wait();
        continue;
      }
      gathered = gather_lists<S>(rank, own_count, k, span);
      ptx::cluster_arrive();
    }
    __syncthreads();
    const int32_t listed = S::kCluster > 1 ? gathered : static_cast<int32_t>(words.num_listed);
    Line line = {0, 0xffffffffu};
    if (listed >= k) line = find_line<S>(listed, k, span.begin, span.end, list_bins<S>());
    write_ranked<S>(p, plan, row, span, listed, line);
    if constexpr (S::kCluster > 1) ptx::cluster_wait();
  }
  if (tid == 0) ptx::bulk_stores_done();
}

#endif

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocksPerProcessor)
    select_sm90_kernel(const __grid_constant__ SelectRowsParams p, const __grid_constant__ Plan plan) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  select_rows<S>(p, plan);
#endif
}

template <class S>
cudaError_t load() {
  return sm90::load_kernel<S>(reinterpret_cast<const void *>(select_sm90_kernel<S>));
}

template <class S>
bool fits(const SelectRowsParams &p, const LaunchLimits &limits) {
  return bitmap_fits<S>(p.rows.max_key_end) && sm90::can_select<S>(p, limits);
}

template <class S>
cudaError_t launch(const SelectRowsParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (!fits<S>(params, limits)) return cudaErrorNotSupported;
  const Plan plan = {sm90::on_16_bytes(params.out.indices, params.out.index_stride)};
  return sm90::launch_kernel<S>(select_sm90_kernel<S>, params, plan, limits, stream);
}

}  // namespace

cudaError_t load_select() {
  for (cudaError_t (*load_one)() : {load<Rows>, load<OneBlock>, load<TwoBlocks>}) {
    const cudaError_t error = load_one();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

bool select_fits(const SelectRowsParams &params, const LaunchLimits &limits, SelectVariant variant) {
  switch (variant) {
    case SelectVariant::kListedRows:
      return fits<Rows>(params, limits);
    case SelectVariant::kOneList:
      return fits<OneBlock>(params, limits);
    case SelectVariant::kTwoLists:
      return fits<TwoBlocks>(params, limits);
    default:
      return false;
  }
}

cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, SelectVariant variant,
                          cudaStream_t stream) {
  if (params.rows.count <= 0) return cudaSuccess;
  switch (variant) {
    case SelectVariant::kListedRows:
      return launch<Rows>(params, limits, stream);
    case SelectVariant::kOneList:
      return launch<OneBlock>(params, limits, stream);
    case SelectVariant::kTwoLists:
      return launch<TwoBlocks>(params, limits, stream);
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace ic::cuda::lists

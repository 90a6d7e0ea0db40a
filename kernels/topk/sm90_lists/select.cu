// SPDX-License-Identifier: Apache-2.0
// The k best of each row of a score matrix on Hopper: one read of the row by bulk copies, no barrier between warps.
//
// Bound: bytes, 4 per score. Design (docs/kernels/topk_sm90.md):
//
//   slot       every warp has tiles of its own in the row and a slot of its own in shared memory, which it refills by
//              bulk copies, across rows
//   threshold  from a sample of the row, drawn while the row before is finished; the last row's is taken again if the
//              sample agrees. If many scores tie with it, those behind a position are left out
//   list       what reaches the threshold, in no order. Full: the block keeps the k best and goes on with the line
//              below them. Too few: the row is read again with a lower one. Both are exact for any data
//   line       histogram of the list's keys, then comparison inside one bin
//   output     the chosen positions set bits of a bitmap; a prefix over its words gives each its rank: ascending order
//              without a sort, and one bulk store
#include <cuda_runtime.h>

#include "kernels/policy/sm90.h"
#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/ptx/dependent_launch.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/order_key.cuh"
#include "kernels/topk/sm90_launch.h"
#include "kernels/topk/sm90_lists/append.cuh"
#include "kernels/topk/sm90_rows.cuh"
#include "kernels/topk/sm90_sample.cuh"

namespace ic::cuda::lists {
namespace {

using sm90::SelectVariant;

/// How the chosen positions get their places. Lies over the list, which nobody reads any more.
struct Ranks {
  uint4 *bits;       // of the row's positions, from a multiple of kGroup
  uint16_t *before;  // bits in front of each group
  static constexpr int32_t kGroup = 128;
  __host__ __device__ static int32_t groups(int32_t columns) { return (columns + kGroup - 1) / kGroup; }
  __host__ __device__ static int32_t bytes(int32_t columns) { return groups(columns) * (kGroup / 8 + 2); }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Of the sampled threshold, in standard deviations: a row that must be read again delays all others of a call, and may
/// not happen in thousands of them. The second time it must not fail.
constexpr float kMargin = 4.0f;
constexpr float kWideMargin = 8.0f;

// A block takes rows from the last on, one per turn. Their ranges are in shared memory, loaded three turns ahead:
// nothing hides such a load once copies are under way, and registers are few while tiles go by.

constexpr int32_t kTurnsAhead = 3;

/// Negative: there is none.
__device__ inline int32_t row_of(const SelectRowsParams &p, int32_t turn) {
  return p.rows.count - 1 - static_cast<int32_t>(blockIdx.x) - turn * static_cast<int32_t>(gridDim.x);
}

/// Of this turn and the two that follow.
__device__ inline Span span_of(int32_t turn) {
  const int2 range = block_words().ranges[turn % 4];
  return {range.x & ~3, range.x, range.y};
}

__device__ inline void set_span(int32_t turn, const Span &span) {
  block_words().ranges[turn % 4] = make_int2(span.begin, span.end);
}

/// Rows that do not fit the list are streamed; the others are listed straight from memory.
__device__ inline bool is_streamed(const Span &row) { return row.count() > Shape::kCapacity; }

/// Zero, as they must be before entries are counted.
__device__ inline void clear_bins() {
  for (int i = ptx::thread_index(); i < kCutBins / 4; i += Shape::kThreads) {
    reinterpret_cast<uint4 *>(bins())[i] = make_uint4(0, 0, 0, 0);
  }
}

using Sample = sm90::Sample<Shape::kThreads, Shape::kSampleGroups>;

/// Where a row starts: scores at or above line.key; those equal to it only in tiles that start at or before
/// line.position. A guess: whatever it is, the result is exact. Behind the first barrier the bins become zero: the last
/// row's output was built there.
__device__ inline Line find_start(const Sample &sample, const Span &row, int32_t k, float margin, uint32_t last_key) {
  BlockWords &words = block_words();
  uint32_t *counts = bins();
  const int lane = ptx::thread_index() % 32;
  const int warp = ptx::thread_index() / 32;
  const auto for_each_key = [&](auto &&body) {
    sample.for_each([&](float score) { body(key_of(without_nan(score))); });
  };
  // The sample's rank that k scores of the row correspond to, and a margin; up to rank `most` the list has room.
  const float fraction = static_cast<float>(Shape::kSamples) / static_cast<float>(row.count());
  const float expected = static_cast<float>(k) * fraction;
  const float z = margin * sqrtf(fmaxf(1.0f - fraction, 0.0f));
  const float root = 0.5f * z + sqrtf(0.25f * z * z + expected);
  const int32_t least = min(Shape::kSamples - 1, static_cast<int32_t>(root * root) + 1);
  const int32_t most = max(
      least, min(least + least * 3 / 8, static_cast<int32_t>(0.92f * static_cast<float>(Shape::kCapacity) * fraction)));

  uint32_t reaching_last = 0;
  for_each_key([&](uint32_t key) { reaching_last += key >= last_key ? 1u : 0u; });
  reaching_last = __reduce_add_sync(kWarp, reaching_last);
  if (lane == 0) words.of_warp[warp] = reaching_last;
  __syncthreads();
  const auto reached = static_cast<int32_t>(__reduce_add_sync(kWarp, lane < Shape::kWarps ? words.of_warp[lane] : 0u));
  clear_bins();
  const int32_t slack = least / 16;
  if (last_key != 0 && reached >= least - slack && reached <= max(most, least + slack)) {
    return {last_key, 0xffffffffu};
  }

  const int32_t rank = (least + most + 1) / 2;
  __syncthreads();
  for_each_key([&](uint32_t key) { atomicAdd(counts + (key >> 21), 1u); });
  __syncthreads();
  Bin bin = find_bin(rank);
  uint32_t key = static_cast<uint32_t>(bin.index) << 21;
  uint32_t position = 0xffffffffu;
  int32_t above = bin.above;
  if (above + bin.count > rank + rank / 16) {
    for_each_key([&](uint32_t one) {
      if (one >> 21 == key >> 21) atomicAdd(counts + (one >> 10 & 2047u), 1u);
    });
    __syncthreads();
    bin = find_bin(rank - above);
    key |= static_cast<uint32_t>(bin.index) << 10;
    above += bin.above;
    if (above + bin.count > most + 8) {  // a plateau, or values that agree in 22 bits
      for_each_key([&](uint32_t one) {
        if (one >> 10 == key >> 10) atomicAdd(counts + (one & 1023u), 1u);
      });
      __syncthreads();
      bin = find_bin(rank - above);
      key |= static_cast<uint32_t>(bin.index);
      above += bin.above;
      if (above + bin.count > most + 8) {  // ties: as far as the row should have to be read for enough of them
        const auto better = static_cast<float>(above);
        const float missing = static_cast<float>(k) - better / fraction + 4.0f * sqrtf(better + 1.0f) / fraction;
        const float ties = fmaxf(0.0f, missing) * 1.1f + 200.0f;
        const float columns = ties * static_cast<float>(Shape::kSamples) / static_cast<float>(bin.count);
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
__device__ __noinline__ void list_again(const SelectRowsParams &p, int32_t turn, bool guess) {
  BlockWords &words = block_words();
  const Span row = span_of(turn);
  const float *scores = p.scores + row_of(p, turn) * p.score_stride;
  const int32_t k = p.out.k;
  __syncthreads();
  uint32_t start = 0;
  if (guess) {
    Sample sample;
    sample.load(scores, row);
    start = find_start(sample, row, k, kWideMargin, 0).key;
  } else {
    clear_bins();
  }
  float bound = start > kMinusInfinityKey ? score_of_key(start) : -INFINITY;
#pragma unroll 1
  for (;;) {
    __syncthreads();
    if (threadIdx.x == 0) {
      words.num_listed = 0;
      words.valid_listed = 0xffffffffu;
    }
    __syncthreads();
    list_from(scores, row, k, p.nan_is_absent != 0, bound);
    if (bound == -INFINITY || static_cast<int32_t>(words.num_listed) >= k) return;
    bound = -INFINITY;
  }
}

/// The entries above the line, ascending. List and bins are overwritten.
__device__ inline void write_ranked(const SelectRowsParams &p, bool bulk_output, int32_t row, const Span &span,
                                    int32_t listed, const Line &line) {
  const SelectionOut &out = p.out;
  BlockWords &words = block_words();
  const auto tid = [] { return ptx::thread_index(); };
  const int lane = tid() % 32;
  const uint2 *list = candidates();
  const int32_t first_position = span.begin & -Ranks::kGroup;
  const int32_t groups = Ranks::groups(span.end - first_position);
  Ranks ranks;
  ranks.bits = reinterpret_cast<uint4 *>(select_shared + Shape::kListAt);
  ranks.before = reinterpret_cast<uint16_t *>(ranks.bits + groups);
  auto *chosen = reinterpret_cast<uint32_t *>(bins());  // from first_position, in no order
  auto *ranked = reinterpret_cast<int32_t *>(bins());   // the same memory, later

  uint32_t above = 0;  // a bit per entry
#pragma unroll 4
  for (int e = 0; e < Shape::kPerThread; ++e) {
    const int32_t i = e * Shape::kThreads + tid();
    if (i < listed && is_above(list[i], line)) above |= 1u << e;
  }
  uint32_t at = sm90::take_places(&words.num_chosen, __popc(above)).own;
  for (; above != 0; above &= above - 1) {
    const int e = __ffs(static_cast<int>(above)) - 1;
    chosen[at++] = list[e * Shape::kThreads + tid()].y - static_cast<uint32_t>(first_position);
  }
  __syncthreads();
  const auto count = static_cast<int32_t>(words.num_chosen);
  for (int32_t i = tid(); i < groups; i += Shape::kThreads) ranks.bits[i] = make_uint4(0, 0, 0, 0);
  __syncthreads();
#pragma unroll 4
  for (int32_t i = tid(); i < count; i += Shape::kThreads) {
    const uint32_t x = chosen[i];
    atomicOr(reinterpret_cast<uint32_t *>(ranks.bits) + x / 32, 1u << (x % 32));
  }
  __syncthreads();
  // Each thread has a run of groups, an odd number because of the banks; its prefixes are relative at first.
  const int32_t each = ((groups + Shape::kThreads - 1) / Shape::kThreads) | 1;
  const int32_t from = min(groups, tid() * each);
  const int32_t to = min(groups, from + each);
  uint32_t sum = 0;
#pragma unroll 2
  for (int32_t i = from; i < to; ++i) {
    const uint4 group = ranks.bits[i];
    ranks.before[i] = static_cast<uint16_t>(sum);
    sum += static_cast<uint32_t>(__popc(group.x) + __popc(group.y) + __popc(group.z) + __popc(group.w));
  }
  const auto inclusive = static_cast<uint32_t>(warp_inclusive_sum(static_cast<int32_t>(sum)));
  if (lane == 31) words.of_warp[tid() / 32] = inclusive;
  __syncthreads();
  const uint32_t before = __reduce_add_sync(kWarp, lane < tid() / 32 ? words.of_warp[lane] : 0u) + inclusive - sum;
  for (int32_t i = from; i < to; ++i) ranks.before[i] = static_cast<uint16_t>(ranks.before[i] + before);
  constexpr int kOwn = sm90::kMostSelected / Shape::kThreads;
  uint32_t own[kOwn];
#pragma unroll
  for (int e = 0; e < kOwn; ++e) own[e] = chosen[e * Shape::kThreads + tid()];
  __syncthreads();
#pragma unroll
  for (int e = 0; e < kOwn; ++e) {
    const int32_t i = e * Shape::kThreads + tid();
    if (i < count) {
      const uint32_t x = own[e];
      const uint4 group = ranks.bits[x / Ranks::kGroup];
      const uint64_t below = (uint64_t{1} << (x & 63)) - 1;
      const bool upper = (x & 64) != 0;
      const uint64_t low = uint64_t{group.y} << 32 | group.x;
      const uint64_t high = uint64_t{group.w} << 32 | group.z;
      const int in_front = __popcll((upper ? high : low) & below) + (upper ? __popcll(low) : 0);
      ranked[ranks.before[x / Ranks::kGroup] + in_front] = static_cast<int32_t>(x) + first_position;
    } else if (i < out.k_padded) {
      ranked[i] = -1;
    }
  }
  ptx::fence_async();
  __syncthreads();
  int32_t *indices = out.indices + row * out.index_stride;
  if (bulk_output) {
    if (tid() == 0) ptx::bulk_store(indices, shared_address(ranked), static_cast<uint32_t>(out.k_padded) * 4);
  } else {
    for (int32_t i = tid(); i < out.k_padded; i += Shape::kThreads) indices[i] = ranked[i];
  }
  if (out.scores != nullptr) {
    const float *scores = p.scores + row * p.score_stride;
    for (int32_t i = tid(); i < out.k_padded; i += Shape::kThreads) {
      const int32_t position = ranked[i];
      out.scores[row * out.index_stride + i] =
          position < 0 ? -INFINITY : score_of_key(order_key(scores[position], false));
    }
  }
  if (tid() == 0) out.lengths[row] = count;
}

/// A warp's slot: tiles of its rows, in order, each asked for when the one before has been read.
class Slot {
 public:
  __device__ explicit Slot(const SelectRowsParams &p) : p_(p) {}

  /// Asks for the first tile; the barrier and the ranges have been initialised.
  __device__ void start() {
    open(0);
    refill(0);
  }
  /// Waits for the tile. `columns` from `column` on are in the row of this turn.
  __device__ const float *wait(int32_t turn, int32_t column, int32_t columns) {
    ptx::mbarrier_wait(barrier(), parity_);
    float *tile = this->tile();
    if (columns < Shape::kWarpTile && columns % 4 != 0) {
      const int32_t row = row_of(p_, turn);
      if (sm90::ends_unsafely(p_.rows, row, column + columns)) {
        const int32_t at = (columns & ~3) + static_cast<int>(threadIdx.x) % 32;
        if (at < columns) tile[at] = p_.scores[row * p_.score_stride + column + at];
        ptx::fence_async();  // the next tile comes after this
        __syncwarp();
      }
    }
    return tile;
  }
  /// The tile has been read by all lanes.
  __device__ void release(int32_t turn) {
    __syncwarp();
    refill(turn);
    parity_ ^= 1;
  }

 private:
  // What can be computed again is not kept.
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static uint32_t barrier() { return shared_address(&block_words().landed[warp()]); }
  __device__ static float *tile() { return reinterpret_cast<float *>(select_shared) + warp() * Shape::kWarpTile; }
  /// Goes to the next row that this warp has tiles of. turn: of the block, now.
  __device__ void open(int32_t turn) {
    for (; row_of(p_, turn_) >= 0; ++turn_) {
      Span row = {0, 0, 0};
      if (turn_ < turn + kTurnsAhead) {
        row = span_of(turn_);
      } else {  // behind several short rows
        sm90::RowWords words;
        words.load(p_.rows, row_of(p_, turn_));
        row = words.span(p_.rows);
      }
      column_ = row.base + warp() * Shape::kWarpTile;
      end_ = row.end;
      if (is_streamed(row) && column_ < end_) return;
    }
  }
  __device__ void refill(int32_t turn) {
    const int32_t row = row_of(p_, turn_);
    if (row < 0) return;
    if (threadIdx.x % 32 == 0) {
      const int32_t copy_end = sm90::ends_unsafely(p_.rows, row, end_) ? end_ & ~3 : (end_ + 3) & ~3;
      const auto bytes = static_cast<uint32_t>(max(0, min(Shape::kWarpTile, copy_end - column_))) * 4;
      ptx::mbarrier_arrive_expect(barrier(), bytes);
      if (bytes > 0) {
        ptx::bulk_load(shared_address(tile()), p_.scores + row * p_.score_stride + column_, bytes, barrier());
      }
    }
    column_ += Shape::kTile;
    if (column_ >= end_) {
      ++turn_;
      open(turn);
    }
  }

  const SelectRowsParams &p_;
  int32_t turn_ = 0;  // of the tile that is asked for next
  int32_t column_ = 0;
  int32_t end_ = 0;
  uint32_t parity_ = 0;
};

__device__ inline void select_rows(const SelectRowsParams &p, bool bulk_output) {
  BlockWords &words = block_words();
  const int tid = static_cast<int>(threadIdx.x);
  const int warp = tid / 32;
  const int32_t k = p.out.k;
  const bool nan_is_absent = p.nan_is_absent != 0;

  if (tid < Shape::kWarps) {
    ptx::mbarrier_init(shared_address(&words.landed[tid]), 1);
    ptx::mbarrier_init_fence();
    ptx::fence_async();
  }
  ptx::wait_for_previous_kernel();
  if (tid < kTurnsAhead) {
    sm90::RowWords range;
    range.load(p.rows, row_of(p, tid));
    set_span(tid, range.span(p.rows));
  }
  if (tid == 0) words.last_key = 0;
  __syncthreads();
  Sample sample;
  const auto load_sample = [&](int32_t turn) {
    const int32_t row = row_of(p, turn);
    const Span span = span_of(turn);
    if (row >= 0 && is_streamed(span)) {
      sample.load(p.scores + row * p.score_stride, span);
    } else {
      sample.clear();
    }
  };
  load_sample(0);
  Slot slot(p);
  slot.start();

  for (int32_t turn = 0; row_of(p, turn) >= 0; ++turn) {
    sm90::RowWords ahead;
    if (const Span span = span_of(turn); span.count() <= 0 || (span.count() <= k && !nan_is_absent)) {
      if (tid == 0) ahead.load(p.rows, row_of(p, turn + kTurnsAhead));
      sm90::write_all<Shape::kThreads>(p, row_of(p, turn), span);
      load_sample(turn + 1);
      if (tid == 0) set_span(turn + kTurnsAhead, ahead.span(p.rows));
      __syncthreads();
      continue;
    }
    const bool streamed = is_streamed(span_of(turn));
    if (tid == 0) {
      ptx::bulk_stores_read();
      words.num_listed = 0;
      words.valid_listed = 0xffffffffu;
      words.num_chosen = 0;
    }
    bool again = !streamed;
    if (streamed) {
      Line line = find_start(sample, span_of(turn), k, kMargin, words.last_key);
      if (tid == 0) words.last_key = line.key;
      if (line.key <= kMinusInfinityKey) {  // mostly masked: the tiles must go by, but are not looked at
        again = true;
        line = {kNoBound, 0};
      }
      const Span span = span_of(turn);
      int32_t column = span.base + warp * Shape::kWarpTile;
      uint32_t mask = 0;
      bool full = false;
      const float *tile = nullptr;
      for (;;) {
        while (!full && column < span.end) {
          const int32_t columns = span.end - column;
          tile = slot.wait(turn, column, columns);
          const float bound = score_of_key(static_cast<uint32_t>(column) > line.position ? line.key + 1 : line.key);
          mask = reaching<false>(bound, tile, columns, max(0, span.begin - column), false);
          full = append<false>(mask, tile, column);
          if (!full) {
            slot.release(turn);
            column += Shape::kTile;
          }
        }
        if (__syncthreads_or(full ? 1 : 0) == 0) break;
        line = keep_best(k, span_of(turn).begin, span_of(turn).end);
        if (full) {
          mask = still_above(line, mask, tile, column);
          full = append<false>(mask, tile, column);
          if (!full) {
            slot.release(turn);
            column += Shape::kTile;
          }
        }
      }
      if (static_cast<int32_t>(words.num_listed) < k) again = true;
    }
    if (again) list_again(p, turn, streamed);
    load_sample(turn + 1);
    if (tid == 0) ahead.load(p.rows, row_of(p, turn + kTurnsAhead));
    __syncthreads();
    const auto listed = static_cast<int32_t>(words.num_listed);
    const Span span = span_of(turn);
    Line line = {0, 0xffffffffu};
    if (listed >= k) line = find_line(listed, k, span.begin, span.end);
    write_ranked(p, bulk_output, row_of(p, turn), span, listed, line);
    if (tid == 0) set_span(turn + kTurnsAhead, ahead.span(p.rows));
  }
  if (tid == 0) ptx::bulk_stores_done();
}

#endif

__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocksPerProcessor)
    select_sm90_kernel(const __grid_constant__ SelectRowsParams p, sm90::LaunchFacts facts) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  select_rows(p, facts.bulk_output);
#endif
}

/// The bitmap of the longest rows has the list's memory.
bool bitmap_fits(int32_t max_end) {
  return max_end < (1 << 20) && Ranks::bytes(max_end + Ranks::kGroup) <= Shape::kCapacity * 8;
}

}  // namespace

cudaError_t load_select() { return sm90::load_kernel<Shape>(reinterpret_cast<const void *>(select_sm90_kernel)); }

bool select_fits(const SelectRowsParams &params, const LaunchLimits &limits, SelectVariant variant) {
  return variant == SelectVariant::kListedRows && bitmap_fits(params.rows.max_key_end) &&
         sm90::can_select<Shape>(params, limits);
}

cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, SelectVariant variant,
                          cudaStream_t stream) {
  if (params.rows.count <= 0) return cudaSuccess;
  if (!select_fits(params, limits, variant)) return cudaErrorNotSupported;
  return sm90::launch_kernel<Shape>(select_sm90_kernel, params, limits, stream);
}

}  // namespace ic::cuda::lists

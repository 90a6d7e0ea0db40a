// SPDX-License-Identifier: Apache-2.0
// The k best of each row of a score matrix on Hopper: one read of the row by bulk copies, no barrier between warps.
//
// Bound: bytes, 4 per score. Design (docs/kernels/topk_sm90.md):
//
//   slot     every warp has tiles of its own in the row and one or two slots of its own in shared memory, which it
//            refills itself by bulk copies, across rows
//   window   keys that the k-th lies between, from a sample of the row, drawn while the row before is finished
//   tile     scores above the window become bits, one per column; scores in the window go to a list, in no order. If
//            many scores have the window's lowest key (plateaus), these become bits too and stay out of the list
//   line     the k-th of the list by a histogram, then by comparison inside one bin; chosen entries add their bits
//   output   a sum over the words of bits gives each position its place: ascending without a sort
//
// The counts tell whether the window was right. If not, the row is read again until it is: exact for any data.
//
// Few rows: a cluster per row, each block has a slice of the columns. All draw the same sample and, after one exchange
// of counts and lists, find the same line; each writes its own part of the output.
#include <cuda_runtime.h>

#include "kernels/policy/sm90.h"
#include "kernels/ptx/dependent_launch.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/sm90_launch.h"
#include "kernels/topk/sm90_windows/compare.cuh"
#include "kernels/topk/sm90_windows/exchange.cuh"
#include "kernels/topk/sm90_windows/line.cuh"
#include "kernels/topk/sm90_windows/narrow.cuh"
#include "kernels/topk/sm90_windows/slot.cuh"
#include "kernels/topk/sm90_windows/window.cuh"
#include "kernels/topk/sm90_windows/write.cuh"

namespace ic::cuda::windows {
namespace {

using sm90::SelectVariant;

/// threads, groups of a thread's sample, list, columns, cluster, blocks per processor, bins
using Small = SelectShape<256, 1, 2280, 9216, 1, 4, 1024>;
using Medium = SelectShape<256, 2, 2560, 49152, 1, 3, 1024>;
using OneBlock = SelectShape<512, 2, 6144, 263168, 1, 1, 2048>;
using TwoBlocks = SelectShape<512, 2, 6144, 132096, 2, 1, 2048>;
using ThreeBlocks = SelectShape<512, 2, 6144, 90112, 3, 1, 2048>;
using FourBlocks = SelectShape<512, 2, 6144, 66560, 4, 1, 2048>;
using EightBlocks = SelectShape<512, 2, 6144, 33792, 8, 1, 2048>;

/// A part has a multiple of 32 columns more than its share at most, and up to three in front of the first.
template <class S>
constexpr bool holds(int64_t max_end) {
  return (max_end + 3 + 32 * S::kCluster) / S::kCluster <= S::kColumns;
}
static_assert(holds<OneBlock>(sm90::kMostColumns) && holds<TwoBlocks>(sm90::kMostColumns) &&
              holds<ThreeBlocks>(sm90::kMostColumns) && holds<FourBlocks>(sm90::kMostColumns) &&
              holds<EightBlocks>(sm90::kMostColumns));

// A processor that gives up to 196 KB to blocks (and 1 KB more for each) keeps 60 KB as first level cache, else 28:
// with a list of 3072 entries 32K columns took 225 us instead of 201.
static_assert(Medium::kBlocksPerProcessor * (Medium::kBytes + 1024) <= 196 << 10);
static_assert(Small::kBlocksPerProcessor * (Small::kBytes + 1024) <= 228 << 10);  // else fewer run at once

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Whether the counts place the k-th in the window, or there are fewer keys than k, and the list is complete.
__device__ inline bool is_found(const Window &window, const Counts &counts, int32_t k, int32_t capacity) {
  if (counts.above > k || (counts.above < k && counts.listed > capacity)) return false;
  return counts.above + counts.listed + counts.ties >= k || window.has_bottom();
}

template <class S>
struct Found {
  Window window;
  Counts counts;
  Exchange<S> exchange;
};

/// Reads the row again until its k-th is found: with the window next to the first one, then with narrowed ones. Rare,
/// and a function of its own so that nothing is kept for it elsewhere.
template <class S>
__device__ __noinline__ Found<S> look_again(const float *scores, Span span, Span part, int32_t k, bool nan_is_absent,
                                            bool was_streamed, Found<S> now) {
  Window &window = now.window;
  Counts &counts = now.counts;
  bool next_to = was_streamed;
  for (bool known = was_streamed;; known = true) {
    bool narrow = !next_to;
    if (known) {
      if (is_found(window, counts, k, list_capacity<S>(window, span))) return now;
      if (counts.above > k) {
        window = window.above(next_to);
      } else if (counts.above + counts.listed + counts.ties < k && !window.has_bottom()) {
        window = window.below(next_to);
      } else {
        narrow = true;  // the list is too short
      }
      narrow |= window.has_bottom() || window.high == kInfinityKey;
    }
    if (narrow) {
      window = narrow_window<S>(scores, part, k, nan_is_absent, window);
    } else if constexpr (S::kCluster > 1) {
      cluster_barrier();  // all blocks have read the last counts
    }
    next_to = false;
    list_window<S>(scores, part, tie_bits<S>(window, span), list_capacity<S>(window, span), nan_is_absent, window);
    counts = now.exchange.counts();
  }
}

template <class S>
__device__ inline void select_rows(const SelectRowsParams &p, const sm90::LaunchFacts &facts) {
  BlockWords &words = block_words<S>();
  const int tid = static_cast<int>(threadIdx.x);
  const int32_t rank = S::kCluster > 1 ? static_cast<int32_t>(ptx::cluster_rank()) : 0;
  const auto first_item = static_cast<int32_t>(blockIdx.x) / S::kCluster;
  const auto item_step = static_cast<int32_t>(gridDim.x) / S::kCluster;
  const int32_t k = p.out.k;
  const bool nan_is_absent = p.nan_is_absent != 0;

  // Rows are taken from the last on. The next row's range, first tiles and sample are asked for while a row is
  // finished.
  const auto row_of = [&](int32_t item) { return p.rows.count - 1 - item; };
  // With many rows to a block the next kernel's blocks, waiting beside these, cost 2 % and save nothing.
  if (S::kBlocksPerProcessor == 1 && facts.next_may_start) ptx::let_next_kernel_start();
  Exchange<S> exchange(rank);
  exchange.init();
  if constexpr (S::kCluster > 1) ptx::cluster_arrive_relaxed();
  Slots<S> slots;
  if (lane_id() == 0) slots.init();
  for (int i = tid; i < S::kBins; i += S::kThreads) bins<S>()[i] = 0;
  ptx::wait_for_previous_kernel();
  RowWords row_words;
  row_words.load(p.rows, row_of(first_item));
  RowWords next_words;
  next_words.load(p.rows, row_of(first_item + item_step));
  __syncthreads();
  Sample<S> sample;
  const auto ask = [&](int32_t row, const Span &span) {
    if (row < 0 || !is_streamed(p, span)) return;
    const Span part = slice<S>(span, rank);
    slots.ask(p, row, part, first_tile_column(part));
  };
  const auto load_sample = [&](int32_t row, const Span &span) {
    if (row >= 0 && is_streamed(p, span)) {
      sample.load(p.scores + row * p.score_stride, span);
    } else {
      sample.clear();
    }
  };
  Span next = row_words.span(p.rows);
  load_sample(row_of(first_item), next);
  ask(row_of(first_item), next);
  if constexpr (S::kCluster > 1) ptx::cluster_wait();  // all blocks run before one writes to another

  for (int32_t item = first_item; item < p.rows.count; item += item_step) {
    const int32_t row = row_of(item);
    const Span span = next;
    next = next_words.span(p.rows);
    next_words.load(p.rows, row_of(item + 2 * item_step));
    const Span part = slice<S>(span, rank);
    const float *scores = p.scores + row * p.score_stride;
    if (span.count() <= 0 || (span.count() <= k && !nan_is_absent)) {
      if (rank == 0) sm90::write_all<S::kThreads>(p, row, span);
      ask(row_of(item + item_step), next);
      load_sample(row_of(item + item_step), next);
      continue;
    }
    if (tid == 0) {
      ptx::bulk_stores_read();
      words.num_above = 0;
      words.num_listed = 0;
      words.num_ties = 0;
      words.chosen_in_front = 0;
    }
    Window window = {kMinusInfinityKey, kInfinityKey, false};
    const bool streamed = is_streamed(p, span);
    if (streamed) {
      window = find_window<S>(sample, span.count(), k, [&] {
#pragma unroll
        for (int i = 1; i < S::kSlots; ++i) {
          slots.ask(p, row, part, first_tile_column(part) + i * S::kTile);
        }
      });
      const Bounds bounds(window, nan_is_absent);
      const int32_t capacity = list_capacity<S>(window, span);
      int32_t num_above = 0;
      int32_t num_ties = 0;
      for (int32_t column = first_tile_column(part); column < part.end; column += S::kTile) {
        const float *tile = slots.wait(p, row, part, column);
        const TileBits bits = compare_tile(tile, bounds, part.begin - column, part.end - column);
        const int32_t word = (column - part.base) / 32 + lane_id();
        column_bits<S>()[word] = bits.above;
        num_above += __popc(bits.above);
        if (window.ties) {
          tie_bits<S>(window, span)[word] = bits.ties;
          num_ties += __popc(bits.ties);
        }
        append<S>(bits.listed, tile, column, capacity);
        __syncwarp();
        slots.ask(p, row, part, column + S::kSlots * S::kTile);
      }
      num_above = __reduce_add_sync(kWarp, num_above);
      num_ties = __reduce_add_sync(kWarp, num_ties);
      if (lane_id() == 0 && num_above > 0) atomicAdd(&words.num_above, static_cast<uint32_t>(num_above));
      if (lane_id() == 0 && num_ties > 0) atomicAdd(&words.num_ties, static_cast<uint32_t>(num_ties));
    }
    ask(row_of(item + item_step), next);
    Counts counts = exchange.counts();
    if (!streamed || !is_found(window, counts, k, list_capacity<S>(window, span))) {
      const Found<S> found = look_again<S>(scores, span, part, k, nan_is_absent, streamed, {window, counts, exchange});
      window = found.window;
      counts = found.counts;
      exchange = found.exchange;
    }

    const int32_t from_list = min(k - counts.above, counts.listed);
    const int32_t from_ties = min(k - counts.above - from_list, counts.ties);
    const int32_t ties_in_front = min(from_ties, counts.ties_in_front);
    int32_t start = counts.above_in_front + ties_in_front;
    bool in_use = false;  // other blocks read this one's memory, or will write there for the next row
    if constexpr (S::kCluster > 1) {
      in_use = item + item_step < p.rows.count;
      if (from_list > 0 && exchange.gather_lists(counts)) in_use = true;
      if (in_use) ptx::cluster_arrive();
    }
    if (from_list > 0) {
      Line line = {0, 0xffffffffu};  // everything is above
      if (from_list < counts.listed) line = find_line<S>(counts.listed, from_list, window, span);
      load_sample(row_of(item + item_step), next);
      const int32_t own = S::kCluster > 1 ? static_cast<int32_t>(words.num_listed) : counts.listed;
      for_each_entry<S>(0, own, [&](const uint2 &entry) {
        const uint32_t at = entry.y - static_cast<uint32_t>(part.base);
        if (is_above(entry, line)) atomicOr(column_bits<S>() + at / 32, 0x80000000u >> (at % 32));
      });
      if constexpr (S::kCluster > 1) {
        int32_t in_front = 0;
        for_each_entry<S>(own, own + counts.listed_in_front,
                          [&](const uint2 &entry) { in_front += is_above(entry, line) ? 1 : 0; });
        in_front = __reduce_add_sync(kWarp, in_front);
        if (lane_id() == 0 && in_front > 0) atomicAdd(&words.chosen_in_front, static_cast<uint32_t>(in_front));
      }
      __syncthreads();
      start += static_cast<int32_t>(words.chosen_in_front);
    } else {
      load_sample(row_of(item + item_step), next);
    }
    write_chosen<S>(p, facts.bulk_output, row, part, tie_bits<S>(window, span), from_ties - ties_in_front, start, rank,
                    counts.above + from_list + from_ties);
    if (in_use) ptx::cluster_wait();
  }
  if (tid == 0) ptx::bulk_stores_done();
}

#endif

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocksPerProcessor)
    select_sm90_kernel(const __grid_constant__ SelectRowsParams p, sm90::LaunchFacts facts) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  select_rows<S>(p, facts);
#endif
}

template <class S>
cudaError_t load() {
  return sm90::load_kernel<S>(reinterpret_cast<const void *>(select_sm90_kernel<S>));
}

template <class S>
bool fits(const SelectRowsParams &p, const LaunchLimits &limits) {
  return holds<S>(p.rows.max_key_end) && sm90::can_select<S>(p, limits);
}

template <class S>
cudaError_t launch(const SelectRowsParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (!fits<S>(params, limits)) return cudaErrorNotSupported;
  return sm90::launch_kernel<S>(select_sm90_kernel<S>, params, limits, stream);
}

/// Calls body(shape) for the shape of a variant.
template <class Body>
cudaError_t with_shape(SelectVariant variant, Body &&body) {
  switch (variant) {
    case SelectVariant::kSmallRows:
      return body(Small());
    case SelectVariant::kMediumRows:
      return body(Medium());
    case SelectVariant::kOneWindow:
      return body(OneBlock());
    case SelectVariant::kTwoWindows:
      return body(TwoBlocks());
    case SelectVariant::kThreeWindows:
      return body(ThreeBlocks());
    case SelectVariant::kFourWindows:
      return body(FourBlocks());
    case SelectVariant::kEightWindows:
      return body(EightBlocks());
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace

cudaError_t load_select() {
  for (cudaError_t (*load_one)() : {load<Small>, load<Medium>, load<OneBlock>, load<TwoBlocks>, load<ThreeBlocks>,
                                    load<FourBlocks>, load<EightBlocks>}) {
    const cudaError_t error = load_one();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

bool select_fits(const SelectRowsParams &params, const LaunchLimits &limits, SelectVariant variant) {
  return with_shape(variant, [&](auto shape) {
           return fits<decltype(shape)>(params, limits) ? cudaSuccess : cudaErrorNotSupported;
         }) == cudaSuccess;
}

cudaError_t launch_select(const SelectRowsParams &params, const LaunchLimits &limits, SelectVariant variant,
                          cudaStream_t stream) {
  if (params.rows.count <= 0) return cudaSuccess;
  return with_shape(variant, [&](auto shape) { return launch<decltype(shape)>(params, limits, stream); });
}

}  // namespace ic::cuda::windows

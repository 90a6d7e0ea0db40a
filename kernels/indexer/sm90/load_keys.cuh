// SPDX-License-Identifier: Apache-2.0
// The warp that walks over a thread block's stages and loads their keys: boxes of a tensor map where the pool's
// addresses allow it (contiguous, pages of 16 to 128 tokens), copies of a thread otherwise. The layout in shared memory
// is the same. What is loaded in place of a key that is not there is multiplied and dropped: a key meets no other.
#pragma once

#include <cuda.h>

#include "kernels/indexer/sm90/pipeline.cuh"
#include "kernels/ptx/async_copy.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/views/pool.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

/// What the loader knows of the run whose keys it loads.
struct Run {
  LaneRow row;     // of the lane, among the 32 rows around
  uint32_t lanes;  // rows of the run
  int32_t seq;
  int32_t begin;  // hull
  int32_t end;
  int32_t plain_begin;  // what every row of the group sees, when all are of this run
  int32_t plain_end;
};

/// Does a row of the run see a position of [begin, end)?  Differs between lanes; all of them ask.
__device__ inline bool is_seen(const Run &run, int32_t begin, int32_t end) {
  bool seen = false;
  for (uint32_t lanes = run.lanes; lanes != 0; lanes &= lanes - 1) {
    const int other = __ffs(static_cast<int>(lanes)) - 1;
    const int32_t row_begin = __shfl_sync(~0u, run.row.range.begin, other);
    const int32_t row_end = __shfl_sync(~0u, run.row.range.end, other);
    seen |= max(begin, row_begin) < min(end, row_end);
  }
  return seen;
}

/// Does every row of the group see the whole stage?
__device__ inline bool is_plain(const Run &run, int32_t stage) {
  return stage * kStageKeys >= run.plain_begin && stage * kStageKeys + kStageKeys <= run.plain_end;
}

/// Keys outside of the pool are a fault when a row sees them.
__device__ inline void note_bad(const Run &run, bool bad, int32_t begin, int32_t end, uint32_t *fault) {
  if (!__any_sync(~0u, bad)) return;
  if (is_seen(run, begin, end) && bad) *fault |= IC_FAULT_PAGE;
}

struct Loader {
  const ScoresParams &p;
  const Plan &plan;
  const CUtensorMap &map;
  Control &control;
  uint8_t *keys;
  int lane;
  uint32_t number = 0;  // of the next stage
  uint32_t fault = 0;

  __device__ uint8_t *stage_keys(uint32_t stage) const { return keys + stage % kStages * kStageBytes; }
  __device__ uint32_t full_barrier(uint32_t stage) const { return ptx::shared_address(&control.full[stage % kStages]); }

  /// Which keys are there. bits: j for the lane's key 32 j + lane, which is row lane (+ 32 for odd j) of tile j / 2.
  __device__ void put_there(StageInfo &info, uint32_t bits, bool plain) const {
    const auto every_second = [](uint32_t b) {
      return static_cast<uint8_t>((b & 1) | (b >> 1 & 2) | (b >> 2 & 4) | (b >> 3 & 8));
    };
    info.there[lane] = every_second(bits);
    info.there[lane + 32] = every_second(bits >> 1);
    const bool all = __all_sync(~0u, bits == 0xff);
    if (lane == 0) info.plain = plain && all ? 1 : 0;
    __syncwarp();
  }

  /// Stages [first, first + count) by the tensor map, contiguous.
  __device__ void load_contiguous(const Run &run, int32_t first, int32_t count) {
    const int64_t offset = p.keys.key_offsets == nullptr ? 0 : p.keys.key_offsets[run.seq];
    const bool possible = offset > -(int64_t{1} << 30) && offset < p.keys.capacity;  // else no key is in the pool
#pragma unroll 1
    for (int32_t stage = first; stage < first + count; ++stage, ++number) {
      StageInfo &info = control.info[number % kStages];
      const int32_t start = stage * kStageKeys;
      const int64_t vector = possible ? offset + start : p.keys.capacity;
      wait_empty(control, number);
      if (lane == 0) {
        const auto y = static_cast<int32_t>(min(max(vector, int64_t{-kStageKeys}), p.keys.capacity));
        ptx::copy_box_2d(ptx::shared_address(stage_keys(number)), &map, full_barrier(number), 0, y);
      }
      uint32_t bits = 0;
#pragma unroll 4
      for (int j = 0; j < kStageKeys / 32; ++j) {
        const int32_t position = start + j * 32 + lane;
        const int64_t at = vector + j * 32 + lane;
        const bool wanted = position >= run.begin && position < run.end;
        const bool there = wanted && possible && at >= 0 && at < p.keys.capacity;
        if (there) ptx::copy_async_4(ptx::shared_address(&info.scales[j * 32 + lane]), p.keys.scales + at);
        bits |= static_cast<uint32_t>(there) << j;
        note_bad(run, wanted && !there, position, position + 1, &fault);
      }
      put_there(info, bits, is_plain(run, stage));
      ptx::mbarrier_arrive_after_copies(full_barrier(number));
      if (lane == 0) ptx::mbarrier_arrive_expect(full_barrier(number), kStageBytes);
    }
  }

  /// Entries of the block table for the lane's block; nothing here waits for the answer.
  __device__ int32_t ask_page(const Run &run, int32_t block) const {
    const int64_t position = int64_t{block} << plan.page_shift;
    if (position >= run.end || block >= p.keys.num_blocks) return -1;
    return p.keys.block_table[run.seq * p.keys.block_table_stride + block];
  }

  /// The same, pages of 16 to 128 tokens: a stage has 2 to 16 of them. page_of_lane: for the first 32 blocks.
  __device__ void load_pages(const Run &run, int32_t first, int32_t count, int32_t page_of_lane) {
    const int32_t shift = plan.page_shift;
    const int32_t tokens = 1 << shift;
    const int boxes = kStageKeys >> shift;
    int32_t window = first * boxes;  // block whose entry lane 0 holds
    int32_t next_of_lane = ask_page(run, window + 32 + lane);
#pragma unroll 1
    for (int32_t stage = first; stage < first + count; ++stage, ++number) {
      StageInfo &info = control.info[number % kStages];
      const int32_t start = stage * kStageKeys;
      const int32_t block = stage * boxes;
      if (block - window >= 32) {
        window += 32;
        page_of_lane = next_of_lane;
        next_of_lane = ask_page(run, window + 32 + lane);
      }
      const int32_t page = __shfl_sync(~0u, page_of_lane, (block - window + lane) & 31);
      const int32_t box_start = start + lane * tokens;
      const bool wanted = lane < boxes && box_start < run.end && box_start + tokens > run.begin;
      const bool inside = page >= 0 && page < p.keys.capacity;
      note_bad(run, wanted && !inside && page != -1, box_start, box_start + tokens, &fault);
      const uint32_t loaded = __ballot_sync(~0u, wanted && inside);
      wait_empty(control, number);
      if (wanted && inside) {
        ptx::copy_box_3d(ptx::shared_address(stage_keys(number)) + lane * tokens * kKeyBytes, &map,
                         full_barrier(number), 0, 0, page);
      }
      uint32_t bits = 0;
#pragma unroll 4
      for (int j = 0; j < kStageKeys / 32; ++j) {
        const int32_t key = j * 32 + lane;
        const int32_t position = start + key;
        const int box = key >> shift;
        const int32_t its_page = __shfl_sync(~0u, page, box);
        const bool there = (loaded >> box & 1) != 0 && position >= run.begin && position < run.end;
        if (there) {
          const uint8_t *scales = p.keys.data + its_page * p.keys.stride_bytes + tokens * kKeyBytes;
          ptx::copy_async_4(ptx::shared_address(&info.scales[key]), scales + (key & (tokens - 1)) * 4);
        }
        bits |= static_cast<uint32_t>(there) << j;
      }
      put_there(info, bits, is_plain(run, stage));
      ptx::mbarrier_arrive_after_copies(full_barrier(number));
      if (lane == 0) {
        ptx::mbarrier_arrive_expect(full_barrier(number), static_cast<uint32_t>(__popc(loaded) * tokens * kKeyBytes));
      }
    }
  }

  /// Copies of a stage that were started are in shared memory, for the matrix instructions too.
  __device__ void finish_copies(uint32_t stage) const {
    ptx::fence_async_proxy();
    __syncwarp();
    ptx::mbarrier_arrive(full_barrier(stage));
    if (lane == 0) ptx::mbarrier_arrive(full_barrier(stage));
  }

  /// The same from any address and any page size.
  __device__ void load_anything(const Run &run, int32_t first, int32_t count) {
#pragma unroll 1
    for (int32_t stage = first; stage < first + count; ++stage, ++number) {
      StageInfo &info = control.info[number % kStages];
      uint8_t *to = stage_keys(number);
      wait_empty(control, number);
      uint32_t bits = 0;
#pragma unroll 1
      for (int j = 0; j < kStageKeys / 32; ++j) {
        const int32_t position = stage * kStageKeys + j * 32 + lane;
        const bool wanted = position >= run.begin && position < run.end;
        uint32_t bad = 0;
        PoolPlace place{-1, 0};
        if (wanted) {
          const int32_t page = page_entry(p.keys, plan.page_shift, run.seq, position);
          place = place_on_page(p.keys, plan.page_shift, run.seq, position, page, &bad);
        }
        note_bad(run, bad != 0, position, position + 1, &fault);
        const uint8_t *vector = vector_at(p.keys, place, kKeyBytes);
        const bool there = vector != nullptr;
        if (there) {
          ptx::copy_async_4(ptx::shared_address(&info.scales[j * 32 + lane]), scale_at(p.keys, place, kKeyBytes));
        }
        copy_vectors(vector, to + j * 32 * kKeyBytes);
        bits |= static_cast<uint32_t>(there) << j;
      }
      put_there(info, bits, is_plain(run, stage));
      ptx::copy_async_commit();
      if (stage > first) {  // the one before: this one's copies stay under way
        ptx::copy_async_wait<1>();
        finish_copies(number - 1);
      }
    }
    ptx::copy_async_wait<0>();
    finish_copies(number - 1);
  }

  /// 32 keys, one of each lane, to where they belong under the swizzle of 128 bytes.
  __device__ void copy_vectors(const uint8_t *vector, uint8_t *to) const {
    const uint32_t unit = static_cast<uint32_t>(plan.key_unit);
    const auto bits = reinterpret_cast<unsigned long long>(vector);
    const int per_piece = 16 / static_cast<int>(unit == 1 ? 16 : unit);  // copies of a 16-byte piece
#pragma unroll 2
    for (int n = 0; n < 8 * per_piece; ++n) {
      const int i = n * 32 + lane;
      const int key = i / (8 * per_piece);
      const int piece = i / per_piece % 8;
      const int byte = i % per_piece * 4;
      const auto *from = reinterpret_cast<const uint8_t *>(__shfl_sync(~0u, bits, key));
      if (from == nullptr) continue;
      uint8_t *place = to + key * kKeyBytes + ((piece ^ (key & 7)) * 16) + byte;
      from += piece * 16 + byte;
      if (unit == 16) {
        ptx::copy_async_16(ptx::shared_address(place), from);
      } else if (unit == 4) {
        ptx::copy_async_4(ptx::shared_address(place), from);
      } else {
        for (int b = 0; b < 16; ++b) place[b] = from[b];
      }
    }
  }

  /// The run of a lead among the rows that the lanes hold.
  template <int kRows>
  __device__ Run find_run(const LaneRow &row, int lead) const {
    Run run;
    run.row = row;
    run.seq = __shfl_sync(~0u, row.range.seq, lead);
    run.begin = __shfl_sync(~0u, row.hull_begin, lead);
    run.end = __shfl_sync(~0u, row.hull_end, lead);
    run.lanes =
        __ballot_sync(~0u, row.range.begin < row.range.end && row.range.seq == run.seq && lane / kRows == lead / kRows);
    const bool mine = (run.lanes >> lane & 1) != 0;
    run.plain_begin = __reduce_max_sync(~0u, mine ? row.range.begin : 0);
    run.plain_end = __reduce_min_sync(~0u, mine ? row.range.end : INT32_MAX);
    if (__popc(run.lanes) < kRows) run.plain_end = 0;
    return run;
  }

  /// Block b's share of the stages, which are `total`.
  __device__ void share_out(int64_t total, int64_t *first, int64_t *left) const {
    const int64_t share = total / gridDim.x;
    const int64_t rest = total % gridDim.x;
    const int64_t block = blockIdx.x;
    *first = block * share + min(block, rest);
    *left = share + (block < rest ? 1 : 0);
  }

  template <int kRows, bool kTensorMap>
  __device__ void run() {
    uint32_t segment = 0;
    int32_t base = 0;  // first of the 32 rows that the lanes hold
    int64_t skip = 0;  // stages in front of the thread block's first
    int64_t left = 0;
    LaneRow row;
    if (plan.num_chunks == 1 && plan.chunk_rows == 32) {  // the lanes hold all rows there are
      row = load_row<kRows>(p, lane, lane, &fault);
      share_out(__reduce_add_sync(~0u, row.stages), &skip, &left);
      if (blockIdx.x == 0) report_fault(p.rows.fault, fault);
    } else {
      share_out(control.chunks[plan.num_chunks], &skip, &left);
      if (left > 0) {
        const int32_t chunk = find_chunk(control.chunks, plan.num_chunks, skip);
        skip -= control.chunks[chunk];
        base = chunk * plan.chunk_rows;
        row = load_row<kRows>(p, base + lane, lane, &fault);
      }
    }
    while (left > 0 && base < p.rows.count) {
      int32_t before = row.stages;  // of this lead and those in front
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int32_t other = __shfl_up_sync(~0u, before, step);
        if (lane >= step) before += other;
      }
      const int32_t total = __shfl_sync(~0u, before, 31);
      uint32_t leads = __ballot_sync(~0u, row.stages > 0 && before > skip);
      bool asked = false;
      int32_t next_page = -1;
      for (; leads != 0 && left > 0; leads &= leads - 1) {
        const int lead = __ffs(static_cast<int>(leads)) - 1;
        const Run run = find_run<kRows>(row, lead);
        const int32_t stages = __shfl_sync(~0u, row.stages, lead);
        const int32_t in_front = __shfl_sync(~0u, before, lead) - stages;
        const auto done = static_cast<int32_t>(max(skip - in_front, int64_t{0}));
        const int32_t first = run.begin / kStageKeys + done;
        const auto count = static_cast<int32_t>(min(int64_t{stages} - done, left));
        describe(segment++, {base + (lead & -kRows), run.seq, first, count});
        if constexpr (!kTensorMap) {
          load_anything(run, first, count);
        } else if (plan.page_shift < 0) {
          load_contiguous(run, first, count);
        } else {
          const int boxes = kStageKeys >> plan.page_shift;
          const int32_t page = asked ? next_page : ask_page(run, first * boxes + lane);
          const uint32_t later = leads & (leads - 1);
          asked = later != 0 && left > count;
          if (asked) {  // the next run's first pages, while this one's keys come
            const Run next = find_run<kRows>(row, __ffs(static_cast<int>(later)) - 1);
            next_page = ask_page(next, next.begin / kStageKeys * boxes + lane);
          }
          load_pages(run, first, count, page);
        }
        left -= count;
      }
      skip = max(skip - total, int64_t{0});
      base += 32;
      if (left > 0) row = load_row<kRows>(p, base + lane, lane, &fault);
    }
    describe(segment, {0, 0, 0, 0});
    report_fault(p.rows.fault, fault & IC_FAULT_PAGE);  // those of rows have been reported
  }

  __device__ void describe(uint32_t segment, const Segment &what) const {
    if (lane != 0) return;
    control.segments[segment % kSegments] = what;
    ptx::mbarrier_arrive(ptx::shared_address(&control.described[segment % kSegments]));
  }
};

}  // namespace ic::cuda::sm90

#endif

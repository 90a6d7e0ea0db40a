// SPDX-License-Identifier: Apache-2.0
// Walks over a thread block's stages and loads their keys: with boxes of a tensor map where the pool's addresses allow
// it (contiguous, pages of 16 to 128 tokens), otherwise by four warps that copy (copy_keys.cuh). The layout in shared
// memory is the same. What is loaded in place of a key that is not there is multiplied and dropped: a key meets no
// other.
//
// With boxes, prefill has one warp for all stages, decode one for each warpgroup that multiplies: a stage whose pages
// come late delays that warpgroup only.
//
// Bound: at full memory speed a processor has 256 keys per microsecond, in which a warp by itself executes 300 to 400
// instructions. With boxes a stage costs it 150 at most.
#pragma once

#include <cuda.h>

#include "kernels/indexer/sm90/copy_keys.cuh"
#include "kernels/indexer/sm90/pipeline.cuh"
#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/views/pool.cuh"

namespace ic::cuda::sm90 {

/// Boxes of a stage's vectors and their scales, or of one page (its scales are copied as they lie).
struct TensorMaps {
  CUtensorMap keys;
  CUtensorMap scales;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// kMany: prefill. Otherwise every key is used once.
template <bool kMany, bool kTensorMap>
struct Loader {
  using Stages = Ring<kMany>;
  static constexpr int kKeys = Stages::kKeys;
  static constexpr int kKeyBits = kMany ? 8 : 7;
  static_assert(1 << kKeyBits == kKeys);
  static constexpr uint32_t kScaleBytes = kKeys * sizeof(float);
  /// The warp loads the stages whose number is `part` modulo kStep.
  static constexpr int kStep = kTensorMap ? loader_warps(kMany, kTensorMap) : 1;

  const ScoresParams &p;
  const Plan &plan;
  const TensorMaps &maps;
  Control &control;
  uint8_t *keys;
  int part;  // of the warp
  int lane;
  uint32_t number = 0;  // of the segment's first stage
  uint32_t fault = 0;

  /// Stages from number n on that other warps load, in front of the first of this one.
  __device__ int32_t until_own(uint32_t n) const { return static_cast<int32_t>((part - n) % kStep); }

  /// All lanes, when the words of info.there have been written or all keys are there. n: the stage's number.
  __device__ void publish(uint32_t n, const Run &run, int32_t stage, bool all, uint32_t bytes, uint32_t skip) const {
    __syncwarp();
    const uint32_t full = ptx::shared_address(&Stages::full(control, n));
    if (lane == 0) {
      StageInfo &info = Stages::info(control, n);
      info.all = all ? kEveryPart : 0;
      if constexpr (kMany) info.plain = all && is_plain<kKeys>(run, stage) ? kEveryPart : 0;
      info.skip = skip;
      ptx::mbarrier_arrive_expect(full, bytes);
    } else if (lane < kArrivingLanes) {
      ptx::mbarrier_arrive(full);
    }
  }

  /// Stages [first, first + count) by the tensor maps, contiguous.
  __device__ void load_contiguous(const Run &run, int32_t first, int32_t count) {
    const int64_t offset = p.keys.key_offsets == nullptr ? 0 : p.keys.key_offsets[run.seq];
    const bool possible = offset > -(int64_t{1} << 30) && offset < p.keys.capacity;  // else no key is in the pool
    uint32_t n = number + until_own(number);
#pragma unroll 1
    for (int32_t stage = first + until_own(number); stage < first + count; stage += kStep, n += kStep) {
      const int32_t start = stage * kKeys;
      const int64_t vector = possible ? offset + start : p.keys.capacity;
      const int32_t begin = max(run.begin - start, 0);
      const int32_t end = min(run.end - start, kKeys);
      const bool all = possible && vector + begin >= 0 && vector + end <= p.keys.capacity;
      Stages::wait_empty(control, n);
      if (!all) name_vectors(n, run, start, vector, possible);
      const auto at = static_cast<int32_t>(min(max(vector, int64_t{-kKeys}), p.keys.capacity));
      const uint32_t skip = static_cast<uint32_t>(at) % 4;  // a box of scales must start on 16 bytes
      if (lane == 0) {
        const uint32_t full = ptx::shared_address(&Stages::full(control, n));
        const uint32_t scales = ptx::shared_address(Stages::scales(control, n));
        const auto scale = static_cast<int32_t>(at - skip);
        if constexpr (kMany) {
          ptx::copy_box_2d(ptx::shared_address(Stages::keys(keys, n)), &maps.keys, full, 0, at);
        } else {
          ptx::copy_box_2d(ptx::shared_address(Stages::keys(keys, n)), &maps.keys, full, 0, at,
                           ptx::evict_first_policy());
        }
        ptx::copy_box_1d(scales, &maps.scales, full, scale);
        if (skip != 0) ptx::copy_box_1d(scales + kScaleBytes, &maps.scales, full, scale + kKeys);
      }
      publish(n, run, stage, all, Stages::kBytes + (skip != 0 ? 2 : 1) * kScaleBytes, skip);
    }
  }

  /// Which vectors of a stage from `vector` on are in the pool, when not all are.
  __device__ void name_vectors(uint32_t n, const Run &run, int32_t start, int64_t vector, bool possible) {
#pragma unroll 1
    for (int j = 0; j < kKeys / 32; ++j) {
      const int32_t position = start + j * 32 + lane;
      const int64_t at = vector + j * 32 + lane;
      const bool there = possible && at >= 0 && at < p.keys.capacity;
      const uint32_t word = __ballot_sync(~0u, there);
      if (lane == 0) Stages::info(control, n).there[j] = word;
      note_bad(run, position >= run.begin && position < run.end && !there, position, position + 1, &fault);
    }
  }

  /// Entries of the block table for 32 blocks of the warp's stages from `stage` on, in their order; nothing here waits
  /// for the answer.
  __device__ int32_t ask_pages(const Run &run, int32_t stage) const {
    const int32_t shift = kKeyBits - plan.page_shift;  // a stage has 1 << shift blocks
    const int32_t block = ((stage + (lane >> shift) * kStep) << shift) + (lane & ((1 << shift) - 1));
    const int64_t position = int64_t{block} << plan.page_shift;
    if (position >= run.end || block >= p.keys.num_blocks) return -1;
    return p.keys.block_table[run.seq * p.keys.block_table_stride + block];
  }

  /// The same, pages of 16 to 128 tokens. page_of_lane: of ask_pages() for the warp's first stage.
  __device__ void load_pages(const Run &run, int32_t first, int32_t count, int32_t page_of_lane) {
    const int32_t shift = plan.page_shift;
    const int32_t tokens = 1 << shift;
    const int32_t boxes = kKeys >> shift;                      // of a stage
    const int32_t asked = (32 >> (kKeyBits - shift)) * kStep;  // stages to those of the next 32 blocks
    int32_t stage = first + until_own(number);
    uint32_t n = number + until_own(number);
    int32_t next_of_lane = ask_pages(run, stage + asked);
    int32_t lead = 0;  // lane with the entry of the stage's first block
#pragma unroll 1
    for (; stage < first + count; stage += kStep, n += kStep, lead += boxes) {
      if (lead == 32) {
        lead = 0;
        page_of_lane = next_of_lane;
        next_of_lane = ask_pages(run, stage + asked);
      }
      const int32_t page = __shfl_sync(~0u, page_of_lane, (lead + lane) & 31);
      const int32_t box_start = stage * kKeys + lane * tokens;
      const bool wanted = lane < boxes && box_start < run.end && box_start > run.begin - tokens;
      const bool inside = wanted && page >= 0 && page < p.keys.capacity;
      const bool all = __all_sync(~0u, inside == wanted);
      if (!all) {
        note_bad(run, wanted && !inside && page != -1, box_start, min(run.end - tokens, box_start) + tokens, &fault);
      }
      const uint32_t loaded = __ballot_sync(~0u, inside);
      const uint32_t full = ptx::shared_address(&Stages::full(control, n));
      Stages::wait_empty(control, n);
      if (inside) {
        const uint32_t to = ptx::shared_address(Stages::keys(keys, n)) + lane * tokens * kKeyBytes;
        if constexpr (kMany) {
          ptx::copy_box_3d(to, &maps.keys, full, 0, 0, page);
        } else {
          ptx::copy_box_3d(to, &maps.keys, full, 0, 0, page, ptx::evict_first_policy());
        }
        ptx::bulk_load(ptx::shared_address(Stages::scales(control, n)) + lane * tokens * 4,
                       p.keys.data + page * p.keys.stride_bytes + tokens * kKeyBytes, tokens * 4, full);
      }
      if (!all && lane < kKeys / 32) {
        const uint32_t low = loaded >> (lane * 32 >> shift) & 1;
        const uint32_t high = loaded >> (lane * 32 + 16 >> shift) & 1;
        Stages::info(control, n).there[lane] = (low != 0 ? 0xffffu : 0) | (high != 0 ? 0xffff0000u : 0);
      }
      publish(n, run, stage, all, static_cast<uint32_t>(__popc(loaded) * tokens * (kKeyBytes + 4)), 0);
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

  template <int kRows>
  __device__ void run() {
    KeyCopies<kMany> copies{p.keys, plan, control, keys, part, lane};
    uint32_t segment = 0;
    int32_t base = 0;  // first of the 32 rows that the lanes hold
    int64_t skip = 0;  // stages in front of the thread block's first
    int64_t left = 0;
    LaneRow row;
    if (plan.num_chunks == 1 && plan.chunk_rows == 32) {  // the lanes hold all rows there are
      row = load_row<kRows, kKeys>(p, lane, lane, &fault);
      share_out(__reduce_add_sync(~0u, row.stages), &skip, &left);
      if (blockIdx.x == 0) report_fault(p.rows.fault, fault);
    } else {
      share_out(control.chunks[plan.num_chunks], &skip, &left);
      if (left > 0) {
        const int32_t chunk = find_chunk(control.chunks, plan.num_chunks, skip);
        skip -= control.chunks[chunk];
        base = chunk * plan.chunk_rows;
        row = load_row<kRows, kKeys>(p, base + lane, lane, &fault);
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
        const int32_t first = run.begin / kKeys + done;
        const auto count = static_cast<int32_t>(min(int64_t{stages} - done, left));
        describe(segment++, {base + (lead & -kRows), run.seq, first, count});
        if constexpr (!kTensorMap) {
          copies.copy(run, first, count, &fault);
        } else if (plan.page_shift < 0) {
          load_contiguous(run, first, count);
        } else {
          const int32_t page = asked ? next_page : ask_pages(run, first + until_own(number));
          const uint32_t later = leads & (leads - 1);
          asked = later != 0 && left > count;
          if (asked) {  // the next run's first pages, while this one's keys come
            const Run next = find_run<kRows>(row, __ffs(static_cast<int>(later)) - 1);
            next_page = ask_pages(next, next.begin / kKeys + until_own(number + count));
          }
          load_pages(run, first, count, page);
        }
        number += count;
        left -= count;
      }
      skip = max(skip - total, int64_t{0});
      base += 32;
      if (left > 0) row = load_row<kRows, kKeys>(p, base + lane, lane, &fault);
    }
    if constexpr (!kTensorMap) copies.finish();
    describe(segment, {0, 0, 0, 0});
    report_fault(p.rows.fault, fault & IC_FAULT_PAGE);  // those of rows have been reported
  }

  __device__ void describe(uint32_t segment, const Segment &what) const {
    if (part != 0 || lane != 0) return;
    control.segments[segment % kSegments] = what;
    ptx::mbarrier_arrive(ptx::shared_address(&control.described[segment % kSegments]));
  }
};

#endif

}  // namespace ic::cuda::sm90

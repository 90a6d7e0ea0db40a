// SPDX-License-Identifier: Apache-2.0
// Work of a launch, shared out evenly: stages of runs of rows, numbered in the order of the rows. Every thread block
// counts all of them and takes its share, a range of numbers: nothing is stored and nobody is waited for.
//
//   stage   keys that are loaded together: 256 in prefill, 128 in decode
//
//   group   kRows consecutive rows, from a multiple of kRows: the queries that a thread block holds at once
//   run     the rows of a group that read one sequence; its stages cover the hull of what they see
//   lead    the first row of a run, which stands for it
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/params.h"
#include "kernels/indexer/smxx/score_columns.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda::sm90 {

constexpr int stage_keys(bool many) { return many ? 256 : 128; }
constexpr int kMaxChunks = 1024;

/// From values that a captured graph keeps.
struct Plan {
  int32_t page_shift;       // log2(page_tokens), -1 = contiguous
  int32_t key_unit;         // bytes that every key's address is a multiple of: 16, 4 or 1
  int32_t queries_aligned;  // 1: rows of queries start on 16 bytes
  int32_t chunk_rows;       // multiple of 32
  int32_t num_chunks;       // at most kMaxChunks
  int32_t next_may_start;   // 1: the next kernel may start while this one runs
};

/// One of 32 consecutive rows, in its lane.
struct LaneRow {
  RowRange range;
  int32_t hull_begin;  // of its run
  int32_t hull_end;
  int32_t stages;  // of its run in the lead's lane, else 0
};

/// All lanes. kRows, kKeys: of a group, of a stage.
template <int kRows, int kKeys>
__device__ inline LaneRow load_row(const ScoresParams &p, int32_t row, int lane, uint32_t *fault) {
  LaneRow r{{0, 0, 0}, INT32_MAX, 0, 0};
  if (row < p.rows.count) r.range = window_range(p, row, fault);
  bool lead = r.range.begin < r.range.end;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int other = (lane & -kRows) + i;
    const int32_t seq = __shfl_sync(~0u, r.range.seq, other);
    const int32_t begin = __shfl_sync(~0u, r.range.begin, other);
    const int32_t end = __shfl_sync(~0u, r.range.end, other);
    if (begin >= end || seq != r.range.seq) continue;
    r.hull_begin = min(r.hull_begin, begin);
    r.hull_end = max(r.hull_end, end);
    if (other < lane) lead = false;
  }
  if (lead) r.stages = (r.hull_end - 1) / kKeys - r.hull_begin / kKeys + 1;
  return r;
}

/// Numbers of stages in front of each chunk of rows. chunks: kMaxChunks + 1 entries of shared memory. All threads.
template <int kRows, int kKeys, int kThreads>
__device__ inline void count_stages(const ScoresParams &p, const Plan &plan, int64_t *chunks) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  uint32_t fault = 0;
  for (int32_t chunk = warp; chunk < plan.num_chunks; chunk += kThreads / 32) {
    int64_t stages = 0;
    for (int32_t i = 0; i < plan.chunk_rows; i += 32) {
      const int64_t row = int64_t{chunk} * plan.chunk_rows + i + lane;
      const auto here = static_cast<int32_t>(min(row, int64_t{p.rows.count}));
      stages += __reduce_add_sync(~0u, load_row<kRows, kKeys>(p, here, lane, &fault).stages);
    }
    if (lane == 0) chunks[chunk + 1] = stages;
  }
  if (blockIdx.x == 0) report_fault(p.rows.fault, fault);  // every thread block has seen them
  __syncthreads();
  if (warp == 0) {
    int64_t before = 0;
    for (int32_t first = 0; first < plan.num_chunks; first += 32) {
      const int32_t chunk = first + lane;
      int64_t sum = chunk < plan.num_chunks ? chunks[chunk + 1] : 0;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int64_t other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
      }
      if (chunk < plan.num_chunks) chunks[chunk + 1] = before + sum;
      before += __shfl_sync(~0u, sum, 31);
    }
    if (lane == 0) chunks[0] = 0;
  }
  __syncthreads();
}

/// The chunk that holds a stage.
__device__ inline int32_t find_chunk(const int64_t *chunks, int32_t num_chunks, int64_t stage) {
  int32_t low = 0;
  int32_t high = num_chunks;  // chunks[low] <= stage < chunks[high]
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    (chunks[middle] <= stage ? low : high) = middle;
  }
  return low;
}

}  // namespace ic::cuda::sm90

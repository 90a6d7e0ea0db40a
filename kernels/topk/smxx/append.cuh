// SPDX-License-Identifier: Apache-2.0
// Appending the accepted entries of a tile to a list, in their order: warps one after another, and inside a warp as the
// caller says. One barrier per tile.
#pragma once

#include "kernels/topk/smxx/best_list.cuh"

namespace ic::cuda {

/// What a tile adds: entries in front of the calling warp, and in all; `marked` is a second sum over the warps.
struct TileCounts {
  int32_t before;
  int32_t all;
  int32_t marked;
};

/// counts and marked of this warp (both below 2^16 over all warps; the same in every lane). `side` alternates from call
/// to call, so that one barrier is enough.
__device__ inline TileCounts count_tile(int32_t count, int32_t marked, int side) {
  __shared__ __align__(16) uint32_t totals[2][kListWarps];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0) totals[side][warp] = static_cast<uint32_t>(count) | static_cast<uint32_t>(marked) << 16;
  __syncthreads();
  uint32_t before = 0;
  uint32_t all = 0;
#pragma unroll
  for (int w = 0; w < kListWarps; ++w) {
    const uint32_t one = totals[side][w];
    if (w < warp) before += one;
    all += one;
  }
  return {static_cast<int32_t>(before & 0xffffu), static_cast<int32_t>(all & 0xffffu), static_cast<int32_t>(all >> 16)};
}

/// Starts of `num` runs of entries laid end to end, num <= 4 * kListThreads: starts[i] entries lie in front of run i,
/// starts[num] in all. Ends with a barrier.
template <class CountOf>
__device__ inline int32_t find_starts(int32_t *starts, int32_t num, CountOf &&count_of) {
  const int32_t first = 4 * static_cast<int32_t>(threadIdx.x);
  int32_t counts[4];
  uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    counts[i] = first + i < num ? count_of(first + i) : 0;
    sum += static_cast<uint32_t>(counts[i]);
  }
  uint32_t all = 0;
  auto start = static_cast<int32_t>(block_prefix(sum, &all));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (first + i < num) starts[first + i] = start;
    start += counts[i];
  }
  if (threadIdx.x == 0) starts[num] = static_cast<int32_t>(all);
  __syncthreads();
  return static_cast<int32_t>(all);
}

constexpr int kRunEntries = 8;  // per thread and tile
constexpr int kRunTile = kListThreads * kRunEntries;

/// Streams the entries of runs laid end to end through the list and returns how many it then holds: all that could be
/// among the k best. read(run, offset, &key, &position) gives one entry; key kAbsentKey: none. The list needs room for
/// k + kRunTile.
template <bool kOrdered, class Read>
__device__ inline int32_t stream_runs(ListShape shape, int32_t k, const int32_t *starts, int32_t num_runs,
                                      int32_t total, Read &&read) {
  constexpr int kWarpTile = 32 * kRunEntries;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  uint32_t *keys = shared_words + shape.keys_at;
  uint32_t *positions = shared_words + shape.positions_at;
  uint64_t lowest = uint64_t{1} << 32;  // (key, ~position) of the worst entry that is accepted
  int32_t count = 0;
  int side = 0;
  uint32_t next_key[kRunEntries];
  uint32_t next_position[kRunEntries];
  const auto load = [&](int32_t first) {
    int32_t i = first + warp * kWarpTile + lane;
    int32_t run = 0;  // the last run that starts at or before i; empty runs before it start there too
    for (int32_t beyond = num_runs; beyond - run > 1;) {
      const int32_t middle = (run + beyond) / 2;
      if (starts[middle] <= i) {
        run = middle;
      } else {
        beyond = middle;
      }
    }
#pragma unroll
    for (int j = 0; j < kRunEntries; ++j, i += 32) {
      next_key[j] = kAbsentKey;
      next_position[j] = 0;
      if (i < total) {
        while (starts[run + 1] <= i) ++run;
        read(run, i - starts[run], &next_key[j], &next_position[j]);
      }
    }
  };
  load(0);
  for (int32_t first = 0; first < total;) {
    uint32_t key[kRunEntries];
    uint32_t position[kRunEntries];
#pragma unroll
    for (int j = 0; j < kRunEntries; ++j) {
      key[j] = next_key[j];
      position[j] = next_position[j];
    }
    if (first + kRunTile < total) load(first + kRunTile);
    uint32_t accepted[kRunEntries];
    int32_t in_warp = 0;
#pragma unroll
    for (int j = 0; j < kRunEntries; ++j) {
      accepted[j] = __ballot_sync(kAllLanes, (uint64_t{key[j]} << 32 | ~position[j]) >= lowest);
      in_warp += __popc(accepted[j]);
    }
    const TileCounts tile = count_tile(in_warp, 0, side);
    side ^= 1;
    if (count + tile.all > shape.capacity) {
      const Cut cut = keep_best<kOrdered>(shape, count, k);
      count = k;
      // Ordered: what comes later and equals the line in key is worse.
      lowest = kOrdered ? (uint64_t{cut.key} + 1) << 32
                        : (uint64_t{cut.key} << 32 | ~static_cast<uint32_t>(cut.position)) + 1;
      load(first);  // this tile again
      continue;
    }
    int32_t to = count + tile.before;
#pragma unroll
    for (int j = 0; j < kRunEntries; ++j) {
      if ((accepted[j] >> lane & 1u) != 0) {
        const int32_t place = to + __popc(accepted[j] & ((1u << lane) - 1));
        keys[place] = key[j];
        positions[place] = position[j];
      }
      to += __popc(accepted[j]);
    }
    count += tile.all;
    first += kRunTile;
  }
  __syncthreads();
  return count;
}

}  // namespace ic::cuda

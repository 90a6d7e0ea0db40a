// SPDX-License-Identifier: Apache-2.0
// What the blocks of a row tell each other: counts and lists. Called by all threads of all of them.
#pragma once

#include "kernels/ptx/cluster.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/topk/sm90_windows/shape.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void cluster_barrier() {
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

/// What all blocks of a row counted, and those in front of this one.
struct Counts {
  int32_t above;
  int32_t listed;
  int32_t ties;
  int32_t above_in_front;
  int32_t ties_in_front;
};

/// One barrier of the block or the cluster at least.
template <class S>
__device__ inline Counts exchange_counts(int32_t rank) {
  BlockWords &words = block_words<S>();
  __syncthreads();
  if constexpr (S::kCluster == 1) {
    return {static_cast<int32_t>(words.num_above), static_cast<int32_t>(words.num_listed),
            static_cast<int32_t>(words.num_ties), 0, 0};
  } else {
    if (threadIdx.x < S::kCluster) {
      ptx::cluster_store_pair(ptx::cluster_address(shared_address(&words.of_block[rank]), threadIdx.x),
                              make_uint2(words.num_above, words.num_listed));
      ptx::cluster_store(ptx::cluster_address(shared_address(&words.ties_of_block[rank]), threadIdx.x), words.num_ties);
    }
    cluster_barrier();
    uint2 mine = make_uint2(0, 0);
    uint32_t ties = 0;
    if (lane_id() < S::kCluster) {
      mine = words.of_block[lane_id()];
      ties = words.ties_of_block[lane_id()];
    }
    const auto sum = [](uint32_t value) { return static_cast<int32_t>(__reduce_add_sync(kWarp, value)); };
    return {sum(mine.x), sum(mine.y), sum(ties), sum(lane_id() < rank ? mine.x : 0), sum(lane_id() < rank ? ties : 0)};
  }
}

/// Behind the own list those of the other blocks; all of them fit. Short lists are stored into the other blocks, so
/// that nothing waits for the way there and back; long ones are fetched, because many stores of one block would queue.
/// pushes: how often the first has been done.
template <class S>
__device__ inline void gather_lists(int32_t rank, uint32_t &pushes) {
  BlockWords &words = block_words<S>();
  uint2 *list = candidates<S>();
  const int tid = static_cast<int>(threadIdx.x);
  const uint32_t barrier = shared_address(&words.gathered);
  const auto count_of = [&](int block) { return static_cast<int32_t>(words.of_block[block].y); };
  const int32_t own = count_of(rank);
  const uint32_t count = lane_id() < S::kCluster ? words.of_block[lane_id()].y : 0;
  if (__reduce_max_sync(kWarp, count) <= S::kThreads) {
    const auto start = static_cast<int32_t>(__reduce_add_sync(kWarp, lane_id() < rank ? count : 0));
    const auto all = static_cast<int32_t>(__reduce_add_sync(kWarp, count));
    if (tid == 0) ptx::mbarrier_arrive_expect(barrier, static_cast<uint32_t>(all - own) * 8);
    if (tid < own) {
      const uint2 entry = list[tid];
#pragma unroll
      for (int block = 0; block < S::kCluster; ++block) {
        if (block == rank) continue;
        const int32_t place = start + tid + (rank < block ? count_of(block) : 0);  // its own list is in front
        const auto to = static_cast<uint32_t>(block);
        ptx::cluster_store_async(ptx::cluster_address(shared_address(list + place), to), entry,
                                 ptx::cluster_address(barrier, to));
      }
    }
    __syncwarp();
    ptx::mbarrier_wait_cluster(barrier, pushes++ % 2);
  } else {
    constexpr int kLoads = 4;  // under way
    int32_t place = own;
    for (int s = 1; s < S::kCluster; ++s) {
      const int32_t block = (rank + s) % S::kCluster;
      const uint32_t from = ptx::cluster_address(shared_address(list), static_cast<uint32_t>(block));
      const int32_t theirs = count_of(block);
#pragma unroll 1
      for (int32_t i = tid; i < theirs; i += kLoads * S::kThreads) {
        uint2 entries[kLoads];
#pragma unroll
        for (int e = 0; e < kLoads; ++e) {
          const int32_t at = i + e * S::kThreads;
          if (at < theirs) entries[e] = ptx::cluster_load_pair(from + 8 * static_cast<uint32_t>(at));
        }
#pragma unroll
        for (int e = 0; e < kLoads; ++e) {
          if (i + e * S::kThreads < theirs) list[place + i + e * S::kThreads] = entries[e];
        }
      }
      place += theirs;
    }
  }
  __syncwarp();
}

#endif

}  // namespace ic::cuda::windows

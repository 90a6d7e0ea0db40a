// SPDX-License-Identifier: Apache-2.0
// What the blocks of a row tell each other: counts and lists. Called by all threads of all of them.
//
// What a block sends is stored into the others, each of which waits at barriers of its own: nothing goes there and
// back, and no block waits for its stores to have arrived.
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
  int32_t listed_in_front;
  int32_t ties_in_front;
};

template <class S>
class Exchange {
 public:
  explicit __device__ Exchange(int32_t rank) : rank_(rank) {}

  /// In front of a barrier of the cluster, which may be a relaxed one.
  __device__ void init() const {
    if (S::kCluster == 1 || threadIdx.x != 0) return;
    ptx::mbarrier_init(shared_address(&block_words<S>().counted), 1);
    ptx::mbarrier_init(shared_address(&block_words<S>().gathered), 1);
    ptx::mbarrier_init_fence();
  }

  /// One barrier of the block at least. Between two calls is a barrier of the cluster, behind the use of the first.
  __device__ Counts counts() {
    BlockWords &words = block_words<S>();
    __syncthreads();
    const auto own = make_uint4(words.num_above, words.num_listed, words.num_ties, 0);
    if constexpr (S::kCluster == 1) {
      return {static_cast<int32_t>(own.x), static_cast<int32_t>(own.y), static_cast<int32_t>(own.z), 0, 0, 0};
    } else {
      const uint32_t barrier = shared_address(&words.counted);
      if (threadIdx.x == rank_) {
        ptx::mbarrier_arrive_expect(barrier, (S::kCluster - 1) * sizeof own);
      } else if (threadIdx.x < S::kCluster) {
        ptx::cluster_store_async(ptx::cluster_address(shared_address(&words.of_block[rank_]), threadIdx.x), own,
                                 ptx::cluster_address(barrier, threadIdx.x));
      }
      __syncwarp();
      ptx::mbarrier_wait_cluster(barrier, turn_ % 2);
      ++turn_;
      uint4 theirs = own;
      if (lane_id() != rank_) theirs = lane_id() < S::kCluster ? words.of_block[lane_id()] : make_uint4(0, 0, 0, 0);
      const bool in_front = lane_id() < rank_;
      const auto sum = [](uint32_t value) { return static_cast<int32_t>(__reduce_add_sync(kWarp, value)); };
      return {sum(theirs.x),
              sum(theirs.y),
              sum(theirs.z),
              sum(in_front ? theirs.x : 0),
              sum(in_front ? theirs.y : 0),
              sum(in_front ? theirs.z : 0)};
    }
  }

  /// Behind the own list those of the blocks in front, then the others; all of them fit. Short lists are stored into
  /// the other blocks; long ones are fetched, because many stores of one block would queue. True: fetched, so that
  /// other blocks may still read this one's list.
  __device__ bool gather_lists(const Counts &counts) {
    BlockWords &words = block_words<S>();
    uint2 *list = candidates<S>();
    const auto count_of = [&](int block) { return static_cast<int32_t>(words.of_block[block].y); };  // not the own
    const auto own = static_cast<int32_t>(words.num_listed);
    const int32_t listed = lane_id() < S::kCluster && lane_id() != rank_ ? count_of(lane_id()) : own;
    if (__reduce_max_sync(kWarp, listed) <= S::kMostPushed) {
      const uint32_t barrier = shared_address(&words.gathered);
      if (threadIdx.x == 0) ptx::mbarrier_arrive_expect(barrier, static_cast<uint32_t>(counts.listed - own) * 8);
      for (auto i = static_cast<int32_t>(threadIdx.x); i < own; i += S::kThreads) {
        const uint2 entry = list[i];
#pragma unroll
        for (int block = 0; block < S::kCluster; ++block) {
          if (block == rank_) continue;
          const int32_t place = counts.listed_in_front + i + (rank_ < block ? count_of(block) : 0);
          const auto to = static_cast<uint32_t>(block);
          ptx::cluster_store_async(ptx::cluster_address(shared_address(list + place), to), entry,
                                   ptx::cluster_address(barrier, to));
        }
      }
      __syncwarp();
      ptx::mbarrier_wait_cluster(barrier, pushes_ % 2);
      ++pushes_;
      return false;
    }
    cluster_barrier();         // lists are there
    constexpr int kLoads = 4;  // under way
    int32_t place = own;
    for (int block = 0; block < S::kCluster; ++block) {
      if (block == rank_) continue;
      const uint32_t from = ptx::cluster_address(shared_address(list), static_cast<uint32_t>(block));
      const int32_t theirs = count_of(block);
#pragma unroll 1
      for (auto i = static_cast<int32_t>(threadIdx.x); i < theirs; i += kLoads * S::kThreads) {
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
    __syncthreads();
    return true;
  }

 private:
  int32_t rank_;
  uint32_t turn_ = 0;
  uint32_t pushes_ = 0;
};

#endif

}  // namespace ic::cuda::windows

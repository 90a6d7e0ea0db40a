// SPDX-License-Identifier: Apache-2.0
// Keys of a stage by copies of a thread: from any address and any page size. Four warps, each with a quarter of every
// stage. Entries of the block table are asked for 256 keys ahead, and the copies of 768 keys are under way at once.
#pragma once

#include "kernels/indexer/sm90/pipeline.cuh"
#include "kernels/indexer/sm90/run.cuh"
#include "kernels/ptx/async_copy.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/views/pool.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

template <bool kMany>
struct KeyCopies {
  using Stages = Ring<kMany>;
  static constexpr int kWords = Stages::kKeys / 32 / stage_writers(false);  // of a warp, 32 keys each
  static constexpr int kAhead = 256 / Stages::kKeys;                        // stages
  static constexpr uint32_t kBehind = 768 / Stages::kKeys - 1;              // stages whose copies may be under way

  const PoolView &pool;
  const Plan &plan;
  Control &control;
  uint8_t *keys;
  int part;
  int lane;
  uint32_t number = 0;    // of the next stage
  uint32_t finished = 0;  // stages that have been handed over

  __device__ int32_t position_of(int32_t stage, int word) const {
    return stage * Stages::kKeys + (part * kWords + word) * 32 + lane;
  }
  __device__ static bool is_wanted(const Run &run, int32_t position) {
    return position >= run.begin && position < run.end;
  }

  /// Entries of the block table for the lane's keys; nothing here waits for the answer.
  __device__ void ask_pages(const Run &run, int32_t stage, int32_t (&pages)[kWords]) const {
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      const int32_t position = position_of(stage, word);
      pages[word] = is_wanted(run, position) ? page_entry(pool, plan.page_shift, run.seq, position) : -1;
    }
  }

  /// Stages [first, first + count) of a run.
  __device__ void copy(const Run &run, int32_t first, int32_t count, uint32_t *fault) {
    int32_t pages[kAhead + 1][kWords];  // of this stage and the next ones
#pragma unroll
    for (int i = 0; i < kAhead; ++i) ask_pages(run, first + i, pages[i]);
#pragma unroll 1
    for (int32_t stage = first; stage < first + count; ++stage, ++number) {
      ask_pages(run, stage + kAhead, pages[kAhead]);
      StageInfo &info = Stages::info(control, number);
      Stages::wait_empty(control, number);
      bool all = true;
#pragma unroll
      for (int word = 0; word < kWords; ++word) {
        const int32_t position = position_of(stage, word);
        const bool wanted = is_wanted(run, position);
        uint32_t bad = 0;
        PoolPlace place{-1, 0};
        if (wanted) place = place_on_page(pool, plan.page_shift, run.seq, position, pages[0][word], &bad);
        note_bad(run, bad != 0, position, position + 1, fault);
        const uint8_t *vector = vector_at(pool, place, kKeyBytes);
        const int key = (part * kWords + word) * 32;
        if (vector != nullptr) {
          ptx::copy_async_4(ptx::shared_address(Stages::scales(control, number) + key + lane),
                            scale_at(pool, place, kKeyBytes));
        }
        copy_vectors(vector, Stages::keys(keys, number) + key * kKeyBytes);
        const uint32_t there = __ballot_sync(~0u, (vector != nullptr) == wanted);  // nobody asks for the unwanted
        all &= there == ~0u;
        if (lane == 0) info.there[part * kWords + word] = there;
#pragma unroll
        for (int i = 0; i < kAhead; ++i) pages[i][word] = pages[i + 1][word];
      }
      if (lane == 0) {
        reinterpret_cast<uint8_t *>(&info.all)[part] = all ? 1 : 0;
        reinterpret_cast<uint8_t *>(&info.plain)[part] = all && is_plain<Stages::kKeys>(run, stage) ? 1 : 0;
        if (part == 0) info.skip = 0;
      }
      ptx::copy_async_commit();
      if (number - finished == kBehind) {
        ptx::copy_async_wait<kBehind>();
        hand_over();
      }
    }
  }

  /// When there are no more runs.
  __device__ void finish() {
    ptx::copy_async_wait<0>();
    while (finished != number) hand_over();
  }

  /// The copies of the oldest stage are in shared memory: for the matrix instructions too.
  __device__ void hand_over() {
    ptx::fence_async_proxy();
    arrive_as_warp(Stages::full(control, finished), lane);
    ++finished;
  }

  /// 32 keys, one of each lane, to where they belong under the swizzle of 128 bytes.
  __device__ void copy_vectors(const uint8_t *vector, uint8_t *to) const {
    const auto bits = reinterpret_cast<unsigned long long>(vector);
    const auto from_lane = [&](int other) { return reinterpret_cast<const uint8_t *>(__shfl_sync(~0u, bits, other)); };
    if (plan.key_unit == 4) {
#pragma unroll 8
      for (int key = 0; key < 32; ++key) {
        const uint8_t *from = from_lane(key);
        uint8_t *place = to + key * kKeyBytes + ((lane / 4 ^ (key & 7)) * 16) + lane % 4 * 4;
        if (from != nullptr) ptx::copy_async_4(ptx::shared_address(place), from + lane * 4);
      }
      return;
    }
    const int piece = lane % 8;
#pragma unroll 2
    for (int n = 0; n < 8; ++n) {
      const int key = n * 4 + lane / 8;
      const uint8_t *from = from_lane(key);
      uint8_t *place = to + key * kKeyBytes + ((piece ^ (key & 7)) * 16);
      if (from == nullptr) continue;
      if (plan.key_unit == 16) {
        ptx::copy_async_16(ptx::shared_address(place), from + piece * 16);
      } else {
        for (int byte = 0; byte < 16; ++byte) place[byte] = from[piece * 16 + byte];
      }
    }
  }
};

}  // namespace ic::cuda::sm90

#endif

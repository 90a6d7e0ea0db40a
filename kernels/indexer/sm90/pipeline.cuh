// SPDX-License-Identifier: Apache-2.0
// Shared memory of a thread block and the barriers between the warps that load keys and the warpgroups that multiply.
//
//   segment   consecutive stages of one run; a ring of descriptions. A segment has a stage at least, so a loader is
//             never more than 13 segments ahead of a warpgroup (8 stages of the ring, 4 to its own next one, 1 for the
//             slots of queries), and the ring needs no barrier for the way back
//   stage     keys, their scales, and which of them are there. Prefill: both warpgroups read every stage. Decode: the
//             warpgroups take stages in turns. With tensor maps each has a warp that loads its stages alone, so that
//             none waits for another one's keys
//   queries   one row's queries, weights and range, made ready while the segment before is multiplied (decode layout)
#pragma once

#include <cstdint>

#include "kernels/indexer/sm90/plan.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/shared.cuh"

namespace ic::cuda::sm90 {

constexpr int kKeyBytes = 128;
constexpr int kRingKeys = 1024;  // of all stages; in decode neither more nor fewer are faster
constexpr int kMaxStages = kRingKeys / stage_keys(false);
constexpr int kMaxStageKeys = stage_keys(true);
constexpr uint32_t kRingBytes = kRingKeys * kKeyBytes;
constexpr int kSegments = 16;
constexpr int kQuerySlots = 2;

/// Warpgroups that multiply. In decode there are 2 or 4 of them: then each sees every phase of the barriers it waits
/// for, which a parity needs. Four leave too few registers beside loaders that copy.
__host__ __device__ constexpr int math_warpgroups(bool many, bool tensor_map) { return !many && tensor_map ? 4 : 2; }

/// Warps that load keys, behind those that multiply: in decode with tensor maps one for each warpgroup, otherwise one,
/// or four that copy a quarter of each stage.
__host__ __device__ constexpr int loader_warps(bool many, bool tensor_map) { return many && tensor_map ? 1 : 4; }

static_assert(kMaxStages % math_warpgroups(false, true) == 0 && kMaxStages % loader_warps(false, true) == 0);
static_assert((kMaxStages & (kMaxStages - 1)) == 0);  // numbers of stages may wrap round
static_assert(kMaxStages + loader_warps(false, true) + 1 < kSegments);

/// Lanes that arrive at a barrier for their warp, behind a barrier of the warp, which orders what all lanes did before.
/// racecheck counts only what an arriving lane did itself; in the build for it (tests/gpu/every_lane_arrives.cu) all
/// lanes arrive.
#if defined(INDEXCACHE_EVERY_LANE_ARRIVES)
constexpr int kArrivingLanes = 32;
#else
constexpr int kArrivingLanes = 1;
#endif

/// Warps that arrive at a full stage.
__host__ __device__ constexpr int stage_writers(bool tensor_map) { return tensor_map ? 1 : 4; }

/// Warps that load queries in decode, behind those that load keys.
__host__ __device__ constexpr int query_warps(bool tensor_map) { return tensor_map ? 4 : 1; }

struct Segment {
  int32_t group_row;
  int32_t seq;
  int32_t stage;   // position of its first key / keys of a stage
  int32_t stages;  // 0: there are no more segments
};

constexpr uint32_t kEveryPart = 0x01010101;

struct StageInfo {
  uint32_t there[kMaxStageKeys / 32];  // bit l of word j for key 32 j + l; not written when all are there
  uint32_t all;    // kEveryPart: every key that a row of the run sees is there. One byte of each writer
  uint32_t plain;  // kEveryPart: and every row of the group sees all of the stage. Prefill only
  uint32_t skip;   // scales in front of the first key's
  uint32_t reserved;
};

struct RowQuery {
  float weights[64];
  RowRange range;
  int32_t reserved;
};

/// Behind the keys and queries, from a 1024-byte boundary.
struct Control {
  float scales[2 * kRingKeys];
  StageInfo info[kMaxStages];
  RowQuery row_queries[kQuerySlots];
  Segment segments[kSegments];
  uint64_t full[kMaxStages];
  uint64_t empty[kMaxStages];
  uint64_t described[kSegments];
  uint64_t queries_full[kQuerySlots];
  uint64_t queries_empty[kQuerySlots];
  int64_t chunks[kMaxChunks + 1];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// writers, readers: warps of a stage. By one thread: by the lanes of a warp it takes 0.9 us longer.
__device__ inline void init_barriers(Control &control, int writers, int readers, int query_threads, int math_warps) {
  const auto init = [](uint64_t &barrier, int arrivals) {
    ptx::mbarrier_init(ptx::shared_address(&barrier), static_cast<uint32_t>(arrivals));
  };
  for (int i = 0; i < kMaxStages; ++i) {
    init(control.full[i], writers * kArrivingLanes);
    init(control.empty[i], readers * kArrivingLanes);
  }
  for (int i = 0; i < kSegments; ++i) init(control.described[i], 1);
  for (int i = 0; i < kQuerySlots; ++i) {
    init(control.queries_full[i], query_threads);
    init(control.queries_empty[i], math_warps * kArrivingLanes);
  }
  ptx::mbarrier_init_fence();
}

/// A warp has read or written all it wants of what the barrier is about. All lanes.
__device__ inline void arrive_as_warp(uint64_t &barrier, int lane) {
  __syncwarp();
  if (lane < kArrivingLanes) ptx::mbarrier_arrive(ptx::shared_address(&barrier));
}

/// Number `number` of the ring, when it has been written.
__device__ inline Segment wait_segment(Control &control, uint32_t number) {
  const uint32_t slot = number % kSegments;
  ptx::mbarrier_wait(ptx::shared_address(&control.described[slot]), number / kSegments % 2);
  return control.segments[slot];
}

/// Is a key of a stage there?
__device__ inline bool is_there(const StageInfo &info, int key) {
  return info.all == kEveryPart || (info.there[key / 32] >> key % 32 & 1) != 0;
}

/// The stages of a layout, by their number among those of the thread block.
template <bool kMany>
struct Ring {
  static constexpr int kKeys = stage_keys(kMany);
  static constexpr uint32_t kStages = kRingKeys / kKeys;
  static constexpr uint32_t kBytes = kKeys * kKeyBytes;
  static constexpr int kReaders = kMany ? 8 : 4;  // warps that release a stage: all, or those of one warpgroup

  static __device__ uint64_t &full(Control &control, uint32_t number) { return control.full[number % kStages]; }
  static __device__ void wait_full(Control &control, uint32_t number) {
    ptx::mbarrier_wait(ptx::shared_address(&full(control, number)), number / kStages % 2);
  }
  static __device__ void wait_empty(Control &control, uint32_t number) {
    ptx::mbarrier_wait(ptx::shared_address(&control.empty[number % kStages]), number / kStages % 2 ^ 1);
  }
  /// A warp has read all it wants of a stage.
  static __device__ void release(Control &control, uint32_t number, int lane) {
    arrive_as_warp(control.empty[number % kStages], lane);
  }
  static __device__ StageInfo &info(Control &control, uint32_t number) { return control.info[number % kStages]; }
  static __device__ uint8_t *keys(uint8_t *ring, uint32_t number) { return ring + number % kStages * kBytes; }
  /// Room for two scales of each key: boxes start on 16 bytes, so there may be two.
  static __device__ float *scales(Control &control, uint32_t number) {
    return control.scales + number % kStages * (2 * kKeys);
  }
  /// Where the scale of a stage's key 0 is.
  static __device__ const float *first_scale(Control &control, uint32_t number) {
    return scales(control, number) + info(control, number).skip;
  }
};

#endif

}  // namespace ic::cuda::sm90

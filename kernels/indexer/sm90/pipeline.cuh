// SPDX-License-Identifier: Apache-2.0
// Shared memory of a thread block and the barriers between the warps that load keys and the warpgroups that multiply.
//
//   segment   consecutive stages of one run; a ring of descriptions. A segment has a stage at least, so the loader is
//             never more than kStages + 1 segments ahead, and the ring needs no barrier for the way back
//   stage     256 keys, their scales, and which of them are there
//   queries   one row's queries, weights and range, made ready while the segment before is multiplied (decode layout)
#pragma once

#include <cstdint>

#include "kernels/indexer/sm90/plan.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/ptx/shared.cuh"

namespace ic::cuda::sm90 {

constexpr int kStages = 4;  // 3 and 6 are slower where all keys come from memory
constexpr int kSegments = 8;
constexpr int kQuerySlots = 2;
constexpr int kKeyBytes = 128;
constexpr int kStageReaders = 8;  // warps that read a stage: of prefill all of it, of decode a half
constexpr uint32_t kStageBytes = kStageKeys * kKeyBytes;
constexpr uint32_t kScaleBytes = kStageKeys * sizeof(float);

/// Warps that load keys, behind those that multiply. Each arrives once at a full stage.
__host__ __device__ constexpr int loader_warps(bool tensor_map) { return tensor_map ? 1 : 4; }

/// Warpgroups that multiply. In decode they take halves of stages in turns, and there are 2 or 4 of them: then each
/// sees every phase of the barriers it waits for, which a parity needs. Four leave too few registers beside four
/// loaders.
__host__ __device__ constexpr int math_warpgroups(bool many, bool tensor_map) { return !many && tensor_map ? 4 : 2; }

struct Segment {
  int32_t group_row;
  int32_t seq;
  int32_t stage;   // position of its first key / 256
  int32_t stages;  // 0: there are no more segments
};

constexpr uint32_t kEveryPart = 0x01010101;

struct StageInfo {
  uint32_t there[kStageKeys / 32];  // bit l of word j for key 32 j + l; not written when all are there
  uint32_t all;    // kEveryPart: every key that a row of the run sees is there. One byte of each loader warp
  uint32_t plain;  // kEveryPart: and every row of the group sees all 256
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
  float scales[kStages][2 * kStageKeys];
  StageInfo info[kStages];
  RowQuery row_queries[kQuerySlots];
  Segment segments[kSegments];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t described[kSegments];
  uint64_t queries_full[kQuerySlots];
  uint64_t queries_empty[kQuerySlots];
  int64_t chunks[kMaxChunks + 1];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void init_barriers(Control &control, int loaders, int math_warps) {
  for (int i = 0; i < kStages; ++i) {
    ptx::mbarrier_init(ptx::shared_address(&control.full[i]), static_cast<uint32_t>(loaders));
    ptx::mbarrier_init(ptx::shared_address(&control.empty[i]), kStageReaders);
  }
  for (int i = 0; i < kSegments; ++i) ptx::mbarrier_init(ptx::shared_address(&control.described[i]), 1);
  for (int i = 0; i < kQuerySlots; ++i) {
    ptx::mbarrier_init(ptx::shared_address(&control.queries_full[i]), 32);
    ptx::mbarrier_init(ptx::shared_address(&control.queries_empty[i]), static_cast<uint32_t>(math_warps));
  }
  ptx::mbarrier_init_fence();
}

/// Number `number` of the ring, when it has been written.
__device__ inline Segment wait_segment(Control &control, uint32_t number) {
  const uint32_t slot = number % kSegments;
  ptx::mbarrier_wait(ptx::shared_address(&control.described[slot]), number / kSegments % 2);
  return control.segments[slot];
}

__device__ inline void wait_full(Control &control, uint32_t number) {
  ptx::mbarrier_wait(ptx::shared_address(&control.full[number % kStages]), number / kStages % 2);
}
__device__ inline void wait_empty(Control &control, uint32_t number) {
  ptx::mbarrier_wait(ptx::shared_address(&control.empty[number % kStages]), number / kStages % 2 ^ 1);
}

/// Is a key of a stage there?
__device__ inline bool is_there(const StageInfo &info, int key) {
  return info.all == kEveryPart || (info.there[key / 32] >> key % 32 & 1) != 0;
}

/// Where the scale of a stage's key 0 is.
__device__ inline const float *first_scale(const Control &control, uint32_t number) {
  return control.scales[number % kStages] + control.info[number % kStages].skip;
}

/// A warp has read all it wants of a stage.
__device__ inline void release_stage(Control &control, uint32_t number, int lane) {
  __syncwarp();
  if (lane == 0) ptx::mbarrier_arrive(ptx::shared_address(&control.empty[number % kStages]));
}

#endif

}  // namespace ic::cuda::sm90

// SPDX-License-Identifier: Apache-2.0
// The rows of a group that read one sequence, as the warps that load its keys see them.
#pragma once

#include "kernels/indexer/sm90/plan.cuh"

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
template <int kKeys>
__device__ inline bool is_plain(const Run &run, int32_t stage) {
  return stage * kKeys >= run.plain_begin && stage * kKeys + kKeys <= run.plain_end;
}

/// Keys outside of the pool are a fault when a row sees them.
__device__ inline void note_bad(const Run &run, bool bad, int32_t begin, int32_t end, uint32_t *fault) {
  if (!__any_sync(~0u, bad)) return;
  if (is_seen(run, begin, end) && bad) *fault |= IC_FAULT_PAGE;
}

}  // namespace ic::cuda::sm90

#endif

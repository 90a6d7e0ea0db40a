// SPDX-License-Identifier: Apache-2.0
// A sample of a row: groups of four scores on 16 bytes, one in each of equal strata.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/ptx/thread_index.cuh"
#include "kernels/topk/sm90_rows.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace ic::cuda::sm90 {

/// In registers: kGroups of each of kThreads threads. What is neither loaded nor cleared for the next row would be
/// kept, in memory, while tiles go by.
template <int kThreads, int kGroups>
class Sample {
 public:
  /// Places depend on the row's range only. The row has at least seven columns.
  __device__ void load(const float *row_scores, const Span &row) {
    constexpr uint32_t kStrata = kThreads * kGroups;
    const int32_t first = (row.begin + 3) & ~3;
    const auto *groups = reinterpret_cast<const float4 *>(row_scores + first);
    const auto num_groups = static_cast<uint32_t>(row.end - first) / 4;
    const int thread = ptx::thread_index();
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const auto stratum = static_cast<uint32_t>(i * kThreads + thread);
      const uint32_t low = stratum * num_groups / kStrata;
      const uint32_t high = (stratum + 1) * num_groups / kStrata;
      uint32_t jitter = stratum * 0x9e3779b9u + static_cast<uint32_t>(row.count());
      jitter = (jitter ^ (jitter >> 16)) * 0x7feb352du;
      jitter = (jitter ^ (jitter >> 15)) * 0x846ca68bu;
      jitter ^= jitter >> 16;
      groups_[i] = __ldg(groups + low + __umulhi(jitter, high - low));
    }
  }
  /// No row follows.
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) groups_[i] = make_float4(0, 0, 0, 0);
  }
  template <class Body>
  __device__ void for_each(Body &&body) const {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      body(groups_[i].x);
      body(groups_[i].y);
      body(groups_[i].z);
      body(groups_[i].w);
    }
  }

 private:
  float4 groups_[kGroups];
};

}  // namespace ic::cuda::sm90

#endif

// SPDX-License-Identifier: Apache-2.0
// A warp's slot in shared memory for one tile, which it fills itself by a bulk copy.
#pragma once

#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/sm90_windows/shape.cuh"

namespace ic::cuda::windows {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Shorter rows are read without slots and sample.
constexpr int32_t kLeastStreamed = 64;

__device__ inline bool is_streamed(const SelectRowsParams &p, const Span &row) {
  return row.count() >= kLeastStreamed && (row.count() > p.out.k || p.nan_is_absent != 0);
}

template <class S>
class Slot {
 public:
  /// By the warp's first thread, before a barrier of the block.
  __device__ void init() const {
    ptx::mbarrier_init(barrier(), 1);
    ptx::mbarrier_init_fence();
    ptx::fence_async();
  }
  /// Asks for the tile at `column`, if the part has one there. The slot's last tile has been read by all lanes.
  __device__ void ask(const SelectRowsParams &p, int32_t row, const Span &part, int32_t column) const {
    if (column >= part.end || lane_id() != 0) return;
    const int32_t end = sm90::ends_unsafely(p.rows, row, part.end) ? part.end & ~3 : (part.end + 3) & ~3;
    const auto bytes = static_cast<uint32_t>(max(0, min(kTileColumns, end - column))) * 4;
    ptx::mbarrier_arrive_expect(barrier(), bytes);
    if (bytes > 0) ptx::bulk_load(shared_address(tile()), p.scores + row * p.score_stride + column, bytes, barrier());
  }
  /// Waits for the tile at `column`.
  __device__ const float *wait(const SelectRowsParams &p, int32_t row, const Span &part, int32_t column) {
    ptx::mbarrier_wait(barrier(), parity_);
    parity_ ^= 1;
    const int32_t columns = part.end - column;
    if (columns < kTileColumns && columns % 4 != 0 && sm90::ends_unsafely(p.rows, row, part.end)) {
      const int32_t at = (columns & ~3) + lane_id();
      if (at < columns) tile()[at] = p.scores[row * p.score_stride + column + at];
      ptx::fence_async();  // the next tile comes after this
      __syncwarp();
    }
    return tile();
  }

 private:
  __device__ static uint32_t barrier() { return shared_address(&block_words<S>().landed[warp_id()]); }
  __device__ static float *tile() { return reinterpret_cast<float *>(select_shared) + warp_id() * kTileColumns; }

  uint32_t parity_ = 0;
};

#endif

}  // namespace ic::cuda::windows

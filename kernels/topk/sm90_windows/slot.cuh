// SPDX-License-Identifier: Apache-2.0
// A warp's slots in shared memory for a tile each, which it fills itself by bulk copies.
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

/// Tiles are waited for in the order in which they were asked for.
template <class S>
class Slots {
 public:
  /// By the warp's first thread, before a barrier of the block.
  __device__ void init() const {
    for (int slot = 0; slot < S::kSlots; ++slot) ptx::mbarrier_init(barrier(slot), 1);
    ptx::mbarrier_init_fence();
    ptx::fence_async();
  }
  /// Asks for the tile at `column`, if the part has one there. All lanes have read the last but kSlots - 1 tile.
  __device__ void ask(const SelectRowsParams &p, int32_t row, const Span &part, int32_t column) {
    if (column >= part.end) return;
    const int slot = static_cast<int>(asked_++ % S::kSlots);
    if (lane_id() != 0) return;
    const int32_t end = sm90::ends_unsafely(p.rows, row, part.end) ? part.end & ~3 : (part.end + 3) & ~3;
    const auto bytes = static_cast<uint32_t>(max(0, min(kTileColumns, end - column))) * 4;
    ptx::mbarrier_arrive_expect(barrier(slot), bytes);
    if (bytes == 0) return;
    ptx::bulk_load(shared_address(tile(slot)), p.scores + row * p.score_stride + column, bytes, barrier(slot));
  }
  /// Waits for the tile at `column`.
  __device__ const float *wait(const SelectRowsParams &p, int32_t row, const Span &part, int32_t column) {
    const int slot = static_cast<int>(waited_ % S::kSlots);
    ptx::mbarrier_wait(barrier(slot), waited_ / S::kSlots % 2);
    ++waited_;
    const int32_t columns = part.end - column;
    if (columns < kTileColumns && columns % 4 != 0 && sm90::ends_unsafely(p.rows, row, part.end)) {
      const int32_t at = (columns & ~3) + lane_id();
      if (at < columns) tile(slot)[at] = p.scores[row * p.score_stride + column + at];
      ptx::fence_async();  // the next tile comes after this
      __syncwarp();
    }
    return tile(slot);
  }

 private:
  __device__ static uint32_t barrier(int slot) {
    return shared_address(&block_words<S>().landed[warp_id() * S::kSlots + slot]);
  }
  __device__ static float *tile(int slot) {
    return reinterpret_cast<float *>(select_shared) + (warp_id() * S::kSlots + slot) * kTileColumns;
  }

  uint32_t asked_ = 0;
  uint32_t waited_ = 0;
};

#endif

}  // namespace ic::cuda::windows

// SPDX-License-Identifier: Apache-2.0
// A warp's slot in shared memory, which it refills itself by bulk copies with the tiles of its rows, one after another.
#pragma once

#include "kernels/ptx/bulk_copy.cuh"
#include "kernels/ptx/mbarrier.cuh"
#include "kernels/topk/launch.h"
#include "kernels/topk/sm90/shape.cuh"

namespace ic::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Shorter rows are read without slots and sample.
constexpr int32_t kLeastStreamed = 64;

/// A row that no slot ever holds: all its columns are chosen, or there are few.
__device__ inline bool is_streamed(const SelectRowsParams &p, const Span &row) {
  return row.count() >= kLeastStreamed && (row.count() > p.out.k || p.nan_is_absent != 0);
}

template <class S>
class Slot {
 public:
  __device__ Slot(const SelectRowsParams &p, int32_t first_item, int32_t item_step, int32_t rank)
      : p_(p), item_(first_item), item_step_(item_step), rank_(rank) {}

  /// Asks for the first tile; the barrier has been initialised.
  __device__ void start() {
    open();
    refill();
  }
  /// Waits for the tile. `columns` of it are in the row.
  __device__ const float *wait(const float *row_scores, int32_t column, int32_t columns, bool unsafe_end) {
    ptx::mbarrier_wait(barrier(), parity_);
    float *tile = reinterpret_cast<float *>(select_shared) + warp_id() * kTileColumns;
    if (unsafe_end && columns < kTileColumns && columns % 4 != 0) {
      const int32_t copied = columns & ~3;
      if (lane_id() < columns - copied) tile[copied + lane_id()] = row_scores[column + copied + lane_id()];
      ptx::fence_async();  // the next tile comes after this
      __syncwarp();
    }
    return tile;
  }
  /// The tile has been read by all lanes.
  __device__ void release() {
    __syncwarp();
    refill();
    parity_ ^= 1;
  }
  /// Whether the 16 bytes that hold the row's last column could reach beyond the matrix.
  __device__ static bool ends_unsafely(const SelectRowsParams &p, int32_t row, int32_t end) {
    return row == p.rows.count - 1 && ((end + 3) & ~3) > p.rows.max_key_end;
  }

 private:
  __device__ uint32_t barrier() const { return shared_address(&block_words<S>().landed[warp_id()]); }
  /// Goes to the next row that this warp has tiles of.
  __device__ void open() {
    for (; item_ < p_.rows.count; item_ += item_step_) {
      const int32_t row = p_.rows.count - 1 - item_;
      const Span whole = row_span(p_.rows, row);
      const Span part = slice<S>(whole, rank_);
      column_ = part.base + warp_id() * kTileColumns;
      end_ = part.end;
      if (is_streamed(p_, whole) && column_ < end_) {
        copy_end_ = ends_unsafely(p_, row, end_) ? end_ & ~3 : (end_ + 3) & ~3;
        return;
      }
    }
  }
  __device__ void refill() {
    if (item_ >= p_.rows.count) return;
    if (lane_id() == 0) {
      const auto bytes = static_cast<uint32_t>(max(0, min(kTileColumns, copy_end_ - column_))) * 4;
      ptx::mbarrier_arrive_expect(barrier(), bytes);
      if (bytes > 0) {
        const int32_t row = p_.rows.count - 1 - item_;
        ptx::bulk_load(shared_address(select_shared) + static_cast<uint32_t>(warp_id() * kTileColumns) * 4,
                       p_.scores + row * p_.score_stride + column_, bytes, barrier());
      }
    }
    column_ += S::kTile;
    if (column_ >= end_) {
      item_ += item_step_;
      open();
    }
  }

  const SelectRowsParams &p_;
  int32_t item_;  // rows are counted from the last
  int32_t item_step_;
  int32_t rank_;
  int32_t column_ = 0;
  int32_t end_ = 0;
  int32_t copy_end_ = 0;
  uint32_t parity_ = 0;
};

#endif

}  // namespace ic::cuda

// SPDX-License-Identifier: Apache-2.0
// Scores of a block of rows of one sequence, tile by tile: what scores() and score_select() share.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"
#include "cpu/isa/score_kernels.h"
#include "cpu/key_tile.h"
#include "cpu/workspace.h"

namespace ic::cpu {

const ScoreKernels &score_kernels(Isa isa) noexcept;

inline constexpr int kMaxBlockRows = 32;

/// Rows that share one converted tile of keys: enough that converting it costs little beside scoring it, few enough
/// that their queries stay in the second cache level.
int32_t score_block_rows(int32_t num_heads) noexcept;

/// The keys [begin, end) of its sequence that a row sees; begin >= 0; end == begin: none.
struct RowRange {
  int32_t seq;
  int32_t begin;
  int32_t end;
};

/// Checks row r against the batch's bounds. A row that is out of bounds is empty and sets *fault.
RowRange row_range(const RowsView &rows, int32_t r, uint32_t *fault) noexcept;

/// ORs fault bits into the caller's word, from any thread.
void report_fault(const RowsView &rows, uint32_t fault) noexcept;

/// One slice of workspace and the block that is being scored in it.
class ScoreBlock {
 public:
  ScoreBlock(Workspace *workspace, const Executor &executor, int32_t num_heads, int32_t head_dim) noexcept;

  /// Starts a block of sequence seq.
  void start(int32_t seq) noexcept;

  /// Adds row r (of the call) with the keys [begin, end), begin < end. At most score_block_rows() rows. Returns its
  /// number in the block.
  int32_t add_row(const QueryView &query, int32_t r, int32_t begin, int32_t end) noexcept;

  int32_t num_rows() const noexcept { return num_rows_; }
  int32_t first_position() const noexcept { return first_position_; }  // of all rows; INT32_MAX without rows
  int32_t end_position() const noexcept { return end_position_; }

  /// Scores the positions [first, first + num), num <= kTileKeys, for the rows that see any of them. Then columns()
  /// says which columns of scores(i) belong to row i.
  /// @return false when no row sees a key there.
  bool score_tile(const QueryView &query, const PoolView &pool, int32_t first, int32_t num) noexcept;

  struct Columns {
    int32_t begin, end;
  };
  Columns columns(int32_t i) const noexcept { return columns_[i]; }
  const float *scores(int32_t i) const noexcept { return scores_ + int64_t{i} * kTileKeys; }
  const int32_t *positions() const noexcept { return tile_->positions; }

  /// IC_FAULT_* bits met since the block was made.
  uint32_t fault() const noexcept { return fault_; }

 private:
  const uint8_t *wanted_flags(int32_t first, int32_t num) noexcept;

  const ScoreKernels *kernels_;
  int32_t num_heads_;
  int32_t head_dim_;
  float *panels_;  // [kTileKeys / kPanelKeys][head_dim][kPanelKeys]
  float *q_;       // [rows][num_heads][head_dim]
  float *w_;       // [rows][num_heads]
  float *scores_;  // [rows][kTileKeys]
  KeyTile *tile_;
  uint8_t *wanted_;  // [kTileKeys]
  int32_t seq_ = 0;
  int32_t num_rows_ = 0;
  int32_t first_position_ = INT32_MAX;
  int32_t end_position_ = 0;
  uint32_t fault_ = 0;
  int32_t begin_[kMaxBlockRows];
  int32_t end_[kMaxBlockRows];
  Columns columns_[kMaxBlockRows];
};

}  // namespace ic::cpu

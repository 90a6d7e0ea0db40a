// SPDX-License-Identifier: Apache-2.0
// Converts queries once per block and keys once per tile, then calls the kernel of the executor's level.
#include "cpu/score_block.h"

#include <algorithm>
#include <cstring>

#include "cpu/convert.h"
#include "indexcache.h"

namespace ic::cpu {

const ScoreKernels &score_kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kScoreAvx512;
  if (isa == Isa::kAvx2) return kScoreAvx2;
#endif
  (void)isa;
  return kScorePortable;
}

int32_t score_block_rows(int32_t num_heads) noexcept { return std::clamp(512 / num_heads, 4, kMaxBlockRows); }

RowRange row_range(const RowsView &rows, int32_t r, uint32_t *fault) noexcept {
  RowRange range{0, 0, 0};
  const int32_t end = rows.key_end[r];
  const int32_t begin = rows.key_begin == nullptr ? 0 : std::max(rows.key_begin[r], 0);
  if (end > rows.max_key_end) {
    *fault |= IC_FAULT_KEY_END;
    return range;
  }
  if (end <= begin) return range;
  const int32_t seq = rows.seq == nullptr ? 0 : rows.seq[r];
  if (seq < 0 || seq >= rows.num_seqs) {
    *fault |= IC_FAULT_SEQUENCE;
    return range;
  }
  return {seq, begin, end};
}

void report_fault(const RowsView &rows, uint32_t fault) noexcept {
  if (fault != 0 && rows.fault != nullptr) __atomic_fetch_or(rows.fault, fault, __ATOMIC_RELAXED);
}

ScoreBlock::ScoreBlock(Workspace *workspace, const Executor &executor, int32_t num_heads, int32_t head_dim) noexcept
    : kernels_(&score_kernels(executor.isa)), num_heads_(num_heads), head_dim_(head_dim) {
  const auto rows = static_cast<size_t>(score_block_rows(num_heads));
  const auto heads = static_cast<size_t>(num_heads);
  const auto dims = static_cast<size_t>(head_dim);
  panels_ = workspace->take<float>(kTileKeys * dims);
  q_ = workspace->take<float>(rows * heads * dims);
  w_ = workspace->take<float>(rows * heads);
  scores_ = workspace->take<float>(rows * kTileKeys);
  tile_ = workspace->take<KeyTile>(1);
  wanted_ = workspace->take<uint8_t>(kTileKeys);
}

void ScoreBlock::start(int32_t seq) noexcept {
  seq_ = seq;
  num_rows_ = 0;
  first_position_ = INT32_MAX;
  end_position_ = 0;
}

int32_t ScoreBlock::add_row(const QueryView &query, int32_t r, int32_t begin, int32_t end) noexcept {
  const int32_t i = num_rows_++;
  begin_[i] = begin;
  end_[i] = end;
  first_position_ = std::min(first_position_, begin);
  end_position_ = std::max(end_position_, end);

  const int64_t size = int64_t{num_heads_} * head_dim_;
  const auto *q = static_cast<const uint8_t *>(query.q) + r * query.q_row_stride * dtype_bytes(query.dtype);
  kernels_->widen(q, query.dtype, size, q_ + i * size);
  const float *w = query.w + r * query.w_row_stride;
  const float *q_scale = query.q_scale == nullptr ? nullptr : query.q_scale + r * query.q_scale_row_stride;
  for (int32_t h = 0; h < num_heads_; ++h) w_[i * num_heads_ + h] = q_scale == nullptr ? w[h] : w[h] * q_scale[h];
  return i;
}

// Flags of the positions that some row sees; null when all are: a key that nobody sees must not be looked up.
const uint8_t *ScoreBlock::wanted_flags(int32_t first, int32_t num) noexcept {
  for (int32_t i = 0; i < num_rows_; ++i) {
    if (begin_[i] <= first && end_[i] >= first + num) return nullptr;
  }
  std::memset(wanted_, 0, static_cast<size_t>(num));
  for (int32_t i = 0; i < num_rows_; ++i) {
    const int32_t begin = std::max(begin_[i], first);
    const int32_t end = std::min(end_[i], first + num);
    if (begin < end) std::memset(wanted_ + (begin - first), 1, static_cast<size_t>(end - begin));
  }
  return wanted_;
}

bool ScoreBlock::score_tile(const QueryView &query, const PoolView &pool, int32_t first, int32_t num) noexcept {
  int32_t tile_begin = INT32_MAX;
  int32_t tile_end = 0;
  for (int32_t i = 0; i < num_rows_; ++i) {
    const int32_t begin = std::max(begin_[i], first);
    const int32_t end = std::min(end_[i], first + num);
    if (begin >= end) continue;
    tile_begin = std::min(tile_begin, begin);
    tile_end = std::max(tile_end, end);
  }
  if (tile_begin >= tile_end) return false;

  const bool scaled = query.dtype == IC_DTYPE_E4M3;
  const int32_t vector_bytes = head_dim_ * dtype_bytes(query.dtype);
  const int32_t span = tile_end - tile_begin;
  fault_ |= find_keys(pool, seq_, tile_begin, span, wanted_flags(tile_begin, span), vector_bytes, scaled, tile_);
  if (tile_->count == 0) return false;
  kernels_->pack(tile_->keys, tile_->count, head_dim_, query.dtype, panels_);

  // Without gaps the column of a position is its distance from the first.
  const int32_t *positions = tile_->positions;
  const int32_t count = tile_->count;
  const bool dense = positions[count - 1] - positions[0] == count - 1;
  const auto column_of = [&](int32_t position) {
    if (dense) return std::clamp(position - positions[0], 0, count);
    return static_cast<int32_t>(std::lower_bound(positions, positions + count, position) - positions);
  };
  ScoreRow rows[kMaxBlockRows];
  int32_t num_scored = 0;
  for (int32_t i = 0; i < num_rows_; ++i) {
    const Columns columns{column_of(begin_[i]), column_of(end_[i])};
    columns_[i] = columns;
    if (columns.begin >= columns.end) continue;
    rows[num_scored++] = {q_ + int64_t{i} * num_heads_ * head_dim_, w_ + int64_t{i} * num_heads_,
                          scores_ + int64_t{i} * kTileKeys, columns.begin / kPanelKeys,
                          (columns.end + kPanelKeys - 1) / kPanelKeys};
  }
  kernels_->score(rows, num_scored, num_heads_, head_dim_, panels_, scaled ? tile_->scales : nullptr);
  return true;
}

}  // namespace ic::cpu

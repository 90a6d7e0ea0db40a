// SPDX-License-Identifier: Apache-2.0
// Cuts a score matrix into blocks of rows and, when there are few rows, ranges of columns; every element is written by
// one task.
#include "cpu/scores.h"

#include <algorithm>

#include "cpu/score_block.h"
#include "cpu/workers.h"

namespace ic::cpu {
namespace {

constexpr int32_t kMinSplitColumns = 1024;

struct Call {
  Call(const Executor &executor_in, const ScoresParams &params_in, int64_t count)
      : executor(executor_in), params(params_in), work(count) {}
  const Executor &executor;
  const ScoresParams &params;
  int32_t chunk_rows = 0;
  int32_t splits = 1;
  size_t slice_bytes = 0;
  WorkCounter work;
};

size_t slice_bytes(const Executor &executor, int32_t num_heads, int32_t head_dim) {
  Workspace measure;
  ScoreBlock(&measure, executor, num_heads, head_dim);
  return measure.used();
}

void write_scores(const ScoresParams &p, const ScoreBlock &block, const int32_t *row_of) {
  const int32_t *positions = block.positions();
  for (int32_t i = 0; i < block.num_rows(); ++i) {
    const ScoreBlock::Columns columns = block.columns(i);
    const float *from = block.scores(i);
    float *to = p.scores + row_of[i] * p.score_stride;
    for (int32_t c = columns.begin; c < columns.end; ++c) to[positions[c] - p.first_column] = from[c];
  }
}

void score_all(const ScoresParams &p, ScoreBlock *block, const int32_t *row_of) {
  for (int32_t first = block->first_position(); first < block->end_position(); first += kTileKeys) {
    const int32_t num = std::min(kTileKeys, block->end_position() - first);
    if (block->score_tile(p.query, p.keys, first, num)) write_scores(p, *block, row_of);
  }
}

/// Rows [row_begin, row_end), positions [first, end) of the window.
void score_part(const ScoresParams &p, ScoreBlock *block, int32_t row_begin, int32_t row_end, int32_t first,
                int32_t end, uint32_t *fault) {
  int32_t row_of[kMaxBlockRows];
  int32_t block_seq = 0;
  block->start(0);
  for (int32_t r = row_begin; r < row_end; ++r) {
    if (p.others == OtherColumns::kClean) {
      float *row = p.scores + r * p.score_stride;
      std::fill(row + (first - p.first_column), row + (end - p.first_column), -__builtin_inff());
    }
    const RowRange range = row_range(p.rows, r, fault);
    const int32_t key_begin = std::max(range.begin, first);
    const int32_t key_end = std::min(range.end, end);
    if (key_begin >= key_end) continue;
    if (block->num_rows() > 0 && range.seq != block_seq) {
      score_all(p, block, row_of);
      block->start(range.seq);
    } else if (block->num_rows() == 0) {
      block->start(range.seq);
    }
    block_seq = range.seq;
    row_of[block->add_row(p.query, r, key_begin, key_end)] = r;
  }
  score_all(p, block, row_of);
}

void run_slice(void *data, int64_t slice) {
  Call &call = *static_cast<Call *>(data);
  const ScoresParams &p = call.params;
  Workspace workspace(static_cast<uint8_t *>(p.workspace) + static_cast<size_t>(slice) * call.slice_bytes);
  ScoreBlock block(&workspace, call.executor, p.query.num_heads, p.query.head_dim);
  uint32_t fault = 0;
  for (int64_t item = call.work.take(); item >= 0; item = call.work.take()) {
    const int64_t chunk = item / call.splits;
    const int64_t split = item % call.splits;
    const auto row_begin = static_cast<int32_t>(chunk * call.chunk_rows);
    const int32_t row_end = std::min(p.rows.count - row_begin, call.chunk_rows) + row_begin;
    const auto first = static_cast<int32_t>(p.num_columns * split / call.splits);
    const auto end = static_cast<int32_t>(p.num_columns * (split + 1) / call.splits);
    score_part(p, &block, row_begin, row_end, p.first_column + first, p.first_column + end, &fault);
  }
  report_fault(p.rows, fault | block.fault());
}

}  // namespace

size_t scores_workspace_size(const Executor &executor, int32_t num_heads, int32_t head_dim) {
  return static_cast<size_t>(executor.workers->slices()) * slice_bytes(executor, num_heads, head_dim);
}

void scores(const Executor &executor, const ScoresParams &params) {
  if (params.rows.count <= 0 || params.num_columns <= 0) return;
  const int32_t slices = executor.workers->slices();
  const int32_t chunk_rows = score_block_rows(params.query.num_heads);
  const int64_t chunks = (int64_t{params.rows.count} + chunk_rows - 1) / chunk_rows;
  const int64_t wanted = slices == 1 ? 1 : (int64_t{4} * slices + chunks - 1) / chunks;
  const int64_t most = std::max(1, params.num_columns / kMinSplitColumns);
  const auto splits = static_cast<int32_t>(std::min(wanted, most));

  Call call(executor, params, chunks * splits);
  call.chunk_rows = chunk_rows;
  call.splits = splits;
  call.slice_bytes = slice_bytes(executor, params.query.num_heads, params.query.head_dim);
  executor.workers->run(std::min<int64_t>(slices, chunks * splits), run_slice, &call);
}

}  // namespace ic::cpu

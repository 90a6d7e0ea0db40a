// SPDX-License-Identifier: Apache-2.0
// Blocks of rows in parallel. When rows are too few to keep all slices busy, the keys of a block are cut into ranges as
// well; each range leaves its k best, and a second step selects from those: exact, so the cut cannot be seen.
#include "cpu/score_select.h"

#include <algorithm>
#include <cstring>

#include "cpu/candidate_rows.h"
#include "cpu/convert.h"
#include "cpu/score_block.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

constexpr int32_t kMinSplitKeys = 2048;
static_assert(kTileKeys <= kPushColumns);
constexpr int32_t kWritten = -1;  // partial count of a row that is finished

struct Plan {
  int32_t chunk_rows;
  int32_t chunks;
  int32_t splits;
};

Plan make_plan(int32_t slices, int32_t rows, int32_t max_key_end, int32_t num_heads, int32_t k) {
  const int32_t most_rows = score_block_rows(num_heads);
  // Fewer (row, head) chains than these would spend their time on converting keys.
  const int32_t least_rows = std::min(most_rows, (64 + num_heads - 1) / num_heads);
  const int64_t items = slices == 1 ? 1 : int64_t{4} * slices;
  const int64_t chunk_rows = std::clamp<int64_t>((rows + items - 1) / items, least_rows, most_rows);
  const auto chunks = static_cast<int32_t>((rows + chunk_rows - 1) / chunk_rows);
  int32_t splits = 1;
  if (slices > 1 && chunks < 2 * slices && chunks > 0) {
    splits = std::min((2 * slices + chunks - 1) / chunks, std::max(1, max_key_end / std::max(kMinSplitKeys, 2 * k)));
  }
  return {static_cast<int32_t>(chunk_rows), chunks, splits};
}

/// What a slice of the workspace holds.
struct Slice {
  Slice(Workspace *workspace, const Executor &executor, int32_t num_heads, int32_t head_dim, int32_t k)
      : block(workspace, executor, num_heads, head_dim),
        candidates(workspace, executor, score_block_rows(num_heads), k),
        keys(workspace->take<KeyTile>(1)) {}
  ScoreBlock block;
  CandidateRows candidates;
  KeyTile *keys;  // of rows that need no scores
};

size_t slice_bytes(const Executor &executor, int32_t num_heads, int32_t head_dim, int32_t k) {
  Workspace measure;
  Slice(&measure, executor, num_heads, head_dim, k);
  return measure.used();
}

struct Call {
  Call(const Executor &executor_in, const ScoreSelectParams &params_in, const Plan &plan_in,
       const Partials &partials_in, size_t slice_size_in, int64_t count)
      : executor(executor_in),
        params(params_in),
        plan(plan_in),
        partials(partials_in),
        slice_size(slice_size_in),
        work(count) {}
  Slice slice(int64_t number) const {
    Workspace workspace(static_cast<uint8_t *>(params.workspace) + static_cast<size_t>(number) * slice_size);
    return {&workspace, executor, params.query.num_heads, params.query.head_dim, params.out.k};
  }
  const Executor &executor;
  const ScoreSelectParams &params;
  const Plan plan;
  const Partials partials;
  const size_t slice_size;
  WorkCounter work;
};

/// All keys that are there; they are at most k.
uint32_t write_all_keys(const ScoreSelectParams &p, int32_t r, const RowRange &range, KeyTile *keys) {
  const int32_t vector_bytes = p.query.head_dim * dtype_bytes(p.query.dtype);
  int32_t *indices = p.out.indices + r * p.out.index_stride;
  int32_t count = 0;
  uint32_t fault = 0;
  for (int32_t first = range.begin; first < range.end; first += kTileKeys) {
    const int32_t num = std::min(kTileKeys, range.end - first);
    fault |= find_keys(p.keys, range.seq, first, num, nullptr, vector_bytes, false, keys);
    std::memcpy(indices + count, keys->positions, static_cast<size_t>(keys->count) * sizeof(int32_t));
    count += keys->count;
  }
  write_selection(p.out, r, indices, nullptr, count);
  return fault;
}

/// Scores the block's rows against range `split` of their keys and leaves their best.
void select_block(const Call &call, Slice *slice, const int32_t *row_of, int32_t split) {
  const ScoreSelectParams &p = call.params;
  ScoreBlock &block = slice->block;
  const int32_t num_rows = block.num_rows();
  if (num_rows == 0) return;
  for (int32_t i = 0; i < num_rows; ++i) slice->candidates.start(i);

  const int64_t tiles = (int64_t{block.end_position()} - block.first_position() + kTileKeys - 1) / kTileKeys;
  const int64_t first_tile = tiles * split / call.plan.splits;
  const int64_t end_tile = tiles * (split + 1) / call.plan.splits;
  for (int64_t tile = first_tile; tile < end_tile; ++tile) {
    const auto first = static_cast<int32_t>(block.first_position() + tile * kTileKeys);
    if (!block.score_tile(p.query, p.keys, first, std::min(kTileKeys, block.end_position() - first))) continue;
    for (int32_t i = 0; i < num_rows; ++i) {
      const ScoreBlock::Columns columns = block.columns(i);
      if (columns.begin >= columns.end) continue;
      slice->candidates.offer(i, block.scores(i), block.positions(), 0, columns.begin, columns.end);
    }
  }
  for (int32_t i = 0; i < num_rows; ++i) {
    const Candidates &best = slice->candidates.finish(i);
    if (call.plan.splits == 1) {
      write_selection(p.out, row_of[i], best.positions, best.scores, best.count);
      continue;
    }
    const int64_t part = int64_t{row_of[i]} * call.plan.splits + split;
    const auto bytes = static_cast<size_t>(best.count) * 4;
    std::memcpy(call.partials.positions + part * p.out.k, best.positions, bytes);
    std::memcpy(call.partials.scores + part * p.out.k, best.scores, bytes);
    call.partials.counts[part] = best.count;
  }
}

void select_chunk(const Call &call, Slice *slice, int32_t chunk, int32_t split, uint32_t *fault) {
  const ScoreSelectParams &p = call.params;
  const bool scores_wanted = p.out.scores != nullptr || p.out.order == IC_ORDER_SCORE;
  const int32_t row_begin = chunk * call.plan.chunk_rows;
  const int32_t row_end = row_begin + std::min(p.rows.count - row_begin, call.plan.chunk_rows);
  ScoreBlock &block = slice->block;
  int32_t row_of[kMaxBlockRows];
  int32_t block_seq = 0;
  block.start(0);
  for (int32_t r = row_begin; r < row_end; ++r) {
    const RowRange range = row_range(p.rows, r, fault);
    if (range.begin == range.end || (range.end - range.begin <= p.out.k && !scores_wanted)) {
      if (split == 0) *fault |= write_all_keys(p, r, range, slice->keys);
      if (call.plan.splits > 1) call.partials.counts[int64_t{r} * call.plan.splits + split] = kWritten;
      continue;
    }
    if (block.num_rows() > 0 && range.seq != block_seq) {
      select_block(call, slice, row_of, split);
      block.start(range.seq);
    } else if (block.num_rows() == 0) {
      block.start(range.seq);
    }
    block_seq = range.seq;
    row_of[block.add_row(p.query, r, range.begin, range.end)] = r;
  }
  select_block(call, slice, row_of, split);
}

void run_chunks(void *data, int64_t number) {
  Call &call = *static_cast<Call *>(data);
  Slice slice = call.slice(number);
  uint32_t fault = 0;
  for (int64_t item = call.work.take(); item >= 0; item = call.work.take()) {
    // From the last row on: in a causal prefill the last rows cost most, and what starts last should be short.
    const auto chunk = static_cast<int32_t>(call.plan.chunks - 1 - item / call.plan.splits);
    select_chunk(call, &slice, chunk, static_cast<int32_t>(item % call.plan.splits), &fault);
  }
  report_fault(call.params.rows, fault | slice.block.fault());
}

void run_joins(void *data, int64_t number) {
  Call &call = *static_cast<Call *>(data);
  const ScoreSelectParams &p = call.params;
  Slice slice = call.slice(number);
  for (int64_t r = call.work.take(); r >= 0; r = call.work.take()) {
    const int64_t first_part = r * call.plan.splits;
    if (call.partials.counts[first_part] == kWritten) continue;
    slice.candidates.start(0);
    for (int64_t part = first_part; part < first_part + call.plan.splits; ++part) {
      const int32_t *positions = call.partials.positions + part * p.out.k;
      const float *scores = call.partials.scores + part * p.out.k;
      for (int32_t at = 0; at < call.partials.counts[part]; at += kPushColumns) {
        const int32_t num = std::min(kPushColumns, call.partials.counts[part] - at);
        slice.candidates.offer(0, scores + at, positions + at, 0, 0, num);
      }
    }
    const Candidates &best = slice.candidates.finish(0);
    write_selection(p.out, r, best.positions, best.scores, best.count);
  }
}

}  // namespace

size_t score_select_workspace_size(const Executor &executor, int32_t max_rows, int32_t max_key_end, int32_t num_heads,
                                   int32_t head_dim, int32_t k) {
  const int32_t slices = executor.workers->slices();
  // Partial results are largest for some number of rows that is still cut into ranges of keys.
  int64_t row_splits = 0;
  for (int32_t rows = 1; rows <= max_rows; ++rows) {
    const Plan plan = make_plan(slices, rows, max_key_end, num_heads, k);
    if (plan.splits > 1) row_splits = std::max(row_splits, int64_t{rows} * plan.splits);
    if (plan.chunks >= 2 * slices) break;
  }
  Workspace measure;
  if (row_splits > 0) Partials(&measure, row_splits, k);
  return static_cast<size_t>(slices) * slice_bytes(executor, num_heads, head_dim, k) + measure.used();
}

void score_select(const Executor &executor, const ScoreSelectParams &params) {
  if (params.rows.count <= 0) return;
  const int32_t slices = executor.workers->slices();
  const int32_t k = params.out.k;
  const Plan plan = make_plan(slices, params.rows.count, params.rows.max_key_end, params.query.num_heads, k);
  const size_t slice_size = slice_bytes(executor, params.query.num_heads, params.query.head_dim, k);
  Workspace behind(static_cast<uint8_t *>(params.workspace) + static_cast<size_t>(slices) * slice_size);
  const Partials partials(&behind, plan.splits > 1 ? int64_t{params.rows.count} * plan.splits : 0, k);

  const int64_t items = int64_t{plan.chunks} * plan.splits;
  Call chunks(executor, params, plan, partials, slice_size, items);
  executor.workers->run(std::min<int64_t>(slices, items), run_chunks, &chunks);
  if (plan.splits == 1) return;
  Call joins(executor, params, plan, partials, slice_size, params.rows.count);
  executor.workers->run(std::min<int64_t>(slices, params.rows.count), run_joins, &joins);
}

}  // namespace ic::cpu

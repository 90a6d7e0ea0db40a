// SPDX-License-Identifier: Apache-2.0
// Rows in parallel; few long rows are cut into ranges of columns, whose bests are joined in a second step.
#include "cpu/select.h"

#include <algorithm>
#include <cstring>

#include "cpu/candidate_rows.h"
#include "cpu/workers.h"

namespace ic::cpu {
namespace {

constexpr int32_t kMinSplitColumns = 16384;

int32_t plan_splits(int32_t slices, int32_t rows, int32_t max_end, int32_t k) {
  if (slices == 1 || rows <= 0 || rows >= 2 * slices) return 1;
  return std::min((2 * slices + rows - 1) / rows, std::max(1, max_end / std::max(kMinSplitColumns, 4 * k)));
}

struct Slice {
  Slice(Workspace *workspace, const Executor &executor, int32_t k)
      : candidates(workspace, executor, 1, k), tail(workspace->take<float>(kPushColumns)) {}
  CandidateRows candidates;
  float *tail;  // the last columns of a row: kernels read whole vectors, and nothing may be read behind a row's end
};

size_t slice_bytes(const Executor &executor, int32_t k) {
  Workspace measure;
  Slice(&measure, executor, k);
  return measure.used();
}

struct Call {
  Call(const Executor &executor_in, const SelectParams &params_in, int32_t splits_in, const Partials &partials_in,
       size_t slice_size_in, int64_t count)
      : executor(executor_in),
        params(params_in),
        splits(splits_in),
        partials(partials_in),
        slice_size(slice_size_in),
        work(count) {}
  Slice slice(int64_t number) const {
    Workspace workspace(static_cast<uint8_t *>(params.workspace) + static_cast<size_t>(number) * slice_size);
    return {&workspace, executor, params.out.k};
  }
  const Executor &executor;
  const SelectParams &params;
  const int32_t splits;
  const Partials partials;
  const size_t slice_size;
  WorkCounter work;
};

void run_rows(void *data, int64_t number) {
  Call &call = *static_cast<Call *>(data);
  const SelectParams &p = call.params;
  Slice slice = call.slice(number);
  for (int64_t item = call.work.take(); item >= 0; item = call.work.take()) {
    const int64_t r = item / call.splits;
    const int64_t split = item % call.splits;
    const int32_t row_begin = p.begin == nullptr ? 0 : std::max(p.begin[r], 0);
    const int32_t row_end = p.end[r] > p.max_end ? row_begin : std::max(p.end[r], row_begin);
    const int64_t span = row_end - row_begin;
    const auto begin = static_cast<int32_t>(row_begin + span * split / call.splits);
    const auto end = static_cast<int32_t>(row_begin + span * (split + 1) / call.splits);
    const float *scores = p.scores + r * p.score_stride;
    slice.candidates.start(0);
    for (int32_t at = begin; at < end; at += kPushColumns) {
      const int32_t num = std::min(kPushColumns, end - at);
      const float *columns = scores + at;
      if (num < kPushColumns) {
        std::memcpy(slice.tail, columns, static_cast<size_t>(num) * sizeof(float));
        columns = slice.tail;
      }
      slice.candidates.offer(0, columns, nullptr, at, 0, num);
    }
    const Candidates &best = slice.candidates.finish(0);
    if (call.splits == 1) {
      write_selection(p.out, r, best.positions, best.scores, best.count);
      continue;
    }
    const auto bytes = static_cast<size_t>(best.count) * 4;
    std::memcpy(call.partials.positions + item * p.out.k, best.positions, bytes);
    std::memcpy(call.partials.scores + item * p.out.k, best.scores, bytes);
    call.partials.counts[item] = best.count;
  }
}

void run_joins(void *data, int64_t number) {
  Call &call = *static_cast<Call *>(data);
  const SelectParams &p = call.params;
  Slice slice = call.slice(number);
  for (int64_t r = call.work.take(); r >= 0; r = call.work.take()) {
    slice.candidates.start(0);
    for (int64_t part = r * call.splits; part < (r + 1) * call.splits; ++part) {
      for (int32_t at = 0; at < call.partials.counts[part]; at += kPushColumns) {
        slice.candidates.offer(0, call.partials.scores + part * p.out.k + at,
                               call.partials.positions + part * p.out.k + at, 0, 0,
                               std::min(kPushColumns, call.partials.counts[part] - at));
      }
    }
    const Candidates &best = slice.candidates.finish(0);
    write_selection(p.out, r, best.positions, best.scores, best.count);
  }
}

}  // namespace

size_t select_workspace_size(const Executor &executor, int32_t max_rows, int32_t max_end, int32_t k) {
  const int32_t slices = executor.workers->slices();
  int64_t row_splits = 0;
  for (int32_t rows = 1; rows <= std::min(max_rows, 2 * slices); ++rows) {
    const int32_t splits = plan_splits(slices, rows, max_end, k);
    if (splits > 1) row_splits = std::max(row_splits, int64_t{rows} * splits);
  }
  Workspace measure;
  if (row_splits > 0) Partials(&measure, row_splits, k);
  return static_cast<size_t>(slices) * slice_bytes(executor, k) + measure.used();
}

void select(const Executor &executor, const SelectParams &params) {
  if (params.rows <= 0) return;
  const int32_t slices = executor.workers->slices();
  const int32_t splits = plan_splits(slices, params.rows, params.max_end, params.out.k);
  const size_t slice_size = slice_bytes(executor, params.out.k);
  Workspace behind(static_cast<uint8_t *>(params.workspace) + static_cast<size_t>(slices) * slice_size);
  const Partials partials(&behind, splits > 1 ? int64_t{params.rows} * splits : 0, params.out.k);
  const int64_t items = int64_t{params.rows} * splits;
  Call rows(executor, params, splits, partials, slice_size, items);
  executor.workers->run(std::min<int64_t>(slices, items), run_rows, &rows);
  if (splits == 1) return;
  Call joins(executor, params, splits, partials, slice_size, params.rows);
  executor.workers->run(std::min<int64_t>(slices, params.rows), run_joins, &joins);
}

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// The candidate buffers of a block of rows, and how a finished row is written.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/executor.h"
#include "cpu/isa/select_kernels.h"
#include "cpu/workspace.h"

namespace ic::cpu {

const SelectKernels &select_kernels(Isa isa) noexcept;

/// One slice of workspace: candidates of up to `rows` rows.
class CandidateRows {
 public:
  CandidateRows(Workspace *workspace, const Executor &executor, int32_t rows, int32_t k) noexcept;

  /// Empties row i.
  void start(int32_t i) noexcept;

  /// Offers columns [begin, end), at most kPushColumns, ascending in position from call to call (SelectKernels::push).
  void offer(int32_t i, const float *scores, const int32_t *positions, int32_t first_position, int32_t begin,
             int32_t end) noexcept;

  /// The at most k best of row i, ascending by position.
  const Candidates &finish(int32_t i) noexcept;

 private:
  const SelectKernels *kernels_;
  int32_t k_;
  int32_t capacity_;
  Candidates *rows_;
  float *scores_;
  int32_t *positions_;
  int32_t *scratch_;
};

/// What the parts of split rows leave for the second step, [rows * splits, k]: behind the slices of the workspace.
struct Partials {
  Partials(Workspace *workspace, int64_t row_splits, int32_t k) noexcept
      : positions(workspace->take<int32_t>(static_cast<size_t>(row_splits * k + kCandidateSlack))),
        scores(workspace->take<float>(static_cast<size_t>(row_splits * k + kCandidateSlack))),
        counts(workspace->take<int32_t>(static_cast<size_t>(row_splits))) {}
  int32_t *positions;
  float *scores;
  int32_t *counts;
};

/// Writes row r: `count` keys, ascending by position, in the order that out.order asks for; then -1 and -inf up to
/// k_padded. scores may be null when out.scores is null and out.order is not IC_ORDER_SCORE. The row of `positions`
/// may be the row of out.indices itself.
void write_selection(const SelectionOut &out, int64_t r, const int32_t *positions, const float *scores,
                     int32_t count) noexcept;

}  // namespace ic::cpu

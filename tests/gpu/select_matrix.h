// SPDX-License-Identifier: Apache-2.0
// Score matrices to select from, on the host and on the device, and what the CPU backend selects.
#pragma once

#include <cstdint>
#include <vector>

#include "core/backend.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/selection.h"

namespace ic::test {

/// Rows of scores with their ranges. Columns outside of a row's range hold NaN of their own and must not matter.
struct Matrix {
  int32_t rows = 0;
  int32_t max_end = 0;
  int64_t stride = 0;
  std::vector<float> scores;
  std::vector<int32_t> begin, end;

  SelectParams params(const float *s, const int32_t *b, const int32_t *e, const SelectionOut &out) const {
    return {s, stride, b, e, rows, max_end, out, nullptr, 0};
  }
};

inline Matrix make_matrix(Kind kind, int32_t rows, int32_t max_end, uint32_t seed, int32_t stride_pad = 0) {
  Matrix m;
  m.rows = rows;
  m.max_end = max_end;
  m.stride = max_end + stride_pad;
  m.scores.assign(static_cast<size_t>(rows * m.stride), 1e30f);
  m.begin.assign(static_cast<size_t>(rows), 0);
  m.end.assign(static_cast<size_t>(rows), max_end);
  Draw draw(seed);
  for (int32_t r = 0; r < rows; ++r) fill_row(kind, m.scores.data() + r * m.stride, max_end, &draw);
  return m;
}

inline Selection select_on_cpu(const Matrix &m, const Wanted &wanted) {
  Selection result = poisoned_selection(wanted, m.rows);
  SelectParams p = m.params(m.scores.data(), m.begin.data(), m.end.data(),
                            selection_out(wanted, result.indices.data(), result.lengths.data(), result.scores.data()));
  HostWorkspace workspace(cpu_backend().select_workspace_size(m.rows, m.max_end, wanted.k));
  p.workspace = workspace.data();
  p.workspace_size = workspace.size();
  cpu_backend().select(p, nullptr);
  return result;
}

class DeviceMatrix {
 public:
  explicit DeviceMatrix(const Matrix &m, size_t shift_bytes = 0)
      : matrix_(m), scores_(m.scores, shift_bytes), begin_(m.begin, shift_bytes), end_(m.end, shift_bytes) {}
  void upload(const Matrix &m) {
    scores_.assign(m.scores);
    begin_.assign(m.begin);
    end_.assign(m.end);
  }
  SelectParams params(const SelectionOut &out, const PoisonedWorkspace &workspace) const {
    SelectParams p = matrix_.params(scores_.data(), begin_.data(), end_.data(), out);
    p.workspace = workspace.data();
    p.workspace_size = workspace.size();
    return p;
  }

 private:
  const Matrix &matrix_;
  DeviceArray<float> scores_;
  DeviceArray<int32_t> begin_, end_;
};

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// Candidate buffers with room for k keys, as many again (so that reducing pays), and one push.
#include "cpu/candidate_rows.h"

#include <algorithm>
#include <cstring>

#include "indexcache.h"

namespace ic::cpu {
namespace {

constexpr int32_t kMinSpare = 256;

// Order of IC_ORDER_SCORE.
struct Better {
  const float *scores;
  const int32_t *positions;
  bool operator()(int32_t a, int32_t b) const {
    return scores[a] != scores[b] ? scores[a] > scores[b] : positions[a] < positions[b];
  }
};

}  // namespace

const SelectKernels &select_kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kSelectAvx512;
  if (isa == Isa::kAvx2) return kSelectAvx2;
#endif
  (void)isa;
  return kSelectPortable;
}

CandidateRows::CandidateRows(Workspace *workspace, const Executor &executor, int32_t rows, int32_t k) noexcept
    : kernels_(&select_kernels(executor.isa)),
      k_(k),
      capacity_((k + std::max(k, kMinSpare) + kPushColumns + 15) / 16 * 16) {
  const auto stride = static_cast<size_t>(capacity_ + kCandidateSlack);
  rows_ = workspace->take<Candidates>(static_cast<size_t>(rows));
  scores_ = workspace->take<float>(static_cast<size_t>(rows) * stride);
  positions_ = workspace->take<int32_t>(static_cast<size_t>(rows) * stride);
  scratch_ = workspace->take<int32_t>(2 * stride);
}

void CandidateRows::start(int32_t i) noexcept {
  const int64_t at = int64_t{i} * (capacity_ + kCandidateSlack);
  rows_[i] = {scores_ + at, positions_ + at, capacity_, 0, k_, false, 0.0f};
}

void CandidateRows::offer(int32_t i, const float *scores, const int32_t *positions, int32_t first_position,
                          int32_t begin, int32_t end) noexcept {
  Candidates &row = rows_[i];
  if (row.capacity - row.count < end - begin) {
    kernels_->reduce(row, (capacity_ - kPushColumns - k_) / 4, scratch_, capacity_ + kCandidateSlack);
  }
  kernels_->push(row, scores, positions, first_position, begin, end);
}

const Candidates &CandidateRows::finish(int32_t i) noexcept {
  kernels_->reduce(rows_[i], 0, scratch_, capacity_ + kCandidateSlack);
  return rows_[i];
}

void write_selection(const SelectionOut &out, int64_t r, const int32_t *positions, const float *scores,
                     int32_t count) noexcept {
  int32_t *indices = out.indices + r * out.index_stride;
  float *selected = out.scores == nullptr ? nullptr : out.scores + r * out.index_stride;
  if (out.order == IC_ORDER_SCORE && scores != nullptr) {
    for (int32_t i = 0; i < count; ++i) indices[i] = i;
    std::sort(indices, indices + count, Better{scores, positions});
    for (int32_t i = 0; i < count; ++i) {
      const int32_t at = indices[i];
      indices[i] = positions[at];
      if (selected != nullptr) selected[i] = scores[at];
    }
  } else {
    const auto bytes = static_cast<size_t>(count) * 4;
    if (positions != indices && count > 0) std::memcpy(indices, positions, bytes);
    if (selected != nullptr && scores != nullptr && count > 0) std::memcpy(selected, scores, bytes);
  }
  std::fill(indices + count, indices + out.k_padded, -1);
  if (selected != nullptr) std::fill(selected + count, selected + out.k_padded, -__builtin_inff());
  out.lengths[r] = count;
}

}  // namespace ic::cpu

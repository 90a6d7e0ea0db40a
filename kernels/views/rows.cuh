// SPDX-License-Identifier: Apache-2.0
// What a row of a batch sees, on the device. Values in arrays are the caller's: every one is checked.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "indexcache.h"

namespace ic::cuda {

/// Visible positions [begin, end) of sequence seq; begin == end: nothing.
struct RowRange {
  int32_t seq;
  int32_t begin;
  int32_t end;
};

/// Adds IC_FAULT_* bits to *fault for an illegal row, which is then empty.
__device__ inline RowRange row_range(const RowsView &rows, int32_t row, uint32_t *fault) {
  // All loads first: a work item waits for them.
  const int32_t end = rows.key_end[row];
  const int32_t begin = rows.key_begin == nullptr ? 0 : max(rows.key_begin[row], 0);
  const int32_t seq = rows.seq == nullptr ? 0 : rows.seq[row];
  if (end > rows.max_key_end) {
    *fault |= IC_FAULT_KEY_END;
    return {0, 0, 0};
  }
  if (end <= begin) return {0, 0, 0};
  if (seq < 0 || seq >= rows.num_seqs) {
    *fault |= IC_FAULT_SEQUENCE;
    return {0, 0, 0};
  }
  return {seq, begin, end};
}

/// ORs the bits that a thread has met into the sticky word.
__device__ inline void report_fault(uint32_t *word, uint32_t fault) {
  if (fault != 0 && word != nullptr) atomicOr(word, fault);
}

}  // namespace ic::cuda

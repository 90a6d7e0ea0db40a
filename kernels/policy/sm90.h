// SPDX-License-Identifier: Apache-2.0
// Which kernel serves which shape on Hopper (132 processors, H200): measured choices, apart from the algorithms.
#pragma once

#include <cstdint>

namespace ic::cuda::sm90 {

/// Shapes of kernels/topk/sm90/select.cu.
enum class SelectVariant : int32_t {
  kShortRows,  // many rows, three small blocks per processor
  kRows,
  kLongRows,
  kOneBlock,   // few rows, one large block per processor and row
  kTwoBlocks,  // clusters of two and eight per row
  kEightBlocks,
  kPortable  // kernels/topk/smxx
};

/// For a call of `rows` rows that end at most at `max_end`. The smallest list does not hold the ties of a plateau
/// beside k above 1024; small k it serves best.
inline SelectVariant select_variant(int32_t rows, int32_t max_end, int32_t k) {
  if (k > 2048 || max_end <= 6144) return SelectVariant::kPortable;
  if (rows > 264 || (rows > 132 && max_end < 24576)) {
    if (max_end <= 32768 && k <= 1024) return SelectVariant::kShortRows;
    return max_end <= 155000 ? SelectVariant::kRows : SelectVariant::kLongRows;
  }
  if (rows > 66 || max_end <= 32768) return SelectVariant::kOneBlock;
  return rows > 15 ? SelectVariant::kTwoBlocks : SelectVariant::kEightBlocks;
}

}  // namespace ic::cuda::sm90

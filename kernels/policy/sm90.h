// SPDX-License-Identifier: Apache-2.0
// Which kernel serves which shape on Hopper (132 processors, H200): measured choices, apart from the algorithms.
#pragma once

#include <cstdint>

namespace ic::cuda::sm90 {

/// Shapes of kernels/topk/sm90/select.cu.
enum class SelectVariant : int32_t {
  kSmall,   // many rows, four blocks per processor
  kMedium,  // three
  kLong,    // two
  kLongest,
  kOneBlock,  // few rows: one block per processor, one to eight per row
  kTwoBlocks,
  kFourBlocks,
  kEightBlocks,
  kPortable  // kernels/topk/smxx
};

/// For a call of `rows` rows that end at most at `max_end`.
inline SelectVariant select_variant(int32_t rows, int32_t max_end, int32_t k) {
  if (k > 2048 || max_end <= 2048) return SelectVariant::kPortable;
  if (rows <= 15 && max_end > 9180) return SelectVariant::kEightBlocks;
  if (rows <= 66 && max_end > 32768) return SelectVariant::kTwoBlocks;
  if (max_end <= 9180) return SelectVariant::kSmall;
  if (rows <= 132 && max_end <= 262000) return SelectVariant::kOneBlock;
  if (max_end <= 33700) return SelectVariant::kMedium;
  return max_end <= 132000 ? SelectVariant::kLong : SelectVariant::kLongest;
}

}  // namespace ic::cuda::sm90

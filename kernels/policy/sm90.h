// SPDX-License-Identifier: Apache-2.0
// Which kernel serves which shape on Hopper (132 processors, H200): measured choices, apart from the algorithms.
#pragma once

#include <cstdint>

namespace ic::cuda::sm90 {

/// Shapes of kernels/topk/sm90/select.cu.
enum class SelectVariant : int32_t {
  kSmall,      // three blocks per processor
  kMedium,     // two
  kLarge,      // one
  kTwoBlocks,  // clusters per row
  kFourBlocks,
  kEightBlocks,
  kPortable  // kernels/topk/smxx
};

/// For a call of `rows` rows that end at most at `max_end`.
inline SelectVariant select_variant(int32_t rows, int32_t max_end, int32_t k) {
  if (k > 2048 || max_end <= 2048) return SelectVariant::kPortable;
  if (max_end <= 12288) return SelectVariant::kSmall;
  if (rows > 66 || max_end <= 32768) return SelectVariant::kLarge;
  return rows > 15 ? SelectVariant::kTwoBlocks : SelectVariant::kEightBlocks;
}

}  // namespace ic::cuda::sm90

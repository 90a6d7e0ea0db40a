// SPDX-License-Identifier: Apache-2.0
// Which kernel serves which shape on Hopper (132 processors, H200): measured choices, apart from the algorithms.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/launch.h"

namespace ic::cuda::sm90 {

constexpr int32_t kMostSelected = 2048;   // k
constexpr int32_t kMostColumns = 262144;  // of a row, whatever the number of rows

enum class SelectVariant : int32_t {
  // kernels/topk/sm90_windows
  kSmallRows,   // many rows, four blocks per processor
  kMediumRows,  // three
  kOneWindow,   // one block per processor and row
  kTwoWindows,  // clusters of two, three, four and eight per row
  kThreeWindows,
  kFourWindows,
  kEightWindows,
  // kernels/topk/sm90_lists
  kListedRows,  // many long rows, three blocks per processor
  // kernels/topk/smxx
  kPortable
};

/// For a call of `rows` rows that end at most at `max_end`. A cluster per row only where all of them run at once:
/// another wave takes as long as the first.
inline SelectVariant select_variant(int32_t rows, int32_t max_end, int32_t k, const LaunchLimits &limits) {
  if (k > kMostSelected || max_end <= 2048 || max_end > kMostColumns) return SelectVariant::kPortable;
  const int32_t blocks = limits.max_ctas > 0 ? limits.max_ctas : INT32_MAX;
  const auto at_once = [&](int cluster) {
    return rows <= std::min(limits.resident_clusters[cluster], blocks / cluster);
  };
  if (max_end > 9180 && at_once(8)) return SelectVariant::kEightWindows;
  if (max_end > 32768) {
    if (at_once(4)) return SelectVariant::kFourWindows;
    if (at_once(3)) return SelectVariant::kThreeWindows;
    if (at_once(2)) return SelectVariant::kTwoWindows;
  }
  if (std::min(rows, blocks) <= limits.num_processors) return SelectVariant::kOneWindow;
  if (max_end <= 9180) return SelectVariant::kSmallRows;
  if (max_end <= 49000) return SelectVariant::kMediumRows;
  return max_end <= 230000 ? SelectVariant::kListedRows : SelectVariant::kOneWindow;
}

}  // namespace ic::cuda::sm90

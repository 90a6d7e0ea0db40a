// SPDX-License-Identifier: Apache-2.0
// Exact streaming selection of the k best: what every instruction level provides.
#pragma once

#include <cstdint>

namespace ic::cpu {

inline constexpr int kPushColumns = 256;    // most columns of one push
inline constexpr int kCandidateSlack = 16;  // elements behind a buffer that a kernel may overwrite

/// The candidates of one row, ascending by position. Offered keys come in ascending position too; so once k keys reach
/// `threshold`, a new one enters only with a score above it (a tie loses to the smaller positions), and dropping keys
/// never needs to look at positions.
struct Candidates {
  float *scores;       // [capacity + kCandidateSlack], no NaN, no -0
  int32_t *positions;  // likewise
  int32_t capacity;    // >= k + kPushColumns
  int32_t count;
  int32_t k;
  bool bounded;     // threshold holds
  float threshold;  // the k-th best score so far
};

struct SelectKernels {
  /// Offers columns [begin, end) of a row: scores[c] at positions[c], or at first_position + c when positions is null.
  /// NaN counts as -inf, -0 as +0. At most kPushColumns columns, and candidates.capacity - count must have room for
  /// them; reads whole vectors, up to 15 columns behind end.
  void (*push)(Candidates &candidates, const float *scores, const int32_t *positions, int32_t first_position,
               int32_t begin, int32_t end);

  /// When more than k are held, keeps the best in place and in order and sets the threshold: exactly k with spare 0,
  /// else k to k + spare, which takes less time. scratch holds two buffers of scratch_stride >= count +
  /// kCandidateSlack.
  void (*reduce)(Candidates &candidates, int32_t spare, int32_t *scratch, int64_t scratch_stride);
};

extern const SelectKernels kSelectPortable;
#if defined(__x86_64__)
extern const SelectKernels kSelectAvx2;
extern const SelectKernels kSelectAvx512;
#endif

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// The sparse attention kernel of each instruction level, and the scratch memory that it works in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ic::cpu {

/// Keys that are gathered, scored and accumulated together. Part of the arithmetic: the running maximum of the softmax
/// is renewed once per block.
inline constexpr int32_t kAttendBlockKeys = 64;

/// Some heads of one row.
struct AttendRow {
  const uint8_t *const *keys;  // [num_keys] tokens, in the order of the index list
  int32_t num_keys;
  int32_t num_heads;
  int32_t d_latent;  // multiple of 16
  int32_t d_rope;    // multiple of 16, or 0
  int32_t kv_dtype;  // IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_E4M3 (656-byte tokens)
  int32_t q_dtype;   // IC_DTYPE_F32 or IC_DTYPE_BF16
  int32_t out_dtype;
  float softmax_scale;
  const void *q;      // [num_heads, d_latent + d_rope]
  const float *sink;  // [num_heads] or null
  void *out;          // [num_heads, d_latent]
  float *lse;         // [num_heads] or null
};

/// Offsets, in floats, of the parts of the scratch memory; each part is a multiple of 64 floats.
struct AttendScratch {
  size_t queries;       // [d / 64 rounded up, num_heads, 64]
  size_t keys;          // [panels of 64 keys, d, panel]: keys transposed
  size_t values;        // [panels of d_latent, 64 keys, panel]
  size_t weights;       // [num_heads, 64]: scores, then softmax weights of a block
  size_t sums;          // [panels of d_latent, num_heads, panel]: running outputs
  size_t denominators;  // [num_heads, 16]
  size_t maxima;        // [num_heads]
  size_t rescales;      // [num_heads]
  size_t size;
};

/// Internal linkage: this header is included at every instruction level.
static inline AttendScratch attend_scratch(int32_t num_heads, int32_t d_latent, int32_t d_rope) {
  const size_t heads = static_cast<size_t>(num_heads);
  const size_t heads_padded = (heads + 63) / 64 * 64;
  const size_t d = static_cast<size_t>(d_latent) + static_cast<size_t>(d_rope);
  const size_t d_padded = (d + 63) / 64 * 64;
  const size_t d_latent_padded = (static_cast<size_t>(d_latent) + 63) / 64 * 64;
  AttendScratch s = {};
  s.queries = 0;
  s.keys = s.queries + heads * d_padded;
  s.values = s.keys + d_padded * kAttendBlockKeys;
  s.weights = s.values + d_latent_padded * kAttendBlockKeys;
  s.sums = s.weights + heads * kAttendBlockKeys;
  s.denominators = s.sums + heads * d_latent_padded;
  s.maxima = s.denominators + heads_padded * 16;
  s.rescales = s.maxima + heads_padded;
  s.size = s.rescales + heads_padded;
  return s;
}

struct AttendKernels {
  /// scratch: attend_scratch(row.num_heads, ...).size floats, aligned to 256 bytes, needs no clearing.
  void (*row)(const AttendRow &row, float *scratch);
  /// mass[entries[j]] = mean over the heads of the softmax weight of key j. Reads row as if it had no values: d_latent
  /// is 0 and d_rope all of the token's dimensions; out, out_dtype and lse are not looked at. entries: [num_keys].
  void (*mass)(const AttendRow &row, const int32_t *entries, float *mass, float *scratch);
};

extern const AttendKernels kAttendKernelsPortable;
#if defined(__x86_64__)
extern const AttendKernels kAttendKernelsAvx2;
extern const AttendKernels kAttendKernelsAvx512;
#endif

}  // namespace ic::cpu

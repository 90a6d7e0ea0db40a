// SPDX-License-Identifier: Apache-2.0
// Index scores of a tile of keys: what every instruction level provides.
#pragma once

#include <cstdint>

namespace ic::cpu {

inline constexpr int kPanelKeys = 64;  // keys side by side in a panel
inline constexpr int kTileKeys = 256;  // keys of a tile: four panels

/// One row against the panels [first_panel, end_panel) of a tile.
struct ScoreRow {
  const float *q;  // [num_heads, head_dim]
  const float *w;  // [num_heads], q_scale multiplied in
  float *scores;   // [kTileKeys]; whole panels are written
  int32_t first_panel;
  int32_t end_panel;
};

struct ScoreKernels {
  /// dst[i] = fp32 of element i of src, exact. count is a multiple of 16.
  void (*widen)(const void *src, int32_t dtype, int64_t count, float *dst);

  /// Writes keys[0 .. count) as fp32 into panels [panel][head_dim][kPanelKeys]; lanes of the last panel behind count
  /// repeat the last key. 1 <= count <= kTileKeys.
  void (*pack)(const uint8_t *const *keys, int32_t count, int32_t head_dim, int32_t dtype, float *panels);

  /// scores[key] = key_scales[key] * sum_h w[h] * relu(sum_d q[h][d] * k[key][d]), NaN made -inf and -0 made +0.
  /// Both sums are chains of fused multiply-adds in ascending order that start from +0. key_scales [kTileKeys] or null.
  void (*score)(const ScoreRow *rows, int32_t num_rows, int32_t num_heads, int32_t head_dim, const float *panels,
                const float *key_scales);
};

extern const ScoreKernels kScorePortable;
#if defined(__x86_64__)
extern const ScoreKernels kScoreAvx2;
extern const ScoreKernels kScoreAvx512;
#endif

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Index scores of a tile of keys, on sixteen-lane vectors. Include after one simd_*.h.
//
// Lanes are keys. A key tile lies transposed, [head_dim][64 keys], so that one step of d loads kVectors key vectors and
// multiplies each by kHeads broadcast query elements: kVectors * kHeads accumulators stay in registers for a whole dot
// product. What a lane computes does not depend on where in a tile its key lies, nor on its neighbours.
#include "cpu/isa/score_kernels.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

#ifndef IC_SCORE_VECTORS
#define IC_SCORE_VECTORS 1
#define IC_SCORE_HEADS 4
#endif
inline constexpr int kVectors = IC_SCORE_VECTORS;
inline constexpr int kHeads = IC_SCORE_HEADS;
static_assert(kPanelKeys % (kVectors * kLanes) == 0);

IC_INLINE F32 load_as_f32(const void *p, int64_t index, int32_t dtype) {
  switch (dtype) {
    case IC_DTYPE_F16:
      return load_f16(static_cast<const uint16_t *>(p) + index);
    case IC_DTYPE_BF16:
      return load_bf16(static_cast<const uint16_t *>(p) + index);
    case IC_DTYPE_E4M3:
      return load_e4m3(static_cast<const uint8_t *>(p) + index);
    default:
      return load(static_cast<const float *>(p) + index);
  }
}

void widen(const void *src, int32_t dtype, int64_t count, float *dst) {
  for (int64_t i = 0; i < count; i += kLanes) store(dst + i, load_as_f32(src, i, dtype));
}

template <int32_t kDtype>
void pack_typed(const uint8_t *const *keys, int32_t count, int32_t head_dim, float *panels) {
  for (int32_t first = 0; first < count; first += kLanes) {
    const uint8_t *key[kLanes];
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      key[lane] = keys[first + lane < count ? first + lane : count - 1];
    }
    float *panel = panels + static_cast<int64_t>(first / kPanelKeys) * head_dim * kPanelKeys + first % kPanelKeys;
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      F32 block[kLanes];
      for (int32_t lane = 0; lane < kLanes; ++lane) block[lane] = load_as_f32(key[lane], d, kDtype);
      transpose(block);
      for (int32_t i = 0; i < kLanes; ++i) store(panel + (d + i) * kPanelKeys, block[i]);
    }
  }
  // A kernel reads whole panels; what it finds behind the last key is finite work that nobody looks at.
  const int32_t filled = (count + kLanes - 1) / kLanes * kLanes;
  const int32_t end = (count + kPanelKeys - 1) / kPanelKeys * kPanelKeys;
  for (int32_t first = filled; first < end; first += kLanes) {
    float *panel = panels + static_cast<int64_t>(first / kPanelKeys) * head_dim * kPanelKeys + first % kPanelKeys;
    for (int32_t d = 0; d < head_dim; ++d) store(panel + d * kPanelKeys, zero());
  }
}

void pack(const uint8_t *const *keys, int32_t count, int32_t head_dim, int32_t dtype, float *panels) {
  switch (dtype) {
    case IC_DTYPE_F16:
      return pack_typed<IC_DTYPE_F16>(keys, count, head_dim, panels);
    case IC_DTYPE_BF16:
      return pack_typed<IC_DTYPE_BF16>(keys, count, head_dim, panels);
    case IC_DTYPE_E4M3:
      return pack_typed<IC_DTYPE_E4M3>(keys, count, head_dim, panels);
    default:
      return pack_typed<IC_DTYPE_F32>(keys, count, head_dim, panels);
  }
}

/// Adds kCount heads to the head sums of kVectors key vectors.
template <int kCount>
IC_INLINE void add_heads(const float *q, const float *w, int32_t head_dim, const float *keys, F32 (&sum)[kVectors]) {
  F32 dot[kCount][kVectors];
  for (int h = 0; h < kCount; ++h) {
    for (int v = 0; v < kVectors; ++v) dot[h][v] = zero();
  }
  for (int32_t d = 0; d < head_dim; ++d) {
    F32 k[kVectors];
    for (int v = 0; v < kVectors; ++v) k[v] = load(keys + d * kPanelKeys + v * kLanes);
    for (int h = 0; h < kCount; ++h) {
      const F32 element = set1(q[h * head_dim + d]);
      for (int v = 0; v < kVectors; ++v) dot[h][v] = fma(element, k[v], dot[h][v]);
    }
  }
  for (int h = 0; h < kCount; ++h) {
    const F32 weight = set1(w[h]);
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(weight, relu(dot[h][v]), sum[v]);
  }
}

void score_panel(const ScoreRow &row, int32_t num_heads, int32_t head_dim, const float *panel, const float *key_scales,
                 float *scores) {
  for (int32_t first = 0; first < kPanelKeys; first += kVectors * kLanes) {
    const float *keys = panel + first;
    F32 sum[kVectors];
    for (int v = 0; v < kVectors; ++v) sum[v] = zero();
    int32_t h = 0;
    for (; h + kHeads <= num_heads; h += kHeads) {
      add_heads<kHeads>(row.q + h * head_dim, row.w + h, head_dim, keys, sum);
    }
    for (; h < num_heads; ++h) add_heads<1>(row.q + h * head_dim, row.w + h, head_dim, keys, sum);
    for (int v = 0; v < kVectors; ++v) {
      const int32_t at = first + v * kLanes;
      F32 score = key_scales == nullptr ? sum[v] : mul(load(key_scales + at), sum[v]);
      score = add(score, zero());  // -0 to +0
      store(scores + at, select(eq(score, score), score, set1(-__builtin_inff())));
    }
  }
}

void score(const ScoreRow *rows, int32_t num_rows, int32_t num_heads, int32_t head_dim, const float *panels,
           const float *key_scales) {
  for (int32_t p = 0; p < kTileKeys / kPanelKeys; ++p) {  // a panel stays in the first cache level for all rows
    const float *panel = panels + static_cast<int64_t>(p) * head_dim * kPanelKeys;
    for (int32_t r = 0; r < num_rows; ++r) {
      const ScoreRow &row = rows[r];
      if (p < row.first_panel || p >= row.end_panel) continue;
      score_panel(row, num_heads, head_dim, panel, key_scales == nullptr ? nullptr : key_scales + p * kPanelKeys,
                  row.scores + p * kPanelKeys);
    }
  }
}

}  // namespace
}  // namespace ic::cpu

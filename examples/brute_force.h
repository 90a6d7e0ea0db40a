/* SPDX-License-Identifier: Apache-2.0 */
/* What engine_loop.c compares the library with: the steps of the header's comments, one key at a time. */
#ifndef INDEXCACHE_EXAMPLES_BRUTE_FORCE_H
#define INDEXCACHE_EXAMPLES_BRUTE_FORCE_H

#include <indexcache.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "toy_engine.h"

static float decode_e4m3(uint8_t byte) {
  const int exponent = byte >> 3 & 15, fraction = byte & 7;
  const float value = exponent ? ldexpf((float)(8 + fraction), exponent - 10) : ldexpf((float)fraction, -9);
  return byte & 128 ? -value : value;
}

/* Reads the e4m3 key at `slot` of a paged pool, returns its scale. */
static float load_key(const uint8_t *pool, int64_t slot, int page_tokens, float *key) {
  const uint8_t *const page = pool + slot / page_tokens * (page_tokens * (kDim + 4));
  float scale;
  for (int d = 0; d < kDim; ++d) key[d] = decode_e4m3(page[slot % page_tokens * kDim + d]);
  memcpy(&scale, page + page_tokens * kDim + slot % page_tokens * 4, sizeof scale);
  return scale;
}

/* 1 when (scale, key) is what preparation must make of x: LayerNorm, rotation of pairs (2i, 2i + 1) among the first
 * kRope dimensions, Hadamard, one scale that is a power of two, e4m3. */
static int key_matches(const float *x, int layer, int position, float scale, const float *key) {
  double y[kDim], mean = 0, variance = 0, amax = 1e-4;
  int good = 1;
  for (int d = 0; d < kDim; ++d) mean += (double)x[d] / kDim;
  for (int d = 0; d < kDim; ++d) variance += (x[d] - mean) * (x[d] - mean) / kDim;
  for (int d = 0; d < kDim; ++d)
    y[d] = (x[d] - mean) / sqrt(variance + kNormEps) * model[layer].norm_weight[d] + model[layer].norm_bias[d];
  for (int i = 0; i < kRope / 2; ++i) {
    const double c = cos_table[position][i], s = sin_table[position][i], even = y[2 * i], odd = y[2 * i + 1];
    y[2 * i] = even * c - odd * s;
    y[2 * i + 1] = odd * c + even * s;
  }
  for (int i = 0; i < kDim; ++i) {
    double z = 0;
    for (int j = 0; j < kDim; ++j) {
      int odd = 0; /* the sign of a Hadamard element: the parity of the bits that i and j share */
      for (int bits = i & j; bits; bits &= bits - 1) odd ^= 1;
      z += (odd ? -y[j] : y[j]) / sqrt(kDim);
    }
    amax = fmax(amax, fabs(z));
    good &= fabs((double)key[i] * scale - z) <= fmax(fabs(z) / 16, scale / 512.0) + 1e-5; /* e4m3 has 3 + 1 bits */
  }
  return good && scale == (float)exp2(ceil(log2(amax / 448)));
}

/* The score of a key for one row, with the chains of fused multiply-adds that make up the numerics of the CPU. */
static float score_key(const uint8_t *q, const float *q_scale, const float *w, float scale, const float *key) {
  float sum = 0.0f;
  for (int h = 0; h < kHeads; ++h) {
    const float weight = w[h] * q_scale[h];
    float dot = 0.0f;
    for (int d = 0; d < kDim; ++d) dot = fmaf(decode_e4m3(q[h * kDim + d]), key[d], dot);
    sum = fmaf(weight, dot > 0.0f ? dot : 0.0f, sum);
  }
  return scale * sum;
}

/* 1 when `indices` are exactly the k best of n scores, ties to the smaller position: ascending, and -1 behind up to
 * `padded`. */
static int selection_matches(const float *scores, int n, const int32_t *indices, int length, int padded) {
  if (length != (n < kTopK ? n : kTopK)) return 0;
  for (int i = 0, s = 0; s < n; ++s) {
    int better = 0;
    for (int o = 0; o < n; ++o) better += scores[o] > scores[s] || (scores[o] == scores[s] && o < s);
    if (better < kTopK && indices[i++] != s) return 0;
  }
  for (int i = length; i < padded; ++i)
    if (indices[i] != -1) return 0;
  return 1;
}

static void check_key(const ic_pool *keys, const Projection *x, int32_t layer, int32_t position, int64_t slot) {
  float key[kDim];
  const float scale = load_key(keys->data, slot, kIndexPage, key);
  if (!key_matches(x->k, layer, position, scale, key)) FAIL("layer %d: wrong key at %d", (int)layer, (int)position);
}

static void check_selection(const ic_pool *keys, const Rows *rows, int32_t r, const uint8_t *q, const float *q_scale,
                            const float *w, const ic_index_view *view) {
  float scores[kMaxTokens];
  for (int32_t s = 0; s < rows->key_end[r]; ++s) {
    float key[kDim];
    const float scale = load_key(keys->data, slot_of(&index_pages, rows->seq[r], s), kIndexPage, key);
    scores[s] = score_key(q, q_scale, w, scale, key);
  }
  if (!selection_matches(scores, rows->key_end[r], view->indices + r * view->row_stride, view->lengths[r],
                         IC_K_PADDED(kTopK)))
    FAIL("layer %d: wrong indices at %d", (int)view->source_layer, (int)rows->position[r]);
}

static int count_common(const int32_t *a, int a_length, const int32_t *b, int b_length) {
  int count = 0;
  for (int i = 0; i < a_length; ++i)
    for (int j = 0; j < b_length; ++j) count += a[i] == b[j];
  return count;
}

/* Attention of one row over `slots`, in double; also the "own attention" of the engine. */
static void attend_slots(float *out, const float *q, uint16_t (*kv)[kKv], const int32_t *slots, int length) {
  for (int h = 0; h < kQHeads; ++h, q += kKv, out += kLatent) {
    double p[kTopK], most = -INFINITY, sum = 0, acc[kLatent] = {0};
    for (int i = 0; i < length; ++i) {
      p[i] = 0;
      for (int d = 0; d < kKv; ++d) p[i] += (double)kScale * q[d] * from_bf16(kv[slots[i]][d]);
      most = fmax(most, p[i]);
    }
    for (int i = 0; i < length; ++i) {
      sum += p[i] = exp(p[i] - most);
      for (int d = 0; d < kLatent; ++d) acc[d] += p[i] * from_bf16(kv[slots[i]][d]);
    }
    for (int d = 0; d < kLatent; ++d) out[d] = (float)(acc[d] / sum);
  }
}

#endif

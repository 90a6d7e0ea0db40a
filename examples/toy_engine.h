/* SPDX-License-Identifier: Apache-2.0 */
/* What engine_loop.c has that knows nothing of the library: a small random model, requests and rows, pages. */
#ifndef INDEXCACHE_EXAMPLES_TOY_ENGINE_H
#define INDEXCACHE_EXAMPLES_TOY_ENGINE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(...) (fprintf(stderr, "engine_loop: " __VA_ARGS__), fputc('\n', stderr), exit(EXIT_FAILURE))

/* --- the model --- */

enum { kLayers = 8, kMtp = kLayers, kHidden = 32, kVocab = 24, kMaxTokens = 128 }; /* the MTP layer comes last */
enum { kHeads = 4, kDim = 32, kRope = 16, kTopK = 16 };                      /* indexer; kRope: rotated dimensions */
enum { kQHeads = 2, kLatent = 32, kKv = 32 + 16, kOut = kQHeads * kLatent }; /* attention; kKv: latent and rotary */
static const float kScale = 0.15f, kNormEps = 1e-6f;                         /* kScale: of the softmax */

typedef struct { /* what one matrix makes of a row's hidden state: fused, so the library gets strides */
  float q[kHeads * kDim], k[kDim], w[kHeads], mla_q[kQHeads * kKv], kv[kKv];
} Projection;
enum { kStride = sizeof(Projection) / sizeof(float) };

static struct {
  float in[kStride * kHidden], out[kHidden * kOut], norm_weight[kDim], norm_bias[kDim];
} model[kLayers + 1];
static float embedding[kVocab][kHidden], head[kVocab * kHidden];
static float cos_table[kMaxTokens][kRope / 2], sin_table[kMaxTokens][kRope / 2];

static float random_float(void) { /* [-1, 1), the same on every machine */
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(int32_t)(state >> 8) / 8388608.0f - 1.0f;
}

static void fill(float *x, size_t bytes, float center, float scale) {
  for (size_t i = 0; i < bytes / sizeof *x; ++i) x[i] = center + scale * random_float();
}

static void make_model(void) {
  for (int l = 0; l <= kMtp; ++l) {
    fill(model[l].in, sizeof model[l].in, 0.0f, 0.3f);
    fill(model[l].out, sizeof model[l].out, 0.0f, 0.12f);
    fill(model[l].norm_weight, sizeof model[l].norm_weight, 1.0f, 0.1f);
    fill(model[l].norm_bias, sizeof model[l].norm_bias, 0.0f, 0.1f);
  }
  fill(embedding[0], sizeof embedding, 0.0f, 1.0f);
  fill(head, sizeof head, 0.0f, 1.0f);
  for (int p = 0; p < kMaxTokens; ++p)
    for (int i = 0; i < kRope / 2; ++i) {
      cos_table[p][i] = (float)cos(p * pow(10000.0, -2.0 * i / kRope));
      sin_table[p][i] = (float)sin(p * pow(10000.0, -2.0 * i / kRope));
    }
}

static void matvec(float *out, const float *matrix, const float *x, int n, int width) {
  for (int i = 0; i < n; ++i) {
    out[i] = 0.0f;
    for (int j = 0; j < width; ++j) out[i] += matrix[i * width + j] * x[j];
  }
}

static void add(float *x, const float *y) {
  for (int d = 0; d < kHidden; ++d) x[d] += y[d];
}

static void project(Projection *out, int layer, const float *hidden) {
  matvec((float *)out, model[layer].in, hidden, kStride, kHidden);
  for (int h = 0; h < kHeads; ++h) out->w[h] /= sqrtf(kHeads * kDim);
}

static uint16_t to_bf16(float x) { /* to nearest even; no NaN comes here */
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static float from_bf16(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static int32_t best_token(const float *hidden) {
  float logits[kVocab];
  int32_t best = 0;
  matvec(logits, head, hidden, kVocab, kHidden);
  for (int32_t i = 1; i < kVocab; ++i) best = logits[i] > logits[best] ? i : best;
  return best;
}

/* --- requests, rows, pages --- */

enum { kMaxRows = 64, kChunk = 20, kSeqs = 3, kRequests = 5, kDrafts = 3 };
enum { kIndexPage = 16, kIndexPages = 24, kKvPage = 32, kKvPages = 12 }; /* keys of a page, pages of a layer's pool */
enum { kIndexPoolBytes = kIndexPages * kIndexPage * (kDim + 4) }; /* of a layer: e4m3 and one fp32 scale per key */

typedef struct {
  int32_t tokens[kMaxTokens], length, want; /* prompt and what was generated; tokens so far; where it ends */
  int32_t computed;                         /* positions whose keys are in the pools for good */
  int32_t drafts[kDrafts], num_drafts;
} Request;

typedef struct {             /* the query tokens of a forward */
  int32_t count, num_decode; /* decode rows come first: a part of their own */
  int32_t seq[kMaxRows], position[kMaxRows], key_end[kMaxRows], token[kMaxRows];
  float hidden[kMaxRows][kHidden];
} Rows;

enum { kTableStride = kMaxTokens / kIndexPage };
typedef struct { /* pages of one size; a page has the same number in the pool of every layer */
  int32_t page_tokens, num_free, free_pages[kIndexPages], table[kSeqs][kTableStride];
} Pages;

static void add_row(Rows *rows, int32_t seq, int32_t position, int32_t token) {
  const int32_t r = rows->count++;
  rows->seq[r] = seq;
  rows->position[r] = position;
  rows->key_end[r] = position + 1;
  rows->token[r] = token;
  memcpy(rows->hidden[r], embedding[token], sizeof embedding[token]);
}

static Pages index_pages = {.page_tokens = kIndexPage}, kv_pages = {.page_tokens = kKvPage};

static void pages_init(Pages *p, int32_t count) {
  memset(p->table, -1, sizeof p->table);
  for (int32_t i = 0; i < count; ++i) p->free_pages[p->num_free++] = (i * 5 + 3) % count; /* in no order */
}

static void pages_grow(Pages *p, int32_t seq, int32_t tokens) {
  for (int32_t b = 0; b * p->page_tokens < tokens; ++b) {
    if (p->table[seq][b] >= 0) continue;
    if (p->num_free == 0) FAIL("no free page");
    p->table[seq][b] = p->free_pages[--p->num_free];
  }
}

static void pages_release(Pages *p, int32_t seq) {
  for (int32_t b = 0; b < kMaxTokens / p->page_tokens; ++b) {
    if (p->table[seq][b] >= 0) p->free_pages[p->num_free++] = p->table[seq][b];
    p->table[seq][b] = -1;
  }
}

static int64_t slot_of(const Pages *p, int32_t seq, int32_t position) {
  return (int64_t)p->table[seq][position / p->page_tokens] * p->page_tokens + position % p->page_tokens;
}

#endif

// SPDX-License-Identifier: Apache-2.0
// Inputs that look like a model's, made on the device: from a hash of seed and place, so every run has the same.
#pragma once

#include <cstdint>

namespace bench {

/// count numbers of a standard normal distribution; IC_DTYPE_F32 or IC_DTYPE_BF16.
void fill_normal(void *out, int32_t dtype, int64_t count, uint32_t seed);

/// Head weights: uniform in (0, scale).
void fill_weights(float *out, int64_t count, float scale, uint32_t seed);

/// Indexer queries, e4m3 [count, dim]: normal noise and a direction that all have in common.
void fill_index_queries(void *out, int64_t count, int32_t dim, uint32_t seed);

/// Index keys, e4m3, with their scales. Each has the common direction in an amount of its own, so that the heads agree
/// on what is worth reading, and the newest keys have most of it: scores of a row cluster as a trained model's do.
struct IndexKeys {
  void *data;            // contiguous: [count, dim]; paged: pages of page_tokens keys, then their scales
  float *scales;         // contiguous: [count]
  const int32_t *pages;  // [count / page_tokens] device memory: page of each block; contiguous: null
  int32_t page_tokens;
  int64_t count;  // keys of all sequences
  int64_t per_sequence;
  int32_t dim;
};
void fill_index_keys(const IndexKeys &keys, uint32_t seed);

/// Latent KV: tokens of 656 bytes (512 e4m3, 4 fp32 scales, 64 bf16).
void fill_kv_fp8(void *out, int64_t tokens, uint32_t seed);

/// fp32 scores [rows, length] as 64 heads make them: sum of w * relu(noise + what the heads agree on), and a bump at
/// the newest keys.
void fill_clustered_scores(float *out, int64_t rows, int64_t length, uint32_t seed);

/// Ascending random positions [rows, k] below `keys` (a multiple of k): one of every keys / k.
void fill_indices(int32_t *out, int64_t rows, int32_t k, int32_t keys, uint32_t seed);

/// How many of the rows [rows, stride] are not the exact selection of k from scores [rows, length]: ascending
/// positions, of which the worst is beaten by exactly k - 1 keys of the row, ties to the smaller position.
int64_t count_wrong_rows(const float *scores, int64_t rows, int64_t length, const int32_t *indices, int64_t stride,
                         const int32_t *lengths, int32_t k);

}  // namespace bench

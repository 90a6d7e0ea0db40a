// SPDX-License-Identifier: Apache-2.0
// How a call of sparse attention is cut into work items, and the launches that the cut leads to.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/params.h"

namespace ic::cuda {

// A row's result is defined over pieces of this many entries of its list, whatever the batch: each piece starts afresh,
// and pieces are joined in order by join() of softmax.cuh.
constexpr int32_t kSplitEntries = 512;

struct AttendPlan {
  int64_t num_items;    // rows * splits * head_tiles, the tiles of a row next to each other
  int32_t splits;       // 0: a CTA walks all splits of its row. Else one item per split; join_splits() follows
  int32_t head_tiles;   // per row
  int32_t page_shift;   // log2(page_tokens); 0 for a contiguous pool
  int32_t stages;       // blocks of keys in shared memory (tensor cores, bf16)
  int32_t q_aligned;    // 1: every query head starts on 16 bytes
  int32_t out_aligned;  // 1: pairs of output elements can be stored at once
};

/// What one split leaves, of the split mode: [row][split][head].
struct SplitResult {
  float maximum;      // of its scores; -inf when it has no key
  float denominator;  // sum of exp(score - maximum)
};

/// The workspace of the split mode; behind the results lie the weighted sums [row][split][head][d_latent].
__host__ __device__ inline int64_t split_results_bytes(int64_t count) {
  return (count * static_cast<int64_t>(sizeof(SplitResult)) + 255) / 256 * 256;
}
__device__ inline SplitResult *split_results(const AttendParams &p) { return static_cast<SplitResult *>(p.workspace); }
__device__ inline float *split_sums(const AttendParams &p, int32_t splits) {
  const int64_t count = int64_t{p.rows.count} * splits * p.num_heads;
  return reinterpret_cast<float *>(static_cast<uint8_t *>(p.workspace) + split_results_bytes(count));
}

// ---- tensor cores: bf16 queries, d_latent 512, d_rope 64 ---------------------------------------------------------
cudaError_t load_attend_mma();
/// Stages that fit into a CTA's shared memory with tiles of `heads` (16 or 64); 0 = none.
int32_t attend_mma_stages(int32_t heads, int32_t kv_dtype, int64_t shared_bytes);
cudaError_t launch_attend_mma(const AttendParams &params, const AttendPlan &plan, int32_t heads, unsigned num_ctas,
                              cudaStream_t stream);

// ---- CUDA cores: everything else ---------------------------------------------------------------------------------
constexpr int32_t kF32TileHeads = 8;
cudaError_t load_attend_f32();
cudaError_t launch_attend_f32(const AttendParams &params, const AttendPlan &plan, unsigned num_ctas,
                              cudaStream_t stream);

// ---- second launch of the split mode -----------------------------------------------------------------------------
cudaError_t load_join_splits();
cudaError_t launch_join_splits(const AttendParams &params, const AttendPlan &plan, unsigned num_ctas,
                               cudaStream_t stream);

}  // namespace ic::cuda

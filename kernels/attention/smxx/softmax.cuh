// SPDX-License-Identifier: Apache-2.0
// How splits of a row are joined and a row is finished: the one arithmetic of both modes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/params.h"
#include "indexcache.h"
#include "kernels/attention/smxx/plan.h"
#include "kernels/ptx/bf16.cuh"

namespace ic::cuda {

/// What is subtracted from scores: their maximum, or 0 when all are -inf (weights are then 0, not NaN).
__device__ inline float exponent_base(float maximum) { return maximum == -INFINITY ? 0.0f : maximum; }

/// A row before any split: {-inf, 0}, sums 0.
struct JoinWeights {
  float total;  // sums = fma(sums, total, split * weight of the split)
  float split;
};

/// Adds a split to the running state of its row.
__device__ inline JoinWeights join(SplitResult &total, const SplitResult &split) {
  const float maximum = fmaxf(total.maximum, split.maximum);
  const float base = exponent_base(maximum);
  const JoinWeights weights = {expf(__fsub_rn(total.maximum, base)), expf(__fsub_rn(split.maximum, base))};
  total.denominator = __fmaf_rn(total.denominator, weights.total, __fmul_rn(split.denominator, weights.split));
  total.maximum = maximum;
  return weights;
}

__device__ inline float join_sum(float total, float split, const JoinWeights &weights) {
  return __fmaf_rn(total, weights.total, __fmul_rn(split, weights.split));
}

/// The factor that makes outputs of sums; negative for a row without weight, whose outputs are zeros whatever the sums
/// are.
__device__ inline float output_factor(const AttendParams &p, const SplitResult &total, int32_t head) {
  if (total.denominator == 0.0f) return -1.0f;
  float denominator = total.denominator;
  if (p.sink != nullptr) {
    // Beyond the range of exp the sink takes all: an infinite denominator gives zeros.
    const float distance = __fsub_rn(p.sink[head], total.maximum);
    denominator = __fadd_rn(denominator, distance > 88.0f ? INFINITY : expf(distance));
  }
  return __frcp_rn(denominator);
}

__device__ inline void store_lse(const AttendParams &p, const SplitResult &total, int32_t row, int32_t head) {
  if (p.lse == nullptr) return;
  const float l = total.denominator;
  float lse = l;  // NaN or infinite
  if (l == 0.0f) {
    lse = -INFINITY;
  } else if (l > 0.0f && l < INFINITY) {
    lse = __fadd_rn(total.maximum, logf(l));
  }
  p.lse[row * p.lse_row_stride + head] = lse;
}

/// First element of a head's output.
__device__ inline int64_t output_at(const AttendParams &p, int32_t row, int32_t head) {
  return row * p.out_row_stride + int64_t{head} * p.d_latent;
}

__device__ inline float scaled_output(float sum, float factor) { return factor < 0.0f ? 0.0f : __fmul_rn(sum, factor); }

__device__ inline void store_output(const AttendParams &p, int64_t at, float value) {
  if (p.out_dtype == IC_DTYPE_F32) {
    static_cast<float *>(p.out)[at] = value;
  } else {
    static_cast<uint16_t *>(p.out)[at] = static_cast<uint16_t>(ptx::bf16x2_from_f32(value, 0.0f));
  }
}

/// Two neighbours; `at` is even and the plan's out_aligned says whether both go at once.
__device__ inline void store_output_pair(const AttendParams &p, bool aligned, int64_t at, float first, float second) {
  if (!aligned) {
    store_output(p, at, first);
    store_output(p, at + 1, second);
  } else if (p.out_dtype == IC_DTYPE_F32) {
    *reinterpret_cast<float2 *>(static_cast<float *>(p.out) + at) = float2{first, second};
  } else {
    *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(p.out) + at) = ptx::bf16x2_from_f32(first, second);
  }
}

/// Zeros and -inf for `heads` heads of a row without keys; all threads of the CTA take part.
__device__ inline void store_empty_row(const AttendParams &p, int32_t row, int32_t head, int32_t heads) {
  for (int32_t i = threadIdx.x; i < heads * p.d_latent; i += blockDim.x) {
    store_output(p, output_at(p, row, head) + i, 0.0f);
  }
  if (p.lse == nullptr) return;
  for (int32_t h = threadIdx.x; h < heads; h += blockDim.x) p.lse[row * p.lse_row_stride + head + h] = -INFINITY;
}

}  // namespace ic::cuda

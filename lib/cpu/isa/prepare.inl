// SPDX-License-Identifier: Apache-2.0
// One row of preparation; the arithmetic is stated in cpu/prepare.h. Plain loops of fixed length: IEEE operations
// without contraction give the same bits however a compiler vectorises them.
#include "cpu/convert.h"
#include "cpu/isa/prepare_kernels.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

template <int D>
void load_vector(const uint8_t *x, int32_t dtype, float *v) {
  if (dtype == IC_DTYPE_F32) {
    __builtin_memcpy(v, x, D * sizeof(float));
    return;
  }
  uint16_t codes[D];
  __builtin_memcpy(codes, x, sizeof codes);
  if (dtype == IC_DTYPE_BF16) {
    for (int i = 0; i < D; ++i) v[i] = f32_from_bf16(codes[i]);
  } else {
    for (int i = 0; i < D; ++i) v[i] = f32_from_f16(codes[i]);
  }
}

// The tree of prepare.h; destroys v.
template <int D>
float tree_sum(float *v) {
  for (int i = 0; i < D / 2; ++i) v[i] += v[i + D / 2];
  if constexpr (D > 2) {
    return tree_sum<D / 2>(v);
  } else {
    return v[0];
  }
}

template <int D>
void layer_norm(const float *weight, const float *bias, float eps, float *v) {
  constexpr float kInverse = 1.0f / D;
  float scratch[D];
  for (int i = 0; i < D; ++i) scratch[i] = v[i];
  const float mean = tree_sum<D>(scratch) * kInverse;
  for (int i = 0; i < D; ++i) v[i] -= mean;
  for (int i = 0; i < D; ++i) scratch[i] = v[i] * v[i];
  const float variance = tree_sum<D>(scratch) * kInverse;
  const float rstd = 1.0f / __builtin_sqrtf(variance + eps);
  for (int i = 0; i < D; ++i) v[i] = v[i] * rstd * weight[i];
  if (bias != nullptr) {
    for (int i = 0; i < D; ++i) v[i] += bias[i];
  }
}

inline void rotate_interleaved(const float *cosine, const float *sine, int32_t pairs, float *v) {
  for (int32_t i = 0; i < pairs; ++i) {
    const float a = v[2 * i], b = v[2 * i + 1];
    v[2 * i] = a * cosine[i] - b * sine[i];
    v[2 * i + 1] = b * cosine[i] + a * sine[i];
  }
}

inline void rotate_half_split(const float *cosine, const float *sine, int32_t pairs, float *v) {
  for (int32_t i = 0; i < pairs; ++i) {
    const float a = v[i], b = v[i + pairs];
    v[i] = a * cosine[i] - b * sine[i];
    v[i + pairs] = b * cosine[i] + a * sine[i];
  }
}

// Every stage pairs neighbours and writes sums to the lower half, differences to the upper one: the index bits turn by
// one, so that log2(D) equal stages are the butterflies at distance 1, 2, 4, ... and end in natural order.
template <int D, int kStage>
void hadamard_stages(float *from, float *to) {
  if constexpr (kStage < D) {
    for (int i = 0; i < D / 2; ++i) {
      const float a = from[2 * i], b = from[2 * i + 1];
      to[i] = a + b;
      to[i + D / 2] = a - b;
    }
    hadamard_stages<D, 2 * kStage>(to, from);
  }
}

constexpr int log2_of(int n) { return n <= 1 ? 0 : 1 + log2_of(n / 2); }

template <int D>
void hadamard(float *v) {
  // fp32(D^-1/2): exact for even powers of two, else a power of two times the fp32 nearest sqrt(1/2).
  constexpr float kScale =
      (log2_of(D) % 2 == 0 ? 1.0f : 0.70710678118654752f) / static_cast<float>(1 << (log2_of(D) / 2));
  float other[D];
  hadamard_stages<D, 1>(v, other);
  const float *result = log2_of(D) % 2 == 0 ? v : other;
  for (int i = 0; i < D; ++i) v[i] = result[i] * kScale;
}

template <int D>
void store_e4m3(const float *v, bool power_of_two, uint8_t *out, uint8_t *scale_out) {
  // Magnitudes order like their bits, and a NaN is above all of them.
  uint32_t amax = 0;
  for (int i = 0; i < D; ++i) {
    const uint32_t magnitude = bits_from_f32(v[i]) & 0x7fffffffu;
    amax = magnitude > amax ? magnitude : amax;
  }
  float scale = e4m3_scale(f32_from_bits(amax));
  if (power_of_two) scale = power_of_two_scale(scale);
  for (int i = 0; i < D; ++i) out[i] = e4m3_from_f32(v[i] / scale);
  __builtin_memcpy(scale_out, &scale, sizeof scale);
}

template <int D>
void store_vector(const float *v, int32_t dtype, bool power_of_two, uint8_t *out, uint8_t *scale_out) {
  if (dtype == IC_DTYPE_F32) {
    __builtin_memcpy(out, v, D * sizeof(float));
  } else if (dtype == IC_DTYPE_E4M3) {
    store_e4m3<D>(v, power_of_two, out, scale_out);
  } else {
    uint16_t codes[D];
    if (dtype == IC_DTYPE_BF16) {
      for (int i = 0; i < D; ++i) codes[i] = bf16_from_f32(v[i]);
    } else {
      for (int i = 0; i < D; ++i) codes[i] = f16_from_f32(v[i]);
    }
    __builtin_memcpy(out, codes, sizeof codes);
  }
}

template <int D>
void prepare_row(const PrepareParams &params, const void *x, const float *cosine, const float *sine, uint8_t *out,
                 uint8_t *scales) {
  const int64_t in_bytes = D * (params.x_dtype == IC_DTYPE_F32 ? 4 : 2);
  const int64_t out_bytes = D * (params.dtype == IC_DTYPE_F32 ? 4 : params.dtype == IC_DTYPE_E4M3 ? 1 : 2);
  const int32_t rope_begin = (params.flags & IC_PREPARE_ROPE_LAST) != 0 ? D - params.rope_dim : 0;
  const int32_t pairs = params.rope_dim / 2;
  alignas(64) float v[D];
  for (int32_t h = 0; h < params.num_heads; ++h) {
    load_vector<D>(static_cast<const uint8_t *>(x) + h * in_bytes, params.x_dtype, v);
    if (params.norm_weight != nullptr) layer_norm<D>(params.norm_weight, params.norm_bias, params.norm_eps, v);
    if ((params.flags & IC_PREPARE_ROPE_INTERLEAVED) != 0) {
      rotate_interleaved(cosine, sine, pairs, v + rope_begin);
    } else {
      rotate_half_split(cosine, sine, pairs, v + rope_begin);
    }
    if ((params.flags & IC_PREPARE_HADAMARD) != 0) hadamard<D>(v);
    store_vector<D>(v, params.dtype, (params.flags & IC_PREPARE_UE8M0) != 0, out + h * out_bytes,
                    scales == nullptr ? nullptr : scales + h * 4);
  }
}

void prepare_row_of_any_dim(const PrepareParams &params, const void *x, const float *cosine, const float *sine,
                            uint8_t *out, uint8_t *scales) {
  switch (params.head_dim) {
    case 32:
      return prepare_row<32>(params, x, cosine, sine, out, scales);
    case 64:
      return prepare_row<64>(params, x, cosine, sine, out, scales);
    case 128:
      return prepare_row<128>(params, x, cosine, sine, out, scales);
    default:
      return;
  }
}

constexpr PrepareKernels kKernels = {prepare_row_of_any_dim};

}  // namespace
}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Preparation of queries and keys: LayerNorm, rotation, Hadamard, rounding, in one launch and in the CPU backend's
// arithmetic (lib/cpu/prepare.h): every fp32 operation is rounded on its own and in the stated order.
//
// Bound: bytes, each vector read once and written once; the table rows of a position serve all its heads.
//
//   group of lanes  D / 8 lanes hold one vector, eight consecutive elements each: 256 / D vectors side by side in a
//                   warp. Few lanes, so that most of the Hadamard's and the maximum's steps need no shuffle
//   work item       one row and some consecutive heads of it, so that cosines and sines are read once
//   loads           16 bytes per lane and head, all heads of an item at once, asynchronously into shared memory
//   exchange        distances below 8 inside a lane, larger ones by shuffles; a rotation by a half that is no multiple
//                   of 8 goes through shared memory
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "indexcache.h"
#include "kernels/indexer/launch.h"
#include "kernels/ptx/e4m3_round.cuh"
#include "kernels/views/rows.cuh"

namespace ic::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kCtasPerProcessor = 5;
constexpr int kLaneElements = 8;
constexpr uint32_t kAllElements = (1u << kLaneElements) - 1;
constexpr int kStagePieces = 8;  // of 16 bytes: what a thread has on its way to shared memory, an item's heads at most
constexpr uint32_t kNan = 0x7fc00000u;

/// Shape of the launch and what is known of addresses, from values that a captured graph keeps.
struct Plan {
  int64_t num_items;   // rows * chunks
  int32_t chunks;      // of a row's heads
  int32_t item_heads;  // heads of a chunk
  int32_t page_shift;  // keys: log2(page_tokens), -1 = contiguous
  int32_t x_wide;      // 1: vectors start on 16 bytes
  int32_t out_wide;
  int32_t table_wide;  // likewise the entries of cos and sin that a lane needs
};

struct Vector {
  float v[kLaneElements];
};

/// What a lane needs to rotate its elements at one position.
struct Rotation {
  float cosine[kLaneElements];
  float sine[kLaneElements];  // negative for the first of a pair: a cos - b sin is a cos + b (-sin), bit for bit
  uint32_t inside;            // bit j: element j is rotated
};

// ---- conversions: the CPU's bits, a NaN always the positive quiet one
// ------------------------------------------------

__device__ uint16_t bf16_of(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

__device__ uint16_t f16_of(float value) {
  return value == value ? __half_as_ushort(__float2half_rn(value)) : uint16_t{0x7e00};
}

/// Eight elements as they lie in memory: one piece of 16 bytes, or two of fp32.
struct Raw {
  uint4 pieces[2];
};

__device__ Raw load_narrow(const void *x, int32_t dtype) {
  uint32_t words[kLaneElements] = {};
  if (dtype == IC_DTYPE_F32) {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) words[i] = static_cast<const uint32_t *>(x)[i];
  } else {
    const auto *from = static_cast<const uint16_t *>(x);
#pragma unroll
    for (int i = 0; i < kLaneElements / 2; ++i) words[i] = from[2 * i] | uint32_t{from[2 * i + 1]} << 16;
  }
  return {{{words[0], words[1], words[2], words[3]}, {words[4], words[5], words[6], words[7]}}};
}

__device__ Vector decode(const Raw &raw, int32_t dtype) {
  const uint4 a = raw.pieces[0];
  const uint4 b = raw.pieces[1];
  if (dtype == IC_DTYPE_F32) {
    return {{__uint_as_float(a.x), __uint_as_float(a.y), __uint_as_float(a.z), __uint_as_float(a.w),
             __uint_as_float(b.x), __uint_as_float(b.y), __uint_as_float(b.z), __uint_as_float(b.w)}};
  }
  const uint32_t pairs[kLaneElements / 2] = {a.x, a.y, a.z, a.w};
  Vector r;
#pragma unroll
  for (int i = 0; i < kLaneElements / 2; ++i) {
    if (dtype == IC_DTYPE_BF16) {
      r.v[2 * i] = __uint_as_float(pairs[i] << 16);
      r.v[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    } else {
      r.v[2 * i] = __half2float(__ushort_as_half(static_cast<uint16_t>(pairs[i])));
      r.v[2 * i + 1] = __half2float(__ushort_as_half(static_cast<uint16_t>(pairs[i] >> 16)));
    }
  }
  return r;
}

__device__ void store_f32(const Vector &x, void *out, bool wide) {
  if (wide) {
#pragma unroll
    for (int i = 0; i < kLaneElements; i += 4) {
      static_cast<float4 *>(out)[i / 4] = float4{x.v[i], x.v[i + 1], x.v[i + 2], x.v[i + 3]};
    }
  } else {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) static_cast<float *>(out)[i] = x.v[i];
  }
}

__device__ void store_16(const Vector &x, void *out, bool is_bf16, bool wide) {
  uint32_t pairs[kLaneElements / 2];
#pragma unroll
  for (int i = 0; i < kLaneElements / 2; ++i) {
    pairs[i] = is_bf16 ? bf16_of(x.v[2 * i]) | uint32_t{bf16_of(x.v[2 * i + 1])} << 16
                       : f16_of(x.v[2 * i]) | uint32_t{f16_of(x.v[2 * i + 1])} << 16;
  }
  if (wide) {
#pragma unroll
    for (int i = 0; i < kLaneElements / 2; i += 4) {
      static_cast<uint4 *>(out)[i / 4] = uint4{pairs[i], pairs[i + 1], pairs[i + 2], pairs[i + 3]};
    }
  } else {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      static_cast<uint16_t *>(out)[i] = static_cast<uint16_t>(pairs[i / 2] >> 16 * (i % 2));
    }
  }
}

/// Four codes per word.
struct Codes {
  uint32_t words[kLaneElements / 4];
};

__device__ Codes codes_of(const Vector &x) {
  Codes codes;
#pragma unroll
  for (int i = 0; i < kLaneElements / 4; ++i) {
    codes.words[i] =
        ptx::e4m3x2_from_f32(x.v[4 * i], x.v[4 * i + 1]) | ptx::e4m3x2_from_f32(x.v[4 * i + 2], x.v[4 * i + 3]) << 16;
  }
  return codes;
}

__device__ void store_codes(const Codes &codes, void *out, bool wide) {
  if (wide) {
    *static_cast<uint2 *>(out) = uint2{codes.words[0], codes.words[1]};
  } else {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      static_cast<uint8_t *>(out)[i] = static_cast<uint8_t>(codes.words[i / 4] >> 8 * (i % 4));
    }
  }
}

// ---- the steps
// -------------------------------------------------------------------------------------------------------

/// x[i] + x[i + n] for n = D/2, D/4, ..., 1; every lane of the group gets the sum.
template <int kLanes>
__device__ float tree_sum(Vector x) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (float &v : x.v) v = __fadd_rn(v, __shfl_xor_sync(~0u, v, distance));
  }
#pragma unroll
  for (int n = kLaneElements / 2; n > 0; n /= 2) {
#pragma unroll
    for (int i = 0; i < n; ++i) x.v[i] = __fadd_rn(x.v[i], x.v[i + n]);
  }
  return x.v[0];
}

template <int kLanes>
__device__ void layer_norm(const PrepareParams &p, int lane, Vector *x) {
  constexpr float kInverse = 1.0f / (kLanes * kLaneElements);
  const float mean = __fmul_rn(tree_sum<kLanes>(*x), kInverse);
  Vector squares;
#pragma unroll
  for (int j = 0; j < kLaneElements; ++j) {
    x->v[j] = __fsub_rn(x->v[j], mean);
    squares.v[j] = __fmul_rn(x->v[j], x->v[j]);
  }
  const float variance = __fmul_rn(tree_sum<kLanes>(squares), kInverse);
  const float rstd = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(variance, p.norm_eps)));
#pragma unroll
  for (int j = 0; j < kLaneElements; ++j) {
    const int element = lane * kLaneElements + j;
    x->v[j] = __fmul_rn(__fmul_rn(x->v[j], rstd), p.norm_weight[element]);
    if (p.norm_bias != nullptr) x->v[j] = __fadd_rn(x->v[j], p.norm_bias[element]);
  }
}

/// Where a rotation takes place: elements [begin, end) of the vector, pairs of neighbours or of halves.
struct RopeRange {
  int begin;
  int end;
  int half;  // pairs
  bool interleaved;

  __device__ bool has(int element) const { return element >= begin && element < end; }
  /// Whether an element inside is the first of its pair.
  __device__ bool is_first(int element) const {
    const int i = element - begin;
    return interleaved ? i % 2 == 0 : i < half;
  }
  /// Entry of the table row for an element inside.
  __device__ int entry(int element) const {
    const int i = element - begin;
    return interleaved ? i / 2 : i < half ? i : i - half;
  }
};

__device__ RopeRange rope_range(const PrepareParams &p) {
  const int begin = (p.flags & IC_PREPARE_ROPE_LAST) != 0 ? p.head_dim - p.rope_dim : 0;
  return {begin, begin + p.rope_dim, p.rope_dim / 2, (p.flags & IC_PREPARE_ROPE_INTERLEAVED) != 0};
}

__device__ Rotation load_rotation(const PrepareParams &p, const RopeRange &rope, int32_t position, int lane,
                                  bool wide) {
  Rotation r = {};
  const int64_t row = int64_t{position} * rope.half;
  const int element = lane * kLaneElements;
  if (wide && !rope.interleaved) {
    if (!rope.has(element)) return r;
    const auto *cosine = reinterpret_cast<const float4 *>(p.cos_table + row + rope.entry(element));
    const auto *sine = reinterpret_cast<const float4 *>(p.sin_table + row + rope.entry(element));
    const float sign = rope.is_first(element) ? -1.0f : 1.0f;
#pragma unroll
    for (int i = 0; i < kLaneElements; i += 4) {
      const float4 c = cosine[i / 4];
      const float4 s = sine[i / 4];
      r.cosine[i] = c.x, r.cosine[i + 1] = c.y, r.cosine[i + 2] = c.z, r.cosine[i + 3] = c.w;
      r.sine[i] = sign * s.x, r.sine[i + 1] = sign * s.y, r.sine[i + 2] = sign * s.z, r.sine[i + 3] = sign * s.w;
    }
    r.inside = kAllElements;
    return r;
  }
#pragma unroll
  for (int j = 0; j < kLaneElements; ++j) {
    if (!rope.has(element + j)) continue;
    const int entry = rope.entry(element + j);
    r.cosine[j] = p.cos_table[row + entry];
    r.sine[j] = rope.is_first(element + j) ? -p.sin_table[row + entry] : p.sin_table[row + entry];
    r.inside |= 1u << j;
  }
  return r;
}

/// Where an element waits in shared memory: lanes of a group fall into different banks.
__device__ int staged_at(int element) { return element + element / kLaneElements; }

/// (a, b) -> (a cos - b sin, b cos + a sin). staged: the warp's floats in shared memory.
template <int kLanes>
__device__ void rotate(const RopeRange &rope, const Rotation &r, int lane, float *staged, Vector *x) {
  const int element = lane * kLaneElements;
  Vector other;
  if (rope.interleaved) {
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) other.v[j] = x->v[j ^ 1];
  } else if (rope.half % kLaneElements == 0) {
    const int hop = rope.half / kLaneElements;
    const int from = element - rope.begin < rope.half ? lane + hop : lane - hop;
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) other.v[j] = __shfl_sync(~0u, x->v[j], from & (kLanes - 1), kLanes);
  } else {
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) staged[staged_at(element + j)] = x->v[j];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) {
      const int e = element + j;
      const int from = e - rope.begin < rope.half ? e + rope.half : e - rope.half;
      other.v[j] = rope.has(e) ? staged[staged_at(from)] : 0.0f;
    }
  }
  const auto turned = [&](int j) {
    return __fadd_rn(__fmul_rn(x->v[j], r.cosine[j]), __fmul_rn(other.v[j], r.sine[j]));
  };
  if (r.inside == kAllElements) {
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) x->v[j] = turned(j);
  } else if (r.inside != 0) {
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) {
      if ((r.inside >> j & 1u) != 0) x->v[j] = turned(j);
    }
  }
}

template <int kLanes>
__device__ void hadamard(int lane, Vector *x) {
  constexpr float kScale = kLanes == 4 ? 0.70710678118654752f / 4 : kLanes == 8 ? 0.125f : 0.70710678118654752f / 8;
  float (&v)[kLaneElements] = x->v;
#pragma unroll
  for (int distance = 1; distance < kLaneElements; distance *= 2) {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      if ((i & distance) != 0) continue;
      const float a = v[i];
      const float b = v[i + distance];
      v[i] = __fadd_rn(a, b);
      v[i + distance] = __fsub_rn(a, b);
    }
  }
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const float sign = (lane & distance) != 0 ? -1.0f : 1.0f;  // a - b in the lane that has b; the product is exact
#pragma unroll
    for (float &value : v) {
      const float other = __shfl_xor_sync(~0u, value, distance);
      value = __fmaf_rn(value, sign, other);
    }
  }
#pragma unroll
  for (float &value : v) value = __fmul_rn(value, kScale);
}

/// max(amax, 1e-4) / 448; a NaN's bits are above all magnitudes.
__device__ float scale_of(uint32_t amax_bits, bool power_of_two) {
  const float amax = __uint_as_float(amax_bits);
  const float scale = __fdiv_rn(amax < 1e-4f ? 1e-4f : amax, 448.0f);
  if (!(scale == scale)) return __uint_as_float(kNan);
  const uint32_t bits = __float_as_uint(scale);
  if (!power_of_two || bits >= 0x7f800000u) return scale;
  return __uint_as_float((bits + 0x007fffffu) & 0xff800000u);
}

template <int kLanes>
__device__ uint32_t group_max(uint32_t value) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(~0u, value, distance));
  }
  return value;
}

/// Codes of v / scale with the quotients rounded as IEEE division rounds them.
__device__ Codes quantised(const Vector &x, float scale, bool power_of_two) {
  Vector y;
  const float reciprocal = __fdiv_rn(1.0f, scale);
  if (power_of_two) {  // the reciprocal is exact, and so the product has the quotient's bits
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) y.v[i] = __fmul_rn(x.v[i], reciprocal);
    return codes_of(y);
  }
  if (!(scale < INFINITY)) {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) y.v[i] = __fdiv_rn(x.v[i], scale);
    return codes_of(y);
  }
  // Two corrections by exact remainders give the correctly rounded quotient (Markstein), since the reciprocal is
  // correctly rounded and nothing overflows: |x| <= 448 * scale. Below 2^-100 remainders may be inexact; such quotients
  // are below 2^-70, where every code is a zero. A zero may lose its sign on the way and gets it back from x.
#pragma unroll
  for (int i = 0; i < kLaneElements; ++i) {
    float q = __fmul_rn(x.v[i], reciprocal);
    q = __fmaf_rn(__fmaf_rn(-scale, q, x.v[i]), reciprocal, q);
    q = __fmaf_rn(__fmaf_rn(-scale, q, x.v[i]), reciprocal, q);
    y.v[i] = copysignf(q, x.v[i]);
  }
  return codes_of(y);
}

/// Steps 3 and 4, and the stores of the lanes that hold a wanted vector.
template <int kLanes>
__device__ void finish(const PrepareParams &p, const Plan &plan, int lane, bool wanted, Vector x, void *out,
                       float *scale_out) {
  if ((p.flags & IC_PREPARE_HADAMARD) != 0) hadamard<kLanes>(lane, &x);
  if (p.dtype != IC_DTYPE_E4M3) {
    if (!wanted) return;
    if (p.dtype == IC_DTYPE_F32) {
      store_f32(x, static_cast<float *>(out) + lane * kLaneElements, plan.out_wide != 0);
    } else {
      store_16(x, static_cast<uint16_t *>(out) + lane * kLaneElements, p.dtype == IC_DTYPE_BF16, plan.out_wide != 0);
    }
    return;
  }
  uint32_t amax = 0;
#pragma unroll
  for (const float v : x.v) amax = max(amax, __float_as_uint(v) & 0x7fffffffu);
  const bool power_of_two = (p.flags & IC_PREPARE_UE8M0) != 0;
  const float scale = scale_of(group_max<kLanes>(amax), power_of_two);
  if (!wanted) return;
  store_codes(quantised(x, scale, power_of_two), static_cast<uint8_t *>(out) + lane * kLaneElements,
              plan.out_wide != 0);
  if (lane == 0) *scale_out = scale;
}

__device__ int32_t element_bytes(int32_t dtype) { return dtype == IC_DTYPE_F32 ? 4 : dtype == IC_DTYPE_E4M3 ? 1 : 2; }

/// Where the vector of a row goes; vector null: nowhere.
struct Place {
  uint8_t *vector;
  float *scale;
};

/// Place of a key, by the CPU's rules: -1 is skipped, a slot outside is a fault.
__device__ Place find_slot(const PrepareParams &p, int32_t shift, int64_t row, uint32_t *fault) {
  const int64_t slot = p.slots[row];
  if (slot == -1) return {nullptr, nullptr};
  const int64_t page = shift < 0 ? slot : slot >> shift;
  if (slot < 0 || page >= p.pool.capacity) {
    *fault |= IC_FAULT_SLOT;
    return {nullptr, nullptr};
  }
  uint8_t *base = p.pool.data + page * p.pool.stride_bytes;
  if (shift < 0) return {base, p.pool.scales == nullptr ? nullptr : p.pool.scales + slot};
  const int64_t vector_bytes = int64_t{p.head_dim} * element_bytes(p.dtype);
  const int64_t token = slot - (page << shift);
  return {base + token * vector_bytes, reinterpret_cast<float *>(base + (vector_bytes << shift)) + token};
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, kCtasPerProcessor)
    prepare_kernel(const __grid_constant__ PrepareParams p, const __grid_constant__ Plan plan) {
  constexpr int kLanes = kHeadDim / kLaneElements;
  constexpr int kGroups = kThreads / kLanes;
  __shared__ float staged[kThreads * (kLaneElements + 1)];
  __shared__ uint4 stage[kStagePieces][kThreads];
  const int lane = threadIdx.x % kLanes;
  const int group = threadIdx.x / kLanes;
  const bool queries = p.q_out != nullptr;
  const RopeRange rope = rope_range(p);
  const int64_t in_bytes = element_bytes(p.x_dtype);
  const int64_t out_bytes = element_bytes(p.dtype);
  const int32_t pieces = p.x_dtype == IC_DTYPE_F32 ? 2 : 1;
  uint32_t fault = 0;
  // All groups of a CTA take the same number of turns: lanes of one warp meet in the shuffles.
  for (int64_t first = int64_t{blockIdx.x} * kGroups; first < plan.num_items; first += int64_t{gridDim.x} * kGroups) {
    const int64_t item = first + group;
    const bool has_item = item < plan.num_items;
    const int64_t row = has_item ? item / plan.chunks : 0;
    const int32_t head_begin = has_item ? static_cast<int32_t>(item - row * plan.chunks) * plan.item_heads : 0;
    const int32_t head_end = has_item ? min(head_begin + plan.item_heads, p.num_heads) : 0;

    // All heads of the item are on their way before anything waits: a thread reads back what it has copied itself.
    const auto *x_lane = static_cast<const uint8_t *>(p.x) +
                         (row * p.x_row_stride + int64_t{head_begin} * kHeadDim + lane * kLaneElements) * in_bytes;
    if (plan.x_wide != 0) {
      for (int32_t i = 0; i < head_end - head_begin; ++i) {
        for (int32_t piece = 0; piece < pieces; ++piece) {
          __pipeline_memcpy_async(&stage[i * pieces + piece][threadIdx.x],
                                  x_lane + i * kHeadDim * in_bytes + piece * 16, 16);
        }
      }
      __pipeline_commit();
    }
    const int32_t position = has_item && p.rope_dim > 0 ? p.positions[row] : 0;
    Place place{nullptr, nullptr};
    if (has_item) {
      place = queries ? Place{static_cast<uint8_t *>(p.q_out) + row * p.q_out_stride * out_bytes,
                              p.q_scale_out == nullptr ? nullptr : p.q_scale_out + row * p.num_heads}
                      : find_slot(p, plan.page_shift, row, &fault);
    }
    bool legal = place.vector != nullptr;
    Rotation rotation = {};
    if (legal && p.rope_dim > 0) {
      if (position < 0 || position >= p.num_positions) {
        fault |= IC_FAULT_POSITION;
        legal = false;
      } else {
        rotation = load_rotation(p, rope, position, lane, plan.table_wide != 0);
      }
    }
    __pipeline_wait_prior(0);
    for (int32_t i = 0; i < plan.item_heads; ++i) {
      const int32_t head = head_begin + i;
      const bool wanted = legal && head < head_end;
      const bool zeros = queries && place.vector != nullptr && !legal && head < head_end;
      Vector x = {};
      if (wanted) {
        const Raw raw = plan.x_wide != 0
                            ? Raw{{stage[i * pieces][threadIdx.x], stage[i * pieces + pieces - 1][threadIdx.x]}}
                            : load_narrow(x_lane + i * kHeadDim * in_bytes, p.x_dtype);
        x = decode(raw, p.x_dtype);
      }
      if (p.norm_weight != nullptr) layer_norm<kLanes>(p, lane, &x);
      if (p.rope_dim > 0) rotate<kLanes>(rope, rotation, lane, staged + group * staged_at(kHeadDim), &x);
      if (zeros) x = {};  // the query of an illegal position: zeros and their scale
      finish<kLanes>(p, plan, lane, wanted || zeros, x, place.vector + int64_t{head} * kHeadDim * out_bytes,
                     place.scale + head);
    }
  }
  report_fault(p.fault, fault);
}

bool is_multiple(const void *pointer, int64_t stride_bytes, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0 && stride_bytes % bytes == 0;
}

int64_t bytes_of(int32_t dtype) { return dtype == IC_DTYPE_F32 ? 4 : dtype == IC_DTYPE_E4M3 ? 1 : 2; }

Plan make_plan(const PrepareParams &p, const LaunchLimits &limits) {
  const int64_t in_bytes = bytes_of(p.x_dtype);
  const int64_t out_bytes = bytes_of(p.dtype);
  const int64_t groups = kThreads / (p.head_dim / kLaneElements);
  // Rows alone must fill the chip before heads are taken together.
  const int64_t enough = int64_t{limits.num_processors} * 4 * groups;
  int32_t item_heads = 1;
  const int32_t most_heads = kStagePieces / (p.x_dtype == IC_DTYPE_F32 ? 2 : 1);
  while (item_heads < most_heads && item_heads < p.num_heads && p.count * p.num_heads / (2 * item_heads) >= enough) {
    item_heads *= 2;
  }
  Plan plan = {};
  plan.item_heads = item_heads;
  plan.chunks = (p.num_heads + item_heads - 1) / item_heads;
  plan.num_items = p.count * plan.chunks;
  plan.page_shift = -1;
  for (int32_t tokens = p.pool.page_tokens; tokens != 0; tokens >>= 1) ++plan.page_shift;
  plan.x_wide = is_multiple(p.x, p.x_row_stride * in_bytes, 16) ? 1 : 0;
  plan.out_wide = (p.q_out != nullptr ? is_multiple(p.q_out, p.q_out_stride * out_bytes, 16)
                                      : is_multiple(p.pool.data, p.pool.stride_bytes, 16))
                      ? 1
                      : 0;
  plan.table_wide =
      p.rope_dim % (2 * kLaneElements) == 0 && is_multiple(p.cos_table, 0, 16) && is_multiple(p.sin_table, 0, 16) ? 1
                                                                                                                  : 0;
  return plan;
}

template <int kHeadDim>
cudaError_t load_kernel() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, prepare_kernel<kHeadDim>);
}

template <int kHeadDim>
cudaError_t launch(const PrepareParams &params, const Plan &plan, const LaunchLimits &limits, cudaStream_t stream) {
  constexpr int64_t kGroups = kThreads / (kHeadDim / kLaneElements);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(limits.grid((plan.num_items + kGroups - 1) / kGroups));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, prepare_kernel<kHeadDim>, params, plan);
}

}  // namespace

cudaError_t load_prepare() {
  cudaError_t error = load_kernel<32>();
  if (error == cudaSuccess) error = load_kernel<64>();
  if (error == cudaSuccess) error = load_kernel<128>();
  return error;
}

cudaError_t launch_prepare(const PrepareParams &params, const LaunchLimits &limits, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  const Plan plan = make_plan(params, limits);
  switch (params.head_dim) {
    case 32:
      return launch<32>(params, plan, limits, stream);
    case 64:
      return launch<64>(params, plan, limits, stream);
    case 128:
      return launch<128>(params, plan, limits, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ic::cuda

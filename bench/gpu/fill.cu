// SPDX-License-Identifier: Apache-2.0
// Kernels that make inputs. Every element is a function of its place, so they are all one grid-stride loop.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "device.h"
#include "fill.h"
#include "indexcache.h"

namespace bench {
namespace {

constexpr float kCommon = 0.3f;  // of the common direction in a query; a key has about as much

__device__ uint32_t mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
__device__ uint32_t hash(uint32_t seed, int64_t place) {
  return mix(mix(seed ^ static_cast<uint32_t>(place)) + static_cast<uint32_t>(place >> 32) + 0x9e3779b9u);
}
/// In (0, 1).
__device__ float uniform(uint32_t bits) { return (static_cast<float>(bits >> 8) + 0.5f) * 0x1p-24f; }
__device__ float normal(uint32_t bits) {
  return sqrtf(-2.0f * __logf(uniform(bits))) * __cosf(6.2831853f * uniform(mix(bits ^ 0x5bd1e995u)));
}
__device__ float direction(int32_t d) { return (mix(static_cast<uint32_t>(d) + 77u) & 1u) != 0 ? 1.0f : -1.0f; }
__device__ uint8_t e4m3(float x) { return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3); }

template <class Body>
__global__ void for_each_kernel(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

template <class Body>
void for_each(int64_t count, Body body) {
  if (count == 0) return;
  for_each_kernel<<<4096, 256>>>(count, body);
  BENCH_CUDA(cudaGetLastError());
  BENCH_CUDA(cudaDeviceSynchronize());
}

/// Larger is better: the order of the selection.
__device__ uint64_t rank_of(float score, int64_t position) {
  if (score != score) score = -INFINITY;
  const uint32_t bits = __float_as_uint(score == 0.0f ? 0.0f : score);
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | static_cast<uint32_t>(~static_cast<uint32_t>(position));
}

__global__ void check_rows(const float *scores, int64_t length, const int32_t *indices, int64_t stride,
                           const int32_t *lengths, int32_t k, unsigned long long *wrong) {
  __shared__ unsigned long long worst;
  __shared__ unsigned long long better;
  __shared__ int broken;
  const float *row = scores + blockIdx.x * length;
  const int32_t *list = indices + blockIdx.x * stride;
  const int32_t expected = static_cast<int32_t>(min(static_cast<int64_t>(k), length));
  if (threadIdx.x == 0) {
    worst = ~0ull;
    better = 0;
    broken = lengths[blockIdx.x] != expected ? 1 : 0;
  }
  __syncthreads();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < expected; i += static_cast<int32_t>(blockDim.x)) {
    const int32_t position = list[i];
    if (position < 0 || position >= length || (i > 0 && list[i - 1] >= position)) {
      broken = 1;
    } else {
      atomicMin(&worst, static_cast<unsigned long long>(rank_of(row[position], position)));
    }
  }
  __syncthreads();
  unsigned long long mine = 0;
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) mine += rank_of(row[i], i) > worst ? 1 : 0;
  atomicAdd(&better, mine);
  __syncthreads();
  const auto allowed = static_cast<unsigned long long>(expected - 1);
  if (threadIdx.x == 0 && (broken != 0 || better != allowed)) atomicAdd(wrong, 1ull);
}

}  // namespace

void fill_normal(void *out, int32_t dtype, int64_t count, uint32_t seed) {
  if (dtype == IC_DTYPE_F32) {
    for_each(count, [=] __device__(int64_t i) { static_cast<float *>(out)[i] = normal(hash(seed, i)); });
  } else {
    for_each(count, [=] __device__(int64_t i) {
      static_cast<__nv_bfloat16 *>(out)[i] = __float2bfloat16_rn(normal(hash(seed, i)));
    });
  }
}

void fill_weights(float *out, int64_t count, float scale, uint32_t seed) {
  for_each(count, [=] __device__(int64_t i) { out[i] = scale * uniform(hash(seed, i)); });
}

void fill_index_queries(void *out, int64_t count, int32_t dim, uint32_t seed) {
  for_each(count * dim, [=] __device__(int64_t i) {
    const auto d = static_cast<int32_t>(i % dim);
    static_cast<uint8_t *>(out)[i] = e4m3(normal(hash(seed, i)) + kCommon * direction(d));
  });
}

void fill_index_keys(const IndexKeys &keys, uint32_t seed) {
  for_each(keys.count * keys.dim, [=] __device__(int64_t i) {
    const int64_t key = i / keys.dim;
    const auto d = static_cast<int32_t>(i % keys.dim);
    const int64_t newer = keys.per_sequence - 1 - key % keys.per_sequence;
    const float age = static_cast<float>(newer) / static_cast<float>(keys.per_sequence);
    const float amount = 0.6f * normal(hash(seed + 1, key)) - 0.4f + 2.0f * __expf(-100.0f * age);
    const uint8_t element = e4m3(normal(hash(seed, i)) + kCommon * amount * direction(d));
    const float scale = 0.01f * (0.9f + 0.2f * uniform(hash(seed + 2, key)));
    auto *bytes = static_cast<uint8_t *>(keys.data);
    if (keys.pages == nullptr) {
      bytes[i] = element;
      if (d == 0) keys.scales[key] = scale;
      return;
    }
    const int64_t token = key % keys.page_tokens;
    const int64_t vector_bytes = static_cast<int64_t>(keys.page_tokens) * keys.dim;
    uint8_t *page = bytes + keys.pages[key / keys.page_tokens] * (vector_bytes + 4 * keys.page_tokens);
    page[token * keys.dim + d] = element;
    if (d == 0) reinterpret_cast<float *>(page + vector_bytes)[token] = scale;
  });
}

void fill_kv_fp8(void *out, int64_t tokens, uint32_t seed) {
  constexpr int64_t kElements = 512 + 4 + 64;
  for_each(tokens * kElements, [=] __device__(int64_t i) {
    const int64_t element = i % kElements;
    uint8_t *token = static_cast<uint8_t *>(out) + i / kElements * 656;
    const float value = normal(hash(seed, i));
    if (element < 512) {
      token[element] = e4m3(64.0f * value);
    } else if (element < 516) {
      reinterpret_cast<float *>(token + 512)[element - 512] = (1.0f + 0.1f * uniform(hash(seed, i))) / 64.0f;
    } else {
      reinterpret_cast<__nv_bfloat16 *>(token + 528)[element - 516] = __float2bfloat16_rn(value);
    }
  });
}

void fill_clustered_scores(float *out, int64_t rows, int64_t length, uint32_t seed) {
  for_each(rows * length, [=] __device__(int64_t i) {
    const int64_t row = i / length;
    const int64_t column = i % length;
    const uint32_t bits = hash(seed, i);
    const float agreed = 0.6f * normal(mix(bits + 1)) - 0.4f;
    float score = 12.0f * __expf(-100.0f * static_cast<float>(length - 1 - column) / static_cast<float>(length));
    for (uint32_t head = 0; head < 64; ++head) {
      const uint32_t noise = mix(bits + 2 + head);
      // The sum of four bytes is normal enough here, and there are 64 of them per score.
      const float near_normal = (static_cast<float>(__dp4a(noise, 0x01010101u, 0u)) - 510.0f) * (1.0f / 147.8f);
      score += uniform(mix(static_cast<uint32_t>(row) * 64u + head + seed)) * fmaxf(agreed + near_normal, 0.0f);
    }
    out[i] = score;
  });
}

void fill_indices(int32_t *out, int64_t rows, int32_t k, int32_t keys, uint32_t seed) {
  const int32_t width = keys / k;
  for_each(rows * k, [=] __device__(int64_t i) {
    const auto rank = static_cast<int32_t>(i % k);
    out[i] = rank * width + static_cast<int32_t>(__umulhi(hash(seed, i), static_cast<uint32_t>(width)));
  });
}

int64_t count_wrong_rows(const float *scores, int64_t rows, int64_t length, const int32_t *indices, int64_t stride,
                         const int32_t *lengths, int32_t k) {
  const DeviceArray<unsigned long long> wrong(1);
  BENCH_CUDA(cudaMemset(wrong.data(), 0, sizeof(unsigned long long)));
  check_rows<<<static_cast<unsigned>(rows), 512>>>(scores, length, indices, stride, lengths, k, wrong.data());
  unsigned long long count = 0;
  BENCH_CUDA(cudaMemcpy(&count, wrong.data(), sizeof count, cudaMemcpyDeviceToHost));
  return static_cast<int64_t>(count);
}

}  // namespace bench

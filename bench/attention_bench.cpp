// SPDX-License-Identifier: Apache-2.0
// Sparse MLA on the CPU backend, one thread: time per row and the share of arithmetic, 2 * heads * keys * (2 latent +
// rope).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/attend.h"
#include "cpu/convert.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

struct Shape {
  const char *name;
  int32_t num_heads, d_latent, d_rope, num_keys, pool_tokens, kv_dtype, q_dtype, rows;
};

constexpr Shape kShapes[] = {
    {"tiny_f32_4x64", 4, 48, 16, 64, 2048, IC_DTYPE_F32, IC_DTYPE_F32, 64},
    {"mla_bf16_128x2048", 128, 512, 64, 2048, 32768, IC_DTYPE_BF16, IC_DTYPE_BF16, 2},
    {"mla_fp8_128x2048", 128, 512, 64, 2048, 32768, IC_DTYPE_E4M3, IC_DTYPE_BF16, 2},
    {"mla_bf16_64x2048", 64, 512, 64, 2048, 32768, IC_DTYPE_BF16, IC_DTYPE_BF16, 2},
    {"mla_fp8_64x2048", 64, 512, 64, 2048, 32768, IC_DTYPE_E4M3, IC_DTYPE_BF16, 2},
};

struct FreeBytes {
  void operator()(void *bytes) const { std::free(bytes); }
};

int64_t token_bytes_of(const Shape &shape) {
  if (shape.kv_dtype == IC_DTYPE_E4M3) return 656;
  return int64_t{shape.d_latent + shape.d_rope} * dtype_bytes(shape.kv_dtype);
}

/// Made once: a benchmark's function is called again for every repetition.
std::vector<uint8_t> &pool_of(const Shape &shape) {
  static std::map<int64_t, std::vector<uint8_t>> pools;  // by the size of a token, which no two formats share
  const int64_t token_bytes = token_bytes_of(shape);
  std::vector<uint8_t> &pool = pools[token_bytes];
  if (!pool.empty()) return pool;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const int32_t d = shape.d_latent + shape.d_rope;
  pool.resize(static_cast<size_t>(shape.pool_tokens * token_bytes));
  std::vector<float> token(static_cast<size_t>(d));
  for (int64_t t = 0; t < shape.pool_tokens; ++t) {
    for (float &value : token) value = normal(random);
    uint8_t *out = pool.data() + t * token_bytes;
    if (shape.kv_dtype == IC_DTYPE_E4M3) {
      const float scales[4] = {1, 1, 1, 1};
      convert_from_f32(IC_DTYPE_E4M3, token.data(), out, shape.d_latent);
      std::copy_n(reinterpret_cast<const uint8_t *>(scales), sizeof scales, out + 512);
      convert_from_f32(IC_DTYPE_BF16, token.data() + shape.d_latent, out + 528, shape.d_rope);
    } else {
      convert_from_f32(shape.kv_dtype, token.data(), out, d);
    }
  }
  return pool;
}

void attend_rows(benchmark::State &state, const Shape &shape, Isa isa) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  const int32_t d = shape.d_latent + shape.d_rope;
  std::vector<uint8_t> &pool = pool_of(shape);
  const int64_t q_count = int64_t{shape.rows} * shape.num_heads * d;
  std::vector<float> q_values(static_cast<size_t>(q_count));
  for (float &value : q_values) value = normal(random);
  std::vector<uint8_t> q(static_cast<size_t>(q_count * dtype_bytes(shape.q_dtype)));
  convert_from_f32(shape.q_dtype, q_values.data(), q.data(), q_count);
  std::vector<int32_t> indices;
  std::vector<int32_t> positions(static_cast<size_t>(shape.pool_tokens));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
  for (int32_t row = 0; row < shape.rows; ++row) {
    std::vector<int32_t> chosen;
    std::sample(positions.begin(), positions.end(), std::back_inserter(chosen), shape.num_keys, random);
    indices.insert(indices.end(), chosen.begin(), chosen.end());
  }
  std::vector<float> out(static_cast<size_t>(shape.rows * shape.num_heads * shape.d_latent));
  std::vector<float> lse(static_cast<size_t>(shape.rows * shape.num_heads));

  Workers workers(1);
  const Executor executor{isa, &workers};
  AttendParams params = {};
  params.rows.count = shape.rows;
  params.rows.num_seqs = 1;
  params.indices = indices.data();
  params.index_stride = shape.num_keys;
  params.num_indices = shape.num_keys;
  params.q = q.data();
  params.q_row_stride = int64_t{shape.num_heads} * d;
  params.q_dtype = shape.q_dtype;
  params.out_dtype = shape.q_dtype;
  params.kv.data = pool.data();
  params.kv.stride_bytes = token_bytes_of(shape);
  params.kv.capacity = shape.pool_tokens;
  params.kv_dtype = shape.kv_dtype;
  params.num_heads = shape.num_heads;
  params.d_latent = shape.d_latent;
  params.d_rope = shape.d_rope;
  params.softmax_scale = 1.0f / 24.0f;
  params.out = out.data();
  params.out_row_stride = int64_t{shape.num_heads} * shape.d_latent;
  params.lse = lse.data();
  params.lse_row_stride = shape.num_heads;
  params.workspace_size =
      attend_workspace_size(executor, shape.num_heads, shape.d_latent, shape.d_rope, shape.num_keys);
  const std::unique_ptr<void, FreeBytes> workspace(std::aligned_alloc(256, params.workspace_size));
  params.workspace = workspace.get();
  for (auto _ : state) {
    attend(executor, params);
    benchmark::ClobberMemory();
  }
  const double rows = static_cast<double>(state.iterations()) * shape.rows;
  const double row_flops = 2.0 * shape.num_heads * shape.num_keys * (2.0 * shape.d_latent + shape.d_rope);
  state.counters["time_per_row"] = benchmark::Counter(rows, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["FLOP/s"] = benchmark::Counter(rows * row_flops, benchmark::Counter::kIsRate);
}

const int kRegistered = [] {
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kPortable}) {
    if (!isa_available(isa)) continue;
    for (Shape shape : kShapes) {
      if (isa == Isa::kPortable) shape.rows = std::max(1, shape.rows / 8);
      benchmark::RegisterBenchmark((std::string("attend/") + shape.name + "/" + isa_name(isa)).c_str(), attend_rows,
                                   shape, isa)
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace ic::cpu

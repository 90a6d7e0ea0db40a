// SPDX-License-Identifier: Apache-2.0
// Sparse MLA of one row on sixteen lanes. Include after one simd_*.h, with kTileHeads (query heads) and kTileVectors
// (vectors of keys or of output dimensions) defined: the register tile of the level, which changes no bit.
//
// Arithmetic: a score is one fma chain over d ascending, times softmax_scale. Blocks of 64 keys in list order; per
// block the maximum is renewed, weights are exp(score - maximum), the denominator adds key j to lane j % 16 with
// vectors in order, an output element is (old * exp(old maximum - new maximum)) followed by one fma chain over the
// block's keys. At the end the lanes are added by the fixed tree and outputs multiplied by the reciprocal.
#include "cpu/isa/attend_kernels.h"
#include "cpu/isa/simd_math.inl"
#include "indexcache.h"

namespace ic::cpu {
namespace {

constexpr int kBlock = kAttendBlockKeys;
constexpr int kChunk = 64;                     // dimensions of a query chunk: a fixed stride between heads
constexpr int kPanel = kTileVectors * kLanes;  // keys of a key panel, dimensions of a value panel
constexpr int64_t kFp8Latent = 512;            // the 656-byte token: 512 e4m3, 4 fp32 scales, 64 bf16
constexpr int64_t kFp8Rope = 528;
static_assert(kBlock % kPanel == 0 && kChunk == kBlock, "weights and query chunks share their stride");

struct F32Token {
  static IC_INLINE F32 load16(const uint8_t *token, int32_t d) {
    return load(reinterpret_cast<const float *>(token) + d);
  }
};
struct Bf16Token {
  static IC_INLINE F32 load16(const uint8_t *token, int32_t d) {
    return load_bf16(reinterpret_cast<const uint16_t *>(token) + d);
  }
};
struct Fp8Token {
  static IC_INLINE F32 load16(const uint8_t *token, int32_t d) {
    if (d >= kFp8Latent) return load_bf16(reinterpret_cast<const uint16_t *>(token + kFp8Rope) + (d - kFp8Latent));
    float scale;
    __builtin_memcpy(&scale, token + kFp8Latent + (d / 128) * 4, sizeof scale);
    return mul(load_e4m3(token + d), set1(scale));
  }
};

// acc[i][j] += a[i][0..n) * b[0..n)[j]: rows of `a` are kChunk apart, rows of `b` kPanel.
template <int kHeads, int kVectors>
IC_INLINE void multiply_add(const float *a, const float *b, int32_t n, F32 (&acc)[kHeads][kVectors]) {
  for (int32_t k = 0; k < n; ++k) {
    F32 row[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) row[j] = load(b + k * kPanel + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kHeads; ++i) {
      const F32 factor = set1(a[i * kChunk + k]);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) acc[i][j] = fma(factor, row[j], acc[i][j]);
    }
  }
}

struct RowState {
  const AttendRow &row;
  int32_t d;
  float *queries, *keys, *values, *weights, *sums, *denominators, *maxima, *rescales;
};

void load_queries(const RowState &s) {
  for (int32_t h = 0; h < s.row.num_heads; ++h) {
    for (int32_t d = 0; d < s.d; d += kLanes) {
      const int64_t from = static_cast<int64_t>(h) * s.d + d;
      const int64_t to = (static_cast<int64_t>(d / kChunk) * s.row.num_heads + h) * kChunk + d % kChunk;
      store(s.queries + to, s.row.q_dtype == IC_DTYPE_F32 ? load(static_cast<const float *>(s.row.q) + from)
                                                          : load_bf16(static_cast<const uint16_t *>(s.row.q) + from));
    }
  }
}

// Keys [0, count) of a block to fp32: the latent part as value panels, all of it transposed as key panels. Lanes of the
// last sixteen keys that have no key are zero.
template <class Token>
void gather_block(const RowState &s, const uint8_t *const *tokens, int32_t count) {
  for (int32_t first = 0; first < count; first += kLanes) {
    const int32_t in_group = count - first < kLanes ? count - first : kLanes;
    float *key_lane = s.keys + static_cast<int64_t>(first / kPanel) * s.d * kPanel + first % kPanel;
    for (int32_t d = 0; d < s.d; d += kLanes) {
      F32 m[kLanes];
      if (in_group == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) m[i] = Token::load16(tokens[first + i], d);
      } else {
        for (int i = 0; i < kLanes; ++i) m[i] = i < in_group ? Token::load16(tokens[first + i], d) : zero();
      }
      if (d < s.row.d_latent) {
        float *value = s.values + (static_cast<int64_t>(d / kPanel) * kBlock + first) * kPanel + d % kPanel;
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(value + i * kPanel, m[i]);
      }
      transpose(m);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(key_lane + (d + i) * kPanel, m[i]);
    }
  }
}

template <int kHeads, int kVectors>
void score_tile(const RowState &s, int32_t head, int32_t first_key) {
  F32 acc[kHeads][kVectors];
  for (int i = 0; i < kHeads; ++i) {
    for (int j = 0; j < kVectors; ++j) acc[i][j] = zero();
  }
  const float *keys = s.keys + static_cast<int64_t>(first_key / kPanel) * s.d * kPanel;
  for (int32_t d = 0; d < s.d; d += kChunk) {
    const float *queries = s.queries + (static_cast<int64_t>(d / kChunk) * s.row.num_heads + head) * kChunk;
    multiply_add<kHeads, kVectors>(queries, keys + static_cast<int64_t>(d) * kPanel,
                                   s.d - d < kChunk ? s.d - d : kChunk, acc);
  }
  const F32 scale = set1(s.row.softmax_scale);
  for (int i = 0; i < kHeads; ++i) {
    float *weights = s.weights + static_cast<int64_t>(head + i) * kBlock + first_key;
    for (int j = 0; j < kVectors; ++j) store(weights + j * kLanes, mul(acc[i][j], scale));
  }
}

template <int kHeads, int kVectors>
void value_tile(const RowState &s, int32_t head, int32_t first_d, int32_t count, bool first_block) {
  const int64_t panel = first_d / kPanel;
  float *sums = s.sums + (panel * s.row.num_heads + head) * kPanel;
  F32 acc[kHeads][kVectors];
  for (int i = 0; i < kHeads; ++i) {
    const F32 rescale = set1(first_block ? 0.0f : s.rescales[head + i]);
    for (int j = 0; j < kVectors; ++j) {
      acc[i][j] = first_block ? zero() : mul(load(sums + i * kPanel + j * kLanes), rescale);
    }
  }
  multiply_add<kHeads, kVectors>(s.weights + static_cast<int64_t>(head) * kBlock, s.values + panel * kBlock * kPanel,
                                 count, acc);
  for (int i = 0; i < kHeads; ++i) {
    for (int j = 0; j < kVectors; ++j) store(sums + i * kPanel + j * kLanes, acc[i][j]);
  }
}

// Covers all heads by tiles of kTileHeads and one smaller tile; `vectors` of the panel are in use.
template <int kHeads, int kVectors, class Tile>
IC_INLINE void run_tile(int32_t heads, int32_t vectors, const Tile &tile) {
  if constexpr (kVectors > 1) {
    if (vectors < kVectors) return run_tile<kHeads, kVectors - 1>(heads, vectors, tile);
  }
  if constexpr (kHeads > 1) {
    if (heads < kHeads) return run_tile<kHeads - 1, kVectors>(heads, vectors, tile);
  }
  tile.template run<kHeads, kVectors>();
}

struct ScoreTile {
  const RowState &s;
  int32_t head, first_key;
  template <int kHeads, int kVectors>
  IC_INLINE void run() const {
    score_tile<kHeads, kVectors>(s, head, first_key);
  }
};
struct ValueTile {
  const RowState &s;
  int32_t head, first_d, count;
  bool first_block;
  template <int kHeads, int kVectors>
  IC_INLINE void run() const {
    value_tile<kHeads, kVectors>(s, head, first_d, count, first_block);
  }
};

IC_INLINE int32_t vectors_of_panel(int32_t remaining) {
  return remaining >= kPanel ? kTileVectors : (remaining + kLanes - 1) / kLanes;
}

void score_block(const RowState &s, int32_t count) {
  for (int32_t key = 0; key < count; key += kPanel) {
    for (int32_t head = 0; head < s.row.num_heads; head += kTileHeads) {
      run_tile<kTileHeads, kTileVectors>(s.row.num_heads - head, vectors_of_panel(count - key),
                                         ScoreTile{s, head, key});
    }
  }
}

void accumulate_block(const RowState &s, int32_t count, bool first_block) {
  for (int32_t d = 0; d < s.row.d_latent; d += kPanel) {
    for (int32_t head = 0; head < s.row.num_heads; head += kTileHeads) {
      run_tile<kTileHeads, kTileVectors>(s.row.num_heads - head, vectors_of_panel(s.row.d_latent - d),
                                         ValueTile{s, head, d, count, first_block});
    }
  }
}

// Scores to weights. A maximum of -inf (all scores are -inf) is replaced by 0 in the exponents: all weights are then 0.
template <int kVectors>
void softmax_block(const RowState &s, int32_t count, bool first_block) {
  constexpr float kNegativeInfinity = -__builtin_inff();
  const F32 absent = set1(kNegativeInfinity);
  const Mask last = mask_first(count - (kVectors - 1) * kLanes);
  for (int32_t h = 0; h < s.row.num_heads; ++h) {
    float *weights = s.weights + static_cast<int64_t>(h) * kBlock;
    F32 v[kVectors];
    for (int j = 0; j < kVectors; ++j) v[j] = load(weights + j * kLanes);
    v[kVectors - 1] = select(last, v[kVectors - 1], absent);
    F32 top = v[0];
    for (int j = 1; j < kVectors; ++j) top = max(v[j], top);
    const float block_maximum = reduce_max(top);
    const float old_maximum = first_block ? kNegativeInfinity : s.maxima[h];
    const float maximum = block_maximum > old_maximum ? block_maximum : old_maximum;
    const F32 base = set1(maximum == kNegativeInfinity ? 0.0f : maximum);
    F32 sum = zero();
    if (!first_block) {
      const F32 rescale = exp_lanes(sub(set1(old_maximum), base));
      store_n(s.rescales + h, rescale, 1);
      sum = mul(load(s.denominators + static_cast<int64_t>(h) * kLanes), rescale);
    }
    for (int j = 0; j < kVectors; ++j) {
      const F32 weight = exp_lanes(sub(v[j], base));
      store(weights + j * kLanes, weight);
      sum = add(sum, weight);
    }
    store(s.denominators + static_cast<int64_t>(h) * kLanes, sum);
    s.maxima[h] = maximum;
  }
}

void softmax_block(const RowState &s, int32_t count, bool first_block) {
  switch ((count + kLanes - 1) / kLanes) {
    case 1:
      return softmax_block<1>(s, count, first_block);
    case 2:
      return softmax_block<2>(s, count, first_block);
    case 3:
      return softmax_block<3>(s, count, first_block);
    default:
      return softmax_block<4>(s, count, first_block);
  }
}

void store_outputs(const RowState &s, int32_t head, F32 factor) {
  for (int32_t d = 0; d < s.row.d_latent; d += kLanes) {
    const float *sums = s.sums + (static_cast<int64_t>(d / kPanel) * s.row.num_heads + head) * kPanel + d % kPanel;
    const F32 value = mul(load(sums), factor);
    const int64_t to = static_cast<int64_t>(head) * s.row.d_latent + d;
    if (s.row.out_dtype == IC_DTYPE_F32) {
      store(static_cast<float *>(s.row.out) + to, value);
    } else {
      store_bf16(static_cast<uint16_t *>(s.row.out) + to, value);
    }
  }
}

void store_zeros(const RowState &s, int32_t head) {
  const int64_t bytes = static_cast<int64_t>(s.row.d_latent) * (s.row.out_dtype == IC_DTYPE_F32 ? 4 : 2);
  __builtin_memset(static_cast<uint8_t *>(s.row.out) + head * bytes, 0, static_cast<size_t>(bytes));
  if (s.row.lse != nullptr) s.row.lse[head] = -__builtin_inff();
}

float denominator_of(const RowState &s, int32_t head) {
  return reduce_add(load(s.denominators + static_cast<int64_t>(head) * kLanes));
}

// 1 / (denominator and sink): what makes weights probabilities. The denominator is not 0.
F32 weight_factor(const RowState &s, int32_t head, float denominator) {
  if (s.row.sink != nullptr) {
    // Beyond exp's range the sink takes all: an infinite denominator gives zeros.
    const float distance = s.row.sink[head] - s.maxima[head];
    float term[kLanes];
    store(term, exp_lanes(set1(distance)));
    denominator += distance > 88.0f ? __builtin_inff() : term[0];
  }
  return div(set1(1.0f), set1(denominator));
}

void finish_head(const RowState &s, int32_t head) {
  const float denominator = denominator_of(s, head);
  const float maximum = s.maxima[head];
  if (denominator == 0.0f) return store_zeros(s, head);
  store_outputs(s, head, weight_factor(s, head, denominator));
  if (s.row.lse == nullptr) return;
  const bool is_number = denominator > 0.0f && denominator < __builtin_inff();
  s.row.lse[head] =
      is_number ? static_cast<float>(static_cast<double>(maximum) + log_positive(denominator)) : denominator;
}

RowState row_state(const AttendRow &row, float *scratch) {
  const AttendScratch at = attend_scratch(row.num_heads, row.d_latent, row.d_rope);
  return {row,
          row.d_latent + row.d_rope,
          scratch + at.queries,
          scratch + at.keys,
          scratch + at.values,
          scratch + at.weights,
          scratch + at.sums,
          scratch + at.denominators,
          scratch + at.maxima,
          scratch + at.rescales};
}

// Gathers the block of keys that begins with `key` and scores it; returns its number of keys.
int32_t score_keys(const RowState &s, int32_t key) {
  const AttendRow &row = s.row;
  const int32_t count = row.num_keys - key < kBlock ? row.num_keys - key : kBlock;
  if (row.kv_dtype == IC_DTYPE_F32) {
    gather_block<F32Token>(s, row.keys + key, count);
  } else if (row.kv_dtype == IC_DTYPE_BF16) {
    gather_block<Bf16Token>(s, row.keys + key, count);
  } else {
    gather_block<Fp8Token>(s, row.keys + key, count);
  }
  score_block(s, count);
  return count;
}

void attend_row(const AttendRow &row, float *scratch) {
  const RowState s = row_state(row, scratch);
  if (row.num_keys == 0) {
    for (int32_t h = 0; h < row.num_heads; ++h) store_zeros(s, h);
    return;
  }
  load_queries(s);
  for (int32_t key = 0; key < row.num_keys; key += kBlock) {
    const int32_t count = score_keys(s, key);
    softmax_block(s, count, key == 0);
    accumulate_block(s, count, key == 0);
  }
  for (int32_t h = 0; h < row.num_heads; ++h) finish_head(s, h);
}

}  // namespace
}  // namespace ic::cpu

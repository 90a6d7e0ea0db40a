// SPDX-License-Identifier: Apache-2.0
// Inputs of sparse attention in any layout, and its definition in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/attend.h"
#include "cpu/attention_mass.h"
#include "cpu/convert.h"
#include "cpu/workers.h"
#include "indexcache.h"
#include "tests/cpu/uniform.h"

namespace ic::cpu {

struct AttendShape {
  int32_t num_heads = 4, d_latent = 48, d_rope = 16;
  int32_t kv_dtype = IC_DTYPE_F32, q_dtype = IC_DTYPE_F32, out_dtype = IC_DTYPE_F32;
  int32_t page_tokens = 0;  // 0 = contiguous
  bool slots = false;
  int32_t num_seqs = 3, seq_tokens = 300;
  int32_t rows = 9, num_indices = 200;
  float scale = 0.5f;
  uint32_t seed = 1;
};

struct AttendResult {
  std::vector<float> out;  // bf16 results widened
  std::vector<float> lse;
  uint32_t fault = 0;
};

struct MassResult {
  std::vector<float> mass;  // [rows, mass_row_stride]
  uint32_t fault = 0;
};

/// Owns every array of one call. The logical contents (keys, queries, index lists) depend on the seed and the counts
/// only, so problems that differ in layout must give the same bits.
class AttendProblem {
 public:
  explicit AttendProblem(const AttendShape &shape) : shape_(shape), d_(shape.d_latent + shape.d_rope) {
    Uniform uniform(shape.seed);
    make_keys(uniform);
    make_queries(uniform);
    make_lists(uniform);
    if (shape.slots) to_slots();
  }

  const AttendShape &shape() const { return shape_; }
  int64_t token_bytes() const {
    return shape_.kv_dtype == IC_DTYPE_E4M3 ? 656 : int64_t{d_} * dtype_bytes(shape_.kv_dtype);
  }

  /// The call's parameters without output and workspace; they point into this object.
  AttendParams params() const {
    AttendParams p = {};
    p.rows.count = shape_.rows;
    p.rows.num_seqs = shape_.num_seqs;
    p.rows.seq = seq.data();
    p.indices = indices.data();
    p.index_stride = shape_.num_indices;
    p.lengths = lengths.data();
    p.num_indices = shape_.num_indices;
    p.slots = shape_.slots ? 1 : 0;
    p.q = q_bytes.data();
    p.q_row_stride = int64_t{shape_.num_heads} * d_;
    p.q_dtype = shape_.q_dtype;
    p.out_dtype = shape_.out_dtype;
    p.kv.data = const_cast<uint8_t *>(pool.data());
    p.kv.page_tokens = shape_.page_tokens;
    p.kv.stride_bytes = stride_bytes;
    p.kv.capacity = capacity;
    p.kv.num_blocks = num_blocks;
    p.kv.block_table = block_table.data();
    p.kv.block_table_stride = num_blocks;
    p.kv.key_offsets = key_offsets.data();
    p.kv_dtype = shape_.kv_dtype;
    p.num_heads = shape_.num_heads;
    p.d_latent = shape_.d_latent;
    p.d_rope = shape_.d_rope;
    p.softmax_scale = shape_.scale;
    p.sink = sink.empty() ? nullptr : sink.data();
    return p;
  }

  AttendResult run(Isa isa) const {
    Workers workers(1);
    return run(Executor{isa, &workers}, params());
  }

  /// Runs with fresh outputs full of NaN and a workspace of exactly the asked size full of ones.
  AttendResult run(const Executor &executor, AttendParams p) const {
    const size_t values = static_cast<size_t>(p.rows.count) * static_cast<size_t>(p.num_heads * p.d_latent);
    AttendResult result;
    std::vector<uint8_t> out(values * static_cast<size_t>(dtype_bytes(p.out_dtype)), 0xff);
    result.out.resize(values);
    result.lse.assign(static_cast<size_t>(p.rows.count) * static_cast<size_t>(p.num_heads),
                      std::numeric_limits<float>::quiet_NaN());
    p.workspace_size = attend_workspace_size(executor, p.num_heads, p.d_latent, p.d_rope, p.num_indices);
    const std::unique_ptr<void, decltype(&std::free)> workspace(std::aligned_alloc(256, p.workspace_size), &std::free);
    std::memset(workspace.get(), 0xff, p.workspace_size);
    p.workspace = workspace.get();
    p.out = out.data();
    p.out_row_stride = int64_t{p.num_heads} * p.d_latent;
    p.lse = result.lse.data();
    p.lse_row_stride = p.num_heads;
    p.rows.fault = &result.fault;
    attend(executor, p);
    convert_to_f32(p.out_dtype, out.data(), result.out.data(), static_cast<int64_t>(values));
    return result;
  }

  /// The definition, in double, over the row's valid keys.
  AttendResult reference() const {
    AttendResult result;
    for (int32_t row = 0; row < shape_.rows; ++row) {
      for (int32_t h = 0; h < shape_.num_heads; ++h) reference_head(row, h, result);
    }
    return result;
  }

  /// Masses, `gap` elements more than dense from row to row; what is not written is NaN. Outputs and workspace begin
  /// as in run().
  MassResult run_mass(const Executor &executor, AttendParams p, int32_t gap = 0) const {
    MassResult result;
    const int64_t stride = p.num_indices + gap;
    result.mass.assign(static_cast<size_t>(p.rows.count * stride), std::numeric_limits<float>::quiet_NaN());
    p.workspace_size = attention_mass_workspace_size(executor, p.num_heads, p.d_latent, p.d_rope, p.num_indices);
    const std::unique_ptr<void, decltype(&std::free)> workspace(std::aligned_alloc(256, p.workspace_size), &std::free);
    std::memset(workspace.get(), 0xff, p.workspace_size);
    p.workspace = workspace.get();
    p.rows.fault = &result.fault;
    attention_mass(executor, {p, result.mass.data(), stride});
    return result;
  }
  MassResult run_mass(Isa isa) const {
    Workers workers(1);
    return run_mass(Executor{isa, &workers}, params());
  }

  /// The definition, in double, [rows, num_indices].
  std::vector<double> reference_mass() const {
    std::vector<double> mass(static_cast<size_t>(shape_.rows) * static_cast<size_t>(shape_.num_indices));
    for (int32_t row = 0; row < shape_.rows; ++row) {
      const std::vector<int32_t> &list = lists[static_cast<size_t>(row)];
      std::vector<double> sum(list.size());
      for (int32_t h = 0; h < shape_.num_heads; ++h) {
        const std::vector<double> weights = reference_weights(row, h);
        for (size_t i = 0; i < list.size(); ++i) sum[i] += weights[i] / shape_.num_heads;
      }
      // The list's positions are those of the row's entries that are not -1, in order.
      size_t next = 0;
      const size_t first = static_cast<size_t>(row) * static_cast<size_t>(shape_.num_indices);
      for (size_t i = 0; i < static_cast<size_t>(shape_.num_indices) && next < list.size(); ++i) {
        if (indices[first + i] != -1) mass[first + i] = sum[next++];
      }
    }
    return mass;
  }

  // What the keys, queries and lists are: [sequence, token, d], [row, head, d], and per row the logical positions.
  std::vector<float> keys, queries;
  std::vector<std::vector<int32_t>> lists;
  // The same as the operation takes it.
  std::vector<uint8_t> pool, q_bytes;
  std::vector<int32_t> block_table, indices, lengths, seq;
  std::vector<int64_t> key_offsets;
  std::vector<float> sink;
  int64_t stride_bytes = 0, capacity = 0;
  int32_t num_blocks = 0;

  const float *key(int32_t sequence, int32_t token) const {
    return &keys[static_cast<size_t>((int64_t{sequence} * shape_.seq_tokens + token) * d_)];
  }

 private:
  // Writes a token and reads back what it stands for, without the code under test.
  void put_token(const std::vector<float> &values, uint8_t *token, float *meaning) {
    const auto bf16 = [](float value) { return bf16_from_f32(value); };
    for (int32_t d = 0; d < d_; ++d) {
      const float value = values[static_cast<size_t>(d)];
      if (shape_.kv_dtype == IC_DTYPE_F32) {
        std::memcpy(token + d * 4, &value, 4);
        meaning[d] = value;
      } else if (shape_.kv_dtype == IC_DTYPE_BF16 || d >= 512) {
        const uint16_t code = bf16(value);
        std::memcpy(token + (shape_.kv_dtype == IC_DTYPE_BF16 ? d * 2 : 528 + (d - 512) * 2), &code, 2);
        meaning[d] = f32_from_bits(static_cast<uint32_t>(code) << 16);
      } else {
        const float scale = 0.0021f * static_cast<float>(1 + d / 128);
        token[d] = e4m3_from_f32(value / scale);
        std::memcpy(token + 512 + (d / 128) * 4, &scale, 4);
        const int exponent = (token[d] >> 3) & 15, mantissa = token[d] & 7;
        const float magnitude = std::ldexp(static_cast<float>(exponent == 0 ? mantissa : mantissa + 8),
                                           (exponent == 0 ? 1 : exponent) - 10);
        meaning[d] = ((token[d] & 0x80) != 0 ? -magnitude : magnitude) * scale;
      }
    }
  }

  void make_keys(Uniform &uniform) {
    const int32_t tokens = shape_.seq_tokens, seqs = shape_.num_seqs, page = shape_.page_tokens;
    keys.resize(static_cast<size_t>(int64_t{seqs} * tokens * d_));
    // Between pages and vectors of the sequences lies memory that belongs to nobody, all NaN.
    if (page == 0) {
      stride_bytes = token_bytes() + (shape_.kv_dtype == IC_DTYPE_F32 ? 64 : 0);
      capacity = int64_t{seqs} * (tokens + 7) + 5;
    } else {
      stride_bytes = page * token_bytes() + 128;
      num_blocks = (tokens + page - 1) / page;
      capacity = int64_t{seqs} * num_blocks + 11;
    }
    pool.assign(static_cast<size_t>(capacity * stride_bytes), 0xff);
    for (int32_t s = 0; s < seqs; ++s) {
      key_offsets.push_back(5 + s * int64_t{tokens + 7});
      for (int32_t b = 0; b < num_blocks; ++b) {  // page numbers: a permutation of [3, 3 + seqs * num_blocks)
        block_table.push_back(3 + (b * seqs + (seqs - 1 - s)));
      }
    }
    std::vector<float> values(static_cast<size_t>(d_));
    for (int32_t s = 0; s < seqs; ++s) {
      for (int32_t t = 0; t < tokens; ++t) {
        for (float &value : values) value = uniform();
        const int64_t slot = slot_of(s, t);
        uint8_t *token =
            pool.data() + (page == 0 ? slot * stride_bytes : slot / page * stride_bytes + slot % page * token_bytes());
        put_token(values, token, const_cast<float *>(key(s, t)));
      }
    }
  }

  void make_queries(Uniform &uniform) {
    const int64_t count = int64_t{shape_.rows} * shape_.num_heads * d_;
    queries.resize(static_cast<size_t>(count));
    for (float &value : queries) value = uniform();
    q_bytes.resize(static_cast<size_t>(count * dtype_bytes(shape_.q_dtype)));
    convert_from_f32(shape_.q_dtype, queries.data(), q_bytes.data(), count);
    convert_to_f32(shape_.q_dtype, q_bytes.data(), queries.data(), count);
  }

  // Row lengths around every vector and block border; every third row has holes.
  void make_lists(Uniform &uniform) {
    const int32_t borders[] = {shape_.num_indices, 0, 1, 17, 16, 15, 64, 65, 63, 128, 129};
    for (int32_t row = 0; row < shape_.rows; ++row) {
      const int32_t length = std::min(borders[row % 11], shape_.num_indices);
      seq.push_back(uniform.below(shape_.num_seqs));
      lengths.push_back(length);
      std::vector<int32_t> list;
      for (int32_t i = 0; i < shape_.num_indices; ++i) {
        const int32_t position = uniform.below(shape_.seq_tokens);
        const bool hole = row % 3 == 2 && uniform.below(4) == 0;
        indices.push_back(hole || i >= length ? -1 : position);
        if (!hole && i < length) list.push_back(position);
      }
      lists.push_back(list);
    }
  }

  int64_t slot_of(int32_t sequence, int32_t token) const {
    if (shape_.page_tokens == 0) return key_offsets[static_cast<size_t>(sequence)] + token;
    const int32_t page = block_table[static_cast<size_t>(sequence * num_blocks + token / shape_.page_tokens)];
    return int64_t{page} * shape_.page_tokens + token % shape_.page_tokens;
  }

  void to_slots() {
    for (size_t i = 0; i < indices.size(); ++i) {
      const int32_t sequence = seq[i / static_cast<size_t>(shape_.num_indices)];
      if (indices[i] >= 0) indices[i] = static_cast<int32_t>(slot_of(sequence, indices[i]));
    }
  }

  std::vector<double> reference_scores(int32_t row, int32_t h) const {
    const float *q = &queries[static_cast<size_t>((int64_t{row} * shape_.num_heads + h) * d_)];
    const int32_t sequence = seq[static_cast<size_t>(row)];
    std::vector<double> scores;
    for (const int32_t token : lists[static_cast<size_t>(row)]) {
      double dot = 0;
      for (int32_t d = 0; d < d_; ++d) dot += static_cast<double>(q[d]) * static_cast<double>(key(sequence, token)[d]);
      scores.push_back(dot * static_cast<double>(shape_.scale));
    }
    return scores;
  }

  double sink_weight(int32_t h, double maximum) const {
    return sink.empty() ? 0.0 : std::exp(static_cast<double>(sink[static_cast<size_t>(h)]) - maximum);
  }

  /// Softmax weights of a row's list; zeros where all scores are -inf.
  std::vector<double> reference_weights(int32_t row, int32_t h) const {
    std::vector<double> weights = reference_scores(row, h);
    double maximum = -std::numeric_limits<double>::infinity();
    for (const double score : weights) maximum = std::max(maximum, score);
    if (std::isinf(maximum)) return std::vector<double>(weights.size());
    double sum = sink_weight(h, maximum);
    for (double &weight : weights) sum += weight = std::exp(weight - maximum);
    for (double &weight : weights) weight /= sum;
    return weights;
  }

  void reference_head(int32_t row, int32_t h, AttendResult &result) const {
    const std::vector<int32_t> &list = lists[static_cast<size_t>(row)];
    const int32_t sequence = seq[static_cast<size_t>(row)];
    const std::vector<double> scores = reference_scores(row, h);
    double maximum = -std::numeric_limits<double>::infinity();
    for (const double score : scores) maximum = std::max(maximum, score);
    double sum = 0;
    std::vector<double> out(static_cast<size_t>(shape_.d_latent));
    for (size_t i = 0; i < list.size(); ++i) {
      const double weight = std::exp(scores[i] - maximum);
      sum += weight;
      for (int32_t d = 0; d < shape_.d_latent; ++d) {
        out[static_cast<size_t>(d)] += weight * static_cast<double>(key(sequence, list[i])[d]);
      }
    }
    result.lse.push_back(static_cast<float>(maximum + std::log(sum)));
    sum += sink_weight(h, maximum);
    for (const double value : out) result.out.push_back(list.empty() ? 0.0f : static_cast<float>(value / sum));
  }

  const AttendShape shape_;
  const int32_t d_;
};

}  // namespace ic::cpu

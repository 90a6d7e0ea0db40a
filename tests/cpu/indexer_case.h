// SPDX-License-Identifier: Apache-2.0
// A made-up indexer call and the plainest possible answer to it, for the tests of scores and selection.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/params.h"
#include "cpu/executor.h"
#include "cpu/score_select.h"
#include "cpu/scores.h"
#include "cpu/workers.h"
#include "indexcache.h"
#include "tests/cpu/levels.h"

namespace ic::cpu::test {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- element types, by their definitions -------------------------------------------------------------------------

inline float decode(int32_t dtype, uint32_t code) {
  if (dtype == IC_DTYPE_F32 || dtype == IC_DTYPE_BF16) {
    const uint32_t bits = dtype == IC_DTYPE_BF16 ? code << 16 : code;
    float value = 0;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  const bool half = dtype == IC_DTYPE_F16;
  const int mantissa_bits = half ? 10 : 3;
  const int bias = half ? 15 : 7;
  const auto exponent = static_cast<int>((code >> mantissa_bits) & (half ? 31u : 15u));
  const auto mantissa = static_cast<int>(code & ((1u << mantissa_bits) - 1));
  const float sign = ((code >> (half ? 15 : 7)) & 1u) != 0 ? -1.0f : 1.0f;
  if (half && exponent == 31) return mantissa != 0 ? kNan : sign * kInf;
  if (!half && exponent == 15 && mantissa == 7) return kNan;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
  return sign * std::ldexp(static_cast<float>(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
}

inline int32_t element_bytes(int32_t dtype) { return dtype == IC_DTYPE_F32 ? 4 : dtype == IC_DTYPE_E4M3 ? 1 : 2; }

inline uint32_t read_code(const uint8_t *p, int32_t dtype) {
  uint32_t code = 0;
  std::memcpy(&code, p, static_cast<size_t>(element_bytes(dtype)));
  return code;
}

/// A random finite element, a code of dtype.
inline uint32_t random_code(std::mt19937 &random, int32_t dtype) {
  const float x = std::normal_distribution<float>()(random);
  uint32_t bits = 0;
  std::memcpy(&bits, &x, 4);
  switch (dtype) {
    case IC_DTYPE_F32:
      return bits;
    case IC_DTYPE_BF16:
      return bits >> 16;
    case IC_DTYPE_F16:  // all finite codes up to 2^4, subnormals included
      return (static_cast<uint32_t>(random()) & 0x8000u) | static_cast<uint32_t>(random()) % 0x4c00u;
    default:  // all finite codes
      return (static_cast<uint32_t>(random()) & 0x80u) | static_cast<uint32_t>(random()) % 0x7fu;
  }
}

// ---- the case ----------------------------------------------------------------------------------------------------

struct Shape {
  int32_t dtype = IC_DTYPE_F32;
  int32_t num_heads = 4;
  int32_t head_dim = 32;
  int32_t page_tokens = 0;  // 0 = contiguous
  int32_t num_seqs = 1;
  int32_t num_keys = 100;  // of each sequence
};

/// Keys are made per (sequence, position) from the seed, so that every layout holds the same keys; likewise queries.
class IndexerCase {
 public:
  explicit IndexerCase(const Shape &shape, uint32_t seed = 1) : shape_(shape) {
    std::mt19937 random(seed);
    const auto per_key = static_cast<size_t>(shape.head_dim);
    const size_t keys = static_cast<size_t>(shape.num_seqs) * static_cast<size_t>(shape.num_keys);
    for (size_t i = 0; i < keys * per_key; ++i) key_codes_.push_back(random_code(random, shape.dtype));
    for (size_t i = 0; i < keys; ++i) {
      key_scales_.push_back(std::ldexp(1.0f + 0.37f * static_cast<float>(i % 3), static_cast<int>(random() % 7) - 3));
    }
    build_pool(random);
  }

  /// Adds a row that sees [begin, end) of seq.
  void add_row(int32_t seq, int32_t begin, int32_t end) {
    std::mt19937 random(static_cast<uint32_t>(100 + rows_added_++));
    row_seq.push_back(seq);
    key_begin.push_back(begin);
    key_end.push_back(end);
    const int32_t bytes = element_bytes(shape_.dtype);
    const size_t at = q.size();
    q.resize(at + static_cast<size_t>(q_row_stride() * bytes), 0xa5);
    for (int32_t i = 0; i < shape_.num_heads * shape_.head_dim; ++i) {
      const uint32_t code = random_code(random, shape_.dtype);
      std::memcpy(q.data() + at + static_cast<size_t>(i * bytes), &code, static_cast<size_t>(bytes));
    }
    std::normal_distribution<float> normal;
    for (int32_t h = 0; h < shape_.num_heads + kWPad; ++h) {
      w.push_back(normal(random));
      q_scale.push_back(std::abs(normal(random)));
    }
  }

  const Shape &shape() const { return shape_; }
  int32_t num_rows() const { return static_cast<int32_t>(row_seq.size()); }
  int64_t q_row_stride() const { return int64_t{shape_.num_heads} * shape_.head_dim + 3; }
  int32_t bound() const {
    return max_key_end != 0 ? max_key_end : std::max(1, *std::max_element(key_end.begin(), key_end.end()));
  }

  RowsView rows_view() {
    return {num_rows(), shape_.num_seqs, bound(), row_seq.data(), key_begin.data(), key_end.data(), &fault};
  }
  QueryView query_view() const {
    return {q.data(),
            q_row_stride(),
            w.data(),
            shape_.num_heads + kWPad,
            use_q_scale ? q_scale.data() : nullptr,
            shape_.num_heads + kWPad,
            shape_.num_heads,
            shape_.head_dim,
            shape_.dtype,
            0};
  }
  PoolView pool_view() {
    const bool contiguous_scales = shape_.page_tokens == 0 && shape_.dtype == IC_DTYPE_E4M3;
    return {pool.data(),
            contiguous_scales ? scales.data() : nullptr,
            stride,
            capacity,
            shape_.page_tokens,
            num_blocks,
            shape_.page_tokens == 0 ? nullptr : table.data(),
            num_blocks + kTablePad,
            shape_.page_tokens == 0 ? key_offsets.data() : nullptr};
  }

  /// True when the key exists in the pool as the table and offsets stand now.
  bool present(int32_t seq, int32_t position) const {
    if (shape_.page_tokens == 0) {
      const int64_t vector = key_offsets[static_cast<size_t>(seq)] + position;
      return vector >= 0 && vector < capacity;
    }
    const int32_t block = position / shape_.page_tokens;
    if (block >= num_blocks) return false;
    const int32_t page = table[static_cast<size_t>(seq * (num_blocks + kTablePad) + block)];
    return page >= 0 && page < capacity;
  }

  /// The visible keys of row r, ascending.
  std::vector<int32_t> visible(int32_t r) const {
    std::vector<int32_t> positions;
    const auto i = static_cast<size_t>(r);
    if (key_end[i] > bound() || row_seq[i] < 0 || row_seq[i] >= shape_.num_seqs) return positions;
    for (int32_t s = std::max(key_begin[i], 0); s < key_end[i]; ++s) {
      if (present(row_seq[i], s)) positions.push_back(s);
    }
    return positions;
  }

  /// The definition of the score, in fp32, element by element. magnitude: ks * sum_h |w| * sum_d |q k| in fp64;
  /// exact: the score in fp64.
  float oracle(int32_t r, int32_t position, double *exact = nullptr, double *magnitude = nullptr) const {
    const int32_t seq = row_seq[static_cast<size_t>(r)];
    const auto key = static_cast<size_t>(seq) * static_cast<size_t>(shape_.num_keys) + static_cast<size_t>(position);
    const int32_t bytes = element_bytes(shape_.dtype);
    float sum = 0;
    double sum64 = 0, magnitude64 = 0;
    for (int32_t h = 0; h < shape_.num_heads; ++h) {
      float z = 0;
      double z64 = 0, abs64 = 0;
      for (int32_t d = 0; d < shape_.head_dim; ++d) {
        const int64_t element = r * q_row_stride() + h * shape_.head_dim + d;
        const float a = decode(shape_.dtype, read_code(q.data() + element * bytes, shape_.dtype));
        const float b =
            decode(shape_.dtype, key_codes_[key * static_cast<size_t>(shape_.head_dim) + static_cast<size_t>(d)]);
        z = std::fma(a, b, z);
        z64 += static_cast<double>(a) * b;
        abs64 += std::abs(static_cast<double>(a) * b);
      }
      const auto wi = static_cast<size_t>(r * (shape_.num_heads + kWPad) + h);
      const float weight = use_q_scale ? w[wi] * q_scale[wi] : w[wi];
      sum = std::fma(weight, z > 0 ? z : 0.0f, sum);
      sum64 += weight * std::max(z64, 0.0);
      magnitude64 += std::abs(weight) * abs64;
    }
    const float scale = shape_.dtype == IC_DTYPE_E4M3 ? key_scales_[key] : 1.0f;
    if (exact != nullptr) *exact = scale * sum64;
    if (magnitude != nullptr) *magnitude = scale * magnitude64;
    const float score = (shape_.dtype == IC_DTYPE_E4M3 ? scale * sum : sum) + 0.0f;
    return std::isnan(score) ? -kInf : score;
  }

  /// Overwrites element d of a key, in the pool and for the oracle.
  void set_key(int32_t seq, int32_t position, int32_t d, uint32_t code) {
    const auto key = static_cast<size_t>(seq) * static_cast<size_t>(shape_.num_keys) + static_cast<size_t>(position);
    key_codes_[key * static_cast<size_t>(shape_.head_dim) + static_cast<size_t>(d)] = code;
    write_key(seq, position);
  }

  static constexpr int32_t kWPad = 5;
  static constexpr int32_t kTablePad = 3;

  bool use_q_scale = false;
  int32_t max_key_end = 0;  // 0 = the largest key_end
  uint32_t fault = 0;
  std::vector<int32_t> row_seq, key_begin, key_end;
  std::vector<uint8_t> q;
  std::vector<float> w, q_scale;
  std::vector<uint8_t> pool;
  std::vector<float> scales;
  std::vector<int32_t> table;
  std::vector<int64_t> key_offsets;
  int64_t stride = 0;
  int64_t capacity = 0;
  int32_t num_blocks = 0;

 private:
  // Pages in random order with unused ones between them; sequences of a contiguous pool with gaps between them.
  void build_pool(std::mt19937 &random) {
    const int64_t vector_bytes = int64_t{shape_.head_dim} * element_bytes(shape_.dtype);
    if (shape_.page_tokens == 0) {
      stride = vector_bytes + 4;
      for (int32_t s = 0; s < shape_.num_seqs; ++s) key_offsets.push_back(7 + int64_t{s} * (shape_.num_keys + 2));
      capacity = 7 + int64_t{shape_.num_seqs} * (shape_.num_keys + 2);
      scales.assign(static_cast<size_t>(capacity), kNan);
    } else {
      num_blocks = (shape_.num_keys + shape_.page_tokens - 1) / shape_.page_tokens;
      capacity = int64_t{shape_.num_seqs} * num_blocks + 3;
      stride = shape_.page_tokens * (vector_bytes + (shape_.dtype == IC_DTYPE_E4M3 ? 4 : 0)) + 12;
      std::vector<int32_t> pages(static_cast<size_t>(capacity));
      for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
      std::shuffle(pages.begin(), pages.end(), random);
      size_t next = 0;
      for (int32_t s = 0; s < shape_.num_seqs; ++s) {
        for (int32_t b = 0; b < num_blocks; ++b) table.push_back(pages[next++]);
        for (int32_t b = 0; b < kTablePad; ++b) table.push_back(1 << 30);  // never looked at
      }
    }
    pool.assign(static_cast<size_t>(capacity * stride), 0xff);
    for (int32_t s = 0; s < shape_.num_seqs; ++s) {
      for (int32_t i = 0; i < shape_.num_keys; ++i) write_key(s, i);
    }
  }

  void write_key(int32_t seq, int32_t position) {
    const auto key = static_cast<size_t>(seq) * static_cast<size_t>(shape_.num_keys) + static_cast<size_t>(position);
    const int32_t bytes = element_bytes(shape_.dtype);
    const int64_t vector_bytes = int64_t{shape_.head_dim} * bytes;
    int64_t at = 0, scale_at = -1;
    if (shape_.page_tokens == 0) {
      const int64_t vector = key_offsets[static_cast<size_t>(seq)] + position;
      at = vector * stride;
      scales[static_cast<size_t>(vector)] = key_scales_[key];
    } else {
      const int32_t page = table[static_cast<size_t>(seq * (num_blocks + kTablePad) + position / shape_.page_tokens)];
      const int32_t token = position % shape_.page_tokens;
      at = page * stride + token * vector_bytes;
      scale_at = page * stride + shape_.page_tokens * vector_bytes + token * 4;
    }
    for (int32_t d = 0; d < shape_.head_dim; ++d) {
      const uint32_t code = key_codes_[key * static_cast<size_t>(shape_.head_dim) + static_cast<size_t>(d)];
      std::memcpy(pool.data() + at + d * bytes, &code, static_cast<size_t>(bytes));
    }
    if (scale_at >= 0 && shape_.dtype == IC_DTYPE_E4M3) std::memcpy(pool.data() + scale_at, &key_scales_[key], 4);
  }

  Shape shape_;
  int32_t rows_added_ = 0;
  std::vector<uint32_t> key_codes_;
  std::vector<float> key_scales_;
};

// ---- running it --------------------------------------------------------------------------------------------------

/// Exactly as many bytes as asked for, filled with garbage, with a guard behind them.
class TestWorkspace {
 public:
  explicit TestWorkspace(size_t size)
      : size_(size), data_(static_cast<uint8_t *>(std::aligned_alloc(256, (size + 511) / 256 * 256)), &std::free) {
    std::memset(data_.get(), 0x7f, (size + 511) / 256 * 256);
  }
  ~TestWorkspace() {
    for (size_t i = size_; i < (size_ + 511) / 256 * 256; ++i) {
      if (data_.get()[i] != 0x7f) ADD_FAILURE() << "wrote behind the workspace";
    }
  }
  void *data() { return data_.get(); }
  size_t size() const { return size_; }

 private:
  size_t size_;
  std::unique_ptr<uint8_t, decltype(&std::free)> data_;
};

constexpr float kUntouched = 12345.0f;

/// The score matrix [rows, num_columns] of a window; untouched elements are kUntouched.
inline std::vector<float> run_scores(const Executor &executor, IndexerCase &c, int32_t first, int32_t columns,
                                     bool clean) {
  TestWorkspace workspace(scores_workspace_size(executor, c.shape().num_heads, c.shape().head_dim));
  const int64_t stride = columns + 1;
  std::vector<float> padded(static_cast<size_t>(c.num_rows() * stride), kUntouched);
  scores(executor, {c.rows_view(), c.query_view(), c.pool_view(), padded.data(), stride, first, columns,
                    clean ? OtherColumns::kClean : OtherColumns::kKeep, 0, workspace.data(), workspace.size()});
  std::vector<float> out;
  for (int32_t r = 0; r < c.num_rows(); ++r) {
    const auto row = padded.begin() + r * stride;
    out.insert(out.end(), row, row + columns);
    EXPECT_EQ(row[columns], kUntouched);
  }
  return out;
}

struct Selection {
  std::vector<int32_t> indices;  // [rows, k_padded]
  std::vector<int32_t> lengths;
  std::vector<float> scores;  // [rows, k_padded]; empty when not wanted
  int32_t k_padded = 0;
  bool operator==(const Selection &other) const {
    return indices == other.indices && lengths == other.lengths && scores == other.scores;
  }
};

/// The rule of selection over (position, score) pairs, in the requested order.
inline void append_expected(std::vector<std::pair<int32_t, float>> keys, int32_t k, int32_t order, bool with_scores,
                            Selection *expected) {
  expected->k_padded = (k + 127) / 128 * 128;
  std::sort(keys.begin(), keys.end(), [](const auto &a, const auto &b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  if (keys.size() > static_cast<size_t>(k)) keys.resize(static_cast<size_t>(k));
  if (order != IC_ORDER_SCORE) std::sort(keys.begin(), keys.end());
  expected->lengths.push_back(static_cast<int32_t>(keys.size()));
  keys.resize(static_cast<size_t>(expected->k_padded), {-1, -kInf});
  for (const auto &[position, score] : keys) {
    expected->indices.push_back(position);
    if (with_scores) expected->scores.push_back(score);
  }
}

/// Output buffers with a guard column behind k_padded.
class SelectionBuffer {
 public:
  SelectionBuffer(int32_t rows, int32_t k, int32_t order, bool with_scores) : rows_(rows), k_(k), order_(order) {
    k_padded_ = (k + 127) / 128 * 128;
    stride_ = k_padded_ + 1;
    indices_.assign(static_cast<size_t>(rows * stride_), -77);
    lengths_.assign(static_cast<size_t>(rows) + 1, -77);
    if (with_scores) scores_.assign(static_cast<size_t>(rows * stride_), kUntouched);
  }
  SelectionOut out() {
    return {indices_.data(),
            lengths_.data(),
            scores_.empty() ? nullptr : scores_.data(),
            stride_,
            k_,
            k_padded_,
            order_,
            0};
  }
  Selection take() {
    Selection s;
    s.k_padded = k_padded_;
    for (int32_t r = 0; r < rows_; ++r) {
      const auto row = indices_.begin() + r * stride_;
      s.indices.insert(s.indices.end(), row, row + k_padded_);
      EXPECT_EQ(row[k_padded_], -77);
      if (scores_.empty()) continue;
      const auto row_scores = scores_.begin() + r * stride_;
      s.scores.insert(s.scores.end(), row_scores, row_scores + k_padded_);
      EXPECT_EQ(row_scores[k_padded_], kUntouched);
    }
    EXPECT_EQ(lengths_.back(), -77);
    s.lengths.assign(lengths_.begin(), lengths_.end() - 1);
    return s;
  }

 private:
  int32_t rows_, k_, order_, k_padded_;
  int64_t stride_;
  std::vector<int32_t> indices_, lengths_;
  std::vector<float> scores_;
};

inline Selection run_score_select(const Executor &executor, IndexerCase &c, int32_t k,
                                  int32_t order = IC_ORDER_POSITION, bool with_scores = true) {
  TestWorkspace workspace(
      score_select_workspace_size(executor, c.num_rows(), c.bound(), c.shape().num_heads, c.shape().head_dim, k));
  SelectionBuffer buffer(c.num_rows(), k, order, with_scores);
  score_select(executor,
               {c.rows_view(), c.query_view(), c.pool_view(), buffer.out(), workspace.data(), workspace.size()});
  return buffer.take();
}

/// Bit patterns, so that comparisons see -0 and NaN.
inline std::vector<uint32_t> bits_of(const std::vector<float> &values) {
  std::vector<uint32_t> bits(values.size());
  if (!values.empty()) std::memcpy(bits.data(), values.data(), values.size() * 4);
  return bits;
}

}  // namespace ic::cpu::test

// SPDX-License-Identifier: Apache-2.0
// A random indexer call of any element type, with the plainest possible answers to it: scores in double, and selections
// by sorting.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/dtype.h"
#include "cpu/convert.h"
#include "indexcache.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

/// What queries and keys look like.
enum class Contents {
  kNormal,     // no two scores are equal, as far as chance goes
  kQuantised,  // -1, 0 and 1 and weights that are small integers: every partial sum is exact, scores repeat
  kRelu,       // most keys lie opposite to every query: thousands of scores are exactly 0
  kRepeated,   // few keys, each many times
};
inline const char *name(Contents contents) {
  constexpr const char *kNames[] = {"normal", "quantised", "relu", "repeated"};
  return kNames[static_cast<int>(contents)];
}

struct RandomShape {
  int32_t dtype = IC_DTYPE_F32;
  int32_t num_heads = 4;
  int32_t head_dim = 64;
  int32_t page_tokens = 0;  // 0 = contiguous
  int32_t num_seqs = 1;
  int32_t num_rows = 4;
  int32_t num_keys = 5000;
  int32_t k = 512;
  Contents contents = Contents::kNormal;
  bool q_scale = false;
  bool key_begin = false;
  bool holes = false;  // some pages are absent
};

inline std::string describe(const RandomShape &s) {
  return std::string(dtype_name(s.dtype)) + ", heads " + std::to_string(s.num_heads) + ", dim " +
         std::to_string(s.head_dim) + ", page_tokens " + std::to_string(s.page_tokens) + ", seqs " +
         std::to_string(s.num_seqs) + ", rows " + std::to_string(s.num_rows) + ", keys " + std::to_string(s.num_keys) +
         ", k " + std::to_string(s.k) + ", " + name(s.contents) + (s.q_scale ? ", q_scale" : "") +
         (s.key_begin ? ", key_begin" : "") + (s.holes ? ", holes" : "");
}

/// A key with its score.
using Scored = std::pair<float, int32_t>;

/// The k best by score descending, position ascending; returned by position.
template <class Score>
std::vector<std::pair<Score, int32_t>> best(std::vector<std::pair<Score, int32_t>> keys, int32_t k) {
  const auto before = [](const auto &a, const auto &b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  if (keys.size() > static_cast<size_t>(k)) {
    std::nth_element(keys.begin(), keys.begin() + (k - 1), keys.end(), before);
    keys.resize(static_cast<size_t>(k));
  }
  std::sort(keys.begin(), keys.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
  return keys;
}

class RandomProblem {
 public:
  RandomProblem(const RandomShape &shape, uint32_t seed)
      : shape_(shape), element_(ic::dtype_bytes(shape.dtype)), random_(seed) {
    const int64_t vector = shape.head_dim * element_;
    // Strides as engines have them: multiples of a vector, with or without something between.
    q_row_stride_ = int64_t{shape.num_heads} * shape.head_dim + 16 * draw(0, 2);
    w_row_stride_ = shape.num_heads + draw(0, 3);
    const int64_t pad = 16 * draw(0, 2);
    if (shape.page_tokens == 0) {
      capacity_ = int64_t{shape.num_seqs} * shape.num_keys + 5;
      stride_bytes_ = vector + pad;
    } else {
      num_blocks_ = (shape.num_keys + shape.page_tokens - 1) / shape.page_tokens;
      table_stride_ = num_blocks_ + draw(0, 3);
      capacity_ = int64_t{shape.num_seqs} * num_blocks_ + 3;
      stride_bytes_ = shape.page_tokens * (vector + (e4m3() ? 4 : 0)) + pad;
    }
    redraw();
  }

  /// New contents of every array; sizes and strides stay, as in a replayed graph.
  void redraw() {
    fill_elements();
    fill_weights();
    draw_tables();
    draw_rows();
  }

  const RandomShape &shape() const { return shape_; }
  int32_t k_padded() const { return (shape_.k + 127) / 128 * 128; }
  bool e4m3() const { return shape_.dtype == IC_DTYPE_E4M3; }

  struct Pointers {
    const void *q;
    const float *w, *q_scale;
    uint8_t *keys;
    float *scales;
    const int32_t *table, *seq, *begin, *end;
    const int64_t *offsets;
    uint32_t *fault;
  };
  RowsView rows(const Pointers &at) const {
    return {shape_.num_rows, shape_.num_seqs, shape_.num_keys, at.seq, shape_.key_begin ? at.begin : nullptr,
            at.end,          at.fault};
  }
  QueryView query(const Pointers &at) const {
    return {at.q,
            q_row_stride_,
            at.w,
            w_row_stride_,
            shape_.q_scale ? at.q_scale : nullptr,
            w_row_stride_,
            shape_.num_heads,
            shape_.head_dim,
            shape_.dtype,
            0};
  }
  PoolView pool(const Pointers &at) const {
    const bool paged = shape_.page_tokens != 0;
    return {at.keys,
            e4m3() && !paged ? at.scales : nullptr,
            stride_bytes_,
            capacity_,
            shape_.page_tokens,
            num_blocks_,
            paged ? at.table : nullptr,
            table_stride_,
            paged ? nullptr : at.offsets};
  }
  ScoreLimits limits(int32_t k) const {
    return {shape_.num_rows, shape_.num_keys, shape_.num_heads, shape_.head_dim, shape_.dtype, k};
  }

  /// The keys that a row sees, ascending.
  std::vector<int32_t> visible(int32_t row) const {
    std::vector<int32_t> positions;
    const auto r = static_cast<size_t>(row);
    for (int32_t s = shape_.key_begin ? begin[r] : 0; s < end[r]; ++s) {
      if (address(row, s) >= 0) positions.push_back(s);
    }
    return positions;
  }

  struct Exact {
    double score;      // in double
    double magnitude;  // ks * sum_h |w| * sum_d |q k|: what the error bound is a multiple of
  };
  /// Scores of some keys of a row.
  std::vector<Exact> exact(int32_t row, const std::vector<int32_t> &positions) const {
    const auto dim = static_cast<size_t>(shape_.head_dim);
    const auto heads = static_cast<size_t>(shape_.num_heads);
    std::vector<float> queries(heads * dim), key(dim);
    cpu::convert_to_f32(shape_.dtype, q.data() + row * q_row_stride_ * element_, queries.data(),
                        static_cast<int64_t>(queries.size()));
    std::vector<Exact> result;
    for (const int32_t position : positions) {
      const int64_t at = address(row, position);
      cpu::convert_to_f32(shape_.dtype, keys.data() + at, key.data(), shape_.head_dim);
      Exact sum{0, 0};
      for (size_t h = 0; h < heads; ++h) {
        double dot = 0, magnitude = 0;
        for (size_t d = 0; d < dim; ++d) {
          const double product = static_cast<double>(queries[h * dim + d]) * static_cast<double>(key[d]);
          dot += product;
          magnitude += std::abs(product);
        }
        const auto i = static_cast<size_t>(row * w_row_stride_) + h;
        const double weight = shape_.q_scale ? w[i] * q_scale[i] : w[i];  // rounded once, as the contract says
        sum.score += weight * std::max(dot, 0.0);
        sum.magnitude += std::abs(weight) * magnitude;
      }
      const double scale = e4m3() ? static_cast<double>(key_scale(row, position)) : 1.0;
      result.push_back({scale * sum.score, scale * sum.magnitude});
    }
    return result;
  }

  std::vector<uint8_t> q, keys;
  std::vector<float> w, q_scale, scales;
  std::vector<int32_t> table, seq, begin, end;
  std::vector<int64_t> offsets;

  Pointers on_host(uint32_t *fault) {
    return {q.data(),   w.data(),     q_scale.data(), keys.data(),    scales.data(), table.data(),
            seq.data(), begin.data(), end.data(),     offsets.data(), fault};
  }

 private:
  int32_t draw(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(random_); }
  float normal() { return std::normal_distribution<float>()(random_); }

  /// A long random sequence of elements of the type; vectors are windows of it, which is faster than drawing each.
  std::vector<uint8_t> stream(bool negative_side, bool positive_side) {
    std::vector<float> values(1 << 15);
    for (float &x : values) {
      if (shape_.contents == Contents::kQuantised) {
        const int32_t kind = draw(0, 7);
        x = kind == 0 ? 1.0f : kind == 1 ? -1.0f : 0.0f;
      } else {
        x = normal();
      }
      if (negative_side) x = -std::abs(x);
      if (positive_side) x = std::abs(x);
    }
    std::vector<uint8_t> codes(values.size() * static_cast<size_t>(element_));
    cpu::convert_from_f32(shape_.dtype, values.data(), codes.data(), static_cast<int64_t>(values.size()));
    return codes;
  }
  void copy_window(const std::vector<uint8_t> &from, uint8_t *to) {
    const auto elements = static_cast<int32_t>(from.size()) / static_cast<int32_t>(element_);
    const int64_t first = draw(0, elements - shape_.head_dim);
    std::memcpy(to, from.data() + first * element_, static_cast<size_t>(shape_.head_dim * element_));
  }

  void fill_elements() {
    const bool relu = shape_.contents == Contents::kRelu;
    const std::vector<uint8_t> codes = stream(false, relu);
    const std::vector<uint8_t> opposite = relu ? stream(true, false) : std::vector<uint8_t>();
    q.assign(static_cast<size_t>(shape_.num_rows * q_row_stride_ * element_), 0);
    for (int64_t r = 0; r < shape_.num_rows; ++r)
      for (int64_t h = 0; h < shape_.num_heads; ++h)
        copy_window(codes, q.data() + (r * q_row_stride_ + h * shape_.head_dim) * element_);

    keys.assign(static_cast<size_t>(capacity_ * stride_bytes_), 0);
    scales.assign(static_cast<size_t>(capacity_), 1.0f);
    const int64_t vector = shape_.head_dim * element_;
    std::vector<uint8_t> few(static_cast<size_t>(40 * vector));
    for (int64_t i = 0; i < 40; ++i) copy_window(codes, few.data() + i * vector);
    const int64_t tokens = std::max(shape_.page_tokens, 1);
    for (int64_t page = 0; page < capacity_; ++page) {
      for (int64_t token = 0; token < tokens; ++token) {
        uint8_t *at = keys.data() + page * stride_bytes_ + token * vector;
        if (shape_.contents == Contents::kRepeated) {
          std::memcpy(at, few.data() + draw(0, 39) * vector, static_cast<size_t>(vector));
        } else {
          copy_window(relu && draw(0, 9) != 0 ? opposite : codes, at);
        }
        if (!e4m3()) continue;
        // A power of two keeps exact sums exact; equal keys stay equal.
        const float scale = shape_.contents == Contents::kNormal ? 0.25f + std::abs(normal()) : 0.5f;
        if (shape_.page_tokens == 0) {
          scales[static_cast<size_t>(page)] = scale;
        } else {
          std::memcpy(keys.data() + page * stride_bytes_ + tokens * vector + token * 4, &scale, 4);
        }
      }
    }
  }

  void fill_weights() {
    const bool exact = shape_.contents == Contents::kQuantised;
    w.assign(static_cast<size_t>(shape_.num_rows * w_row_stride_), 0);
    for (float &x : w) x = exact ? static_cast<float>(draw(-2, 2)) : normal();
    q_scale.assign(w.size(), 0);
    for (float &x : q_scale) x = exact ? 0.5f : 0.1f + std::abs(normal());
  }

  void draw_tables() {
    if (shape_.page_tokens == 0) {
      table.assign(1, 0);
      offsets.assign(static_cast<size_t>(shape_.num_seqs), 0);
      for (int32_t s = 0; s < shape_.num_seqs; ++s)
        offsets[static_cast<size_t>(s)] = int64_t{s} * shape_.num_keys + draw(0, 5);
      return;
    }
    std::vector<int32_t> pages(static_cast<size_t>(capacity_));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), random_);
    table.assign(static_cast<size_t>(shape_.num_seqs * table_stride_), 1 << 30);  // behind a row: never looked at
    offsets.assign(1, 0);
    size_t next = 0;
    for (int32_t s = 0; s < shape_.num_seqs; ++s)
      for (int32_t b = 0; b < num_blocks_; ++b) {
        const int32_t page = pages[next++];
        table[static_cast<size_t>(s * table_stride_ + b)] = shape_.holes && draw(0, 40) == 0 ? -1 : page;
      }
  }

  void draw_rows() {
    const auto rows = static_cast<size_t>(shape_.num_rows);
    seq.assign(rows, 0), begin.assign(rows, 0), end.assign(rows, 0);
    for (size_t r = 0; r < rows; ++r) {
      seq[r] = draw(0, shape_.num_seqs - 1);
      if (draw(0, 39) == 0) {  // around k, and empty
        const int32_t edges[] = {0, 1, shape_.k - 1, shape_.k, shape_.k + 1};
        end[r] = std::min(edges[draw(0, 4)], shape_.num_keys);
        continue;
      }
      end[r] = draw(shape_.num_keys - shape_.num_keys / 10, shape_.num_keys);
      begin[r] = draw(0, shape_.num_keys / 20);
    }
  }

  /// Byte offset of a key of a row's sequence; -1: on an absent page.
  int64_t address(int32_t row, int32_t position) const {
    const auto s = static_cast<size_t>(seq[static_cast<size_t>(row)]);
    if (shape_.page_tokens == 0) return (offsets[s] + position) * stride_bytes_;
    const int64_t page =
        table[s * static_cast<size_t>(table_stride_) + static_cast<size_t>(position / shape_.page_tokens)];
    return page < 0 ? -1 : page * stride_bytes_ + position % shape_.page_tokens * (shape_.head_dim * element_);
  }
  float key_scale(int32_t row, int32_t position) const {
    const auto s = static_cast<size_t>(seq[static_cast<size_t>(row)]);
    if (shape_.page_tokens == 0) return scales[static_cast<size_t>(offsets[s] + position)];
    const int64_t page =
        table[s * static_cast<size_t>(table_stride_) + static_cast<size_t>(position / shape_.page_tokens)];
    float scale = 0;
    std::memcpy(&scale,
                keys.data() + page * stride_bytes_ + shape_.page_tokens * (shape_.head_dim * element_) +
                    position % shape_.page_tokens * 4,
                4);
    return scale;
  }

  RandomShape shape_;
  int64_t element_;
  std::mt19937 random_;
  int64_t q_row_stride_ = 0, w_row_stride_ = 0, stride_bytes_ = 0, capacity_ = 0, table_stride_ = 0;
  int32_t num_blocks_ = 0;
};

/// What the operations wrote for a problem.
struct RandomResult {
  std::vector<float> scores;                            // [rows, keys]
  std::vector<int32_t> indices, lengths;                // of score_select
  std::vector<float> selected_scores;                   // likewise
  std::vector<int32_t> matrix_indices, matrix_lengths;  // of select over `scores`
  uint32_t fault = 0;
  bool same_bits(const RandomResult &other) const {
    return indices == other.indices && lengths == other.lengths && matrix_indices == other.matrix_indices &&
           matrix_lengths == other.matrix_lengths && fault == other.fault &&
           std::memcmp(scores.data(), other.scores.data(), scores.size() * 4) == 0 &&
           std::memcmp(selected_scores.data(), other.selected_scores.data(), selected_scores.size() * 4) == 0;
  }
};

/// A problem's arrays on the device, outputs and workspaces included.
class DeviceRandomProblem {
 public:
  explicit DeviceRandomProblem(const RandomProblem &problem)
      : problem_(problem),
        q_(problem.q),
        keys_(problem.keys),
        w_(problem.w),
        q_scale_(problem.q_scale),
        scales_(problem.scales),
        table_(problem.table),
        seq_(problem.seq),
        begin_(problem.begin),
        end_(problem.end),
        offsets_(problem.offsets),
        fault_(1),
        scores_(static_cast<size_t>(problem.shape().num_rows) * static_cast<size_t>(problem.shape().num_keys)),
        selected_scores_(entries()),
        indices_(entries()),
        lengths_(rows()),
        matrix_indices_(entries()),
        matrix_lengths_(rows()),
        scores_workspace_(DeviceArray<uint8_t>::workspace(cuda_backend().scores_workspace_size(problem.limits(0)))),
        score_select_workspace_(DeviceArray<uint8_t>::workspace(
            cuda_backend().score_select_workspace_size(problem.limits(problem.shape().k)))),
        select_workspace_(DeviceArray<uint8_t>::workspace(cuda_backend().select_workspace_size(
            problem.shape().num_rows, problem.shape().num_keys, problem.shape().k))) {}

  void upload() {
    q_.assign(problem_.q);
    keys_.assign(problem_.keys);
    w_.assign(problem_.w);
    q_scale_.assign(problem_.q_scale);
    scales_.assign(problem_.scales);
    table_.assign(problem_.table);
    seq_.assign(problem_.seq);
    begin_.assign(problem_.begin);
    end_.assign(problem_.end);
    offsets_.assign(problem_.offsets);
  }

  /// Outputs and workspaces hold something else before every run.
  void poison(int byte) {
    fault_.assign({0});
    scores_.fill(byte);
    selected_scores_.fill(byte);
    indices_.fill(byte);
    lengths_.fill(byte);
    matrix_indices_.fill(byte);
    matrix_lengths_.fill(byte);
    scores_workspace_.fill(byte);
    score_select_workspace_.fill(byte);
    select_workspace_.fill(byte);
  }

  void enqueue(cudaStream_t stream) const {
    const RandomProblem::Pointers at{q_.data(),      w_.data(),       q_scale_.data(), keys_.data(),
                                     scales_.data(), table_.data(),   seq_.data(),     begin_.data(),
                                     end_.data(),    offsets_.data(), fault_.data()};
    const RandomShape &shape = problem_.shape();
    const RowsView rows = problem_.rows(at);
    ScoresParams scores{};
    scores.rows = rows;
    scores.query = problem_.query(at);
    scores.keys = problem_.pool(at);
    scores.scores = scores_.data();
    scores.score_stride = shape.num_keys;
    scores.num_columns = shape.num_keys;
    scores.others = OtherColumns::kClean;
    scores.workspace = scores_workspace_.data();
    scores.workspace_size = scores_workspace_.size();
    cuda_backend().scores(scores, stream);

    const int32_t padded = problem_.k_padded();
    SelectParams select{};
    select.scores = scores_.data();
    select.score_stride = shape.num_keys;
    select.begin = rows.key_begin;
    select.end = rows.key_end;
    select.rows = shape.num_rows;
    select.max_end = shape.num_keys;
    select.out = {
        matrix_indices_.data(), matrix_lengths_.data(), nullptr, padded, shape.k, padded, IC_ORDER_POSITION, 0};
    select.workspace = select_workspace_.data();
    select.workspace_size = select_workspace_.size();
    cuda_backend().select(select, stream);

    ScoreSelectParams both{};
    both.rows = rows;
    both.query = scores.query;
    both.keys = scores.keys;
    both.out = {indices_.data(), lengths_.data(), selected_scores_.data(), padded,
                shape.k,         padded,          IC_ORDER_POSITION,       0};
    both.workspace = score_select_workspace_.data();
    both.workspace_size = score_select_workspace_.size();
    cuda_backend().score_select(both, stream);
  }

  RandomResult read() const {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    return {scores_.read(),         indices_.read(),        lengths_.read(), selected_scores_.read(),
            matrix_indices_.read(), matrix_lengths_.read(), fault_.read()[0]};
  }

 private:
  size_t rows() const { return static_cast<size_t>(problem_.shape().num_rows); }
  size_t entries() const { return rows() * static_cast<size_t>(problem_.k_padded()); }

  const RandomProblem &problem_;
  DeviceArray<uint8_t> q_, keys_;
  DeviceArray<float> w_, q_scale_, scales_;
  DeviceArray<int32_t> table_, seq_, begin_, end_;
  DeviceArray<int64_t> offsets_;
  DeviceArray<uint32_t> fault_;
  DeviceArray<float> scores_, selected_scores_;
  DeviceArray<int32_t> indices_, lengths_, matrix_indices_, matrix_lengths_;
  DeviceArray<uint8_t> scores_workspace_, score_select_workspace_, select_workspace_;
};

}  // namespace ic::test

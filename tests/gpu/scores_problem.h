// SPDX-License-Identifier: Apache-2.0
// A random call of scores(): the same arrays on the host for the CPU backend and on the device for CUDA.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/dtype.h"
#include "cpu/convert.h"
#include "indexcache.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

/// What is drawn; everything else is random.
struct ScoresShape {
  int32_t dtype = IC_DTYPE_F32;
  int32_t num_heads = 4;
  int32_t head_dim = 64;
  int32_t page_tokens = 0;  // 0 = contiguous
  int32_t num_seqs = 2;
  int32_t num_rows = 9;
  int32_t max_keys = 500;
  bool causal = false;     // rows of one sequence after another, each seeing one key more
  bool illegal = false;    // sequences, ends, pages and offsets out of range
  bool special = false;    // NaN, infinities, subnormals, -0, overflow, equal keys
  bool unaligned = false;  // pointers and strides of one element only (4 bytes for e4m3 keys)
  bool integers = false;   // small integers and powers of two: every order of the sums gives the same bits
};

inline std::string describe(const ScoresShape &s) {
  return std::string(dtype_name(s.dtype)) + ", heads " + std::to_string(s.num_heads) + ", dim " +
         std::to_string(s.head_dim) + ", page_tokens " + std::to_string(s.page_tokens) + ", seqs " +
         std::to_string(s.num_seqs) + ", rows " + std::to_string(s.num_rows) + ", keys " + std::to_string(s.max_keys) +
         (s.causal ? ", causal" : "") + (s.illegal ? ", illegal values" : "") + (s.special ? ", special values" : "") +
         (s.unaligned ? ", unaligned" : "") + (s.integers ? ", integers" : "");
}

struct ScoresResult {
  std::vector<float> scores;  // the whole matrix, padding columns included
  uint32_t fault = 0;
};

/// Same bits, NaN and -0 told apart. Fails the test at the first element that differs.
inline void expect_same(const ScoresResult &cuda, const ScoresResult &expected, int64_t stride) {
  EXPECT_EQ(cuda.fault, expected.fault);
  ASSERT_EQ(cuda.scores.size(), expected.scores.size());
  if (std::memcmp(cuda.scores.data(), expected.scores.data(), expected.scores.size() * sizeof(float)) == 0) return;
  for (size_t i = 0; i < expected.scores.size(); ++i) {
    ASSERT_EQ(std::memcmp(&cuda.scores[i], &expected.scores[i], sizeof(float)), 0)
        << "row " << static_cast<int64_t>(i) / stride << ", column " << static_cast<int64_t>(i) % stride << ": cuda "
        << cuda.scores[i] << ", expected " << expected.scores[i];
  }
}

inline float decode(const uint8_t *from, int32_t dtype) {
  float value = 0.0f;
  uint16_t half = 0;
  switch (dtype) {
    case IC_DTYPE_F32:
      std::memcpy(&value, from, 4);
      return value;
    case IC_DTYPE_E4M3:
      return cpu::f32_from_e4m3(*from);
    default:
      std::memcpy(&half, from, 2);
      return dtype == IC_DTYPE_F16 ? cpu::f32_from_f16(half) : cpu::f32_from_bf16(half);
  }
}

inline void encode(float value, int32_t dtype, uint8_t *to) {
  uint16_t half = 0;
  switch (dtype) {
    case IC_DTYPE_F32:
      std::memcpy(to, &value, 4);
      return;
    case IC_DTYPE_E4M3:
      *to = cpu::e4m3_from_f32(value);
      return;
    default:
      half = dtype == IC_DTYPE_F16 ? cpu::f16_from_f32(value) : cpu::bf16_from_f32(value);
      std::memcpy(to, &half, 2);
  }
}

class ScoresProblem {
 public:
  static constexpr float kUntouched = 12345.0f;

  ScoresProblem(const ScoresShape &shape, uint32_t seed) : shape_(shape), random_(seed) {
    const int64_t pad = shape.unaligned ? draw(1, 5) : 16 / element() * draw(0, 2);  // elements
    q_row_stride_ = int64_t{shape.num_heads} * shape.head_dim + pad;
    w_row_stride_ = shape.num_heads + draw(0, 3);
    with_q_scale_ = draw(0, 1) == 1;
    lay_out_keys();
    with_seq_ = shape.num_seqs > 1 || draw(0, 1) == 1;
    with_begin_ = draw(0, 2) > 0;
    with_offsets_ = shape.num_seqs > 1 || draw(0, 1) == 1;
    q_shift_ = shape.unaligned ? static_cast<size_t>(element() * draw(1, 3)) : 0;
    key_shift_ = shape.unaligned ? static_cast<size_t>(key_alignment() * draw(1, 3)) : 0;
    first_column_ = draw(0, 2) > 0 ? 0 : draw(0, shape.max_keys - 1);
    num_columns_ = draw(0, 2) > 0 ? shape.max_keys - first_column_ : draw(1, shape.max_keys);
    score_stride_ = num_columns_ + draw(0, 7);
    others_ = static_cast<OtherColumns>(draw(0, 2));
    redraw();
  }

  /// New contents of every array; sizes, strides and flags stay, as in a replayed graph.
  void redraw() {
    draw_elements(&q, static_cast<size_t>(shape_.num_rows * q_row_stride_));
    draw_floats(&w, static_cast<size_t>(shape_.num_rows * w_row_stride_), false);
    draw_floats(&q_scale, w.size(), true);
    draw_elements(&keys, static_cast<size_t>(capacity_ * key_stride_ / element()));
    draw_floats(&scales, scale_count(), true);
    draw_tables();
    draw_rows();
    if (shape_.special) sprinkle();
    put_scales_into_pages();
  }

  const ScoresShape &shape() const { return shape_; }
  int64_t score_stride() const { return score_stride_; }
  int32_t first_column() const { return first_column_; }
  int32_t num_columns() const { return num_columns_; }
  int64_t q_row_stride() const { return q_row_stride_; }
  OtherColumns others() const { return others_; }
  bool with_q_scale() const { return with_q_scale_; }
  size_t score_count() const { return static_cast<size_t>(shape_.num_rows * score_stride_); }
  size_t q_shift() const { return q_shift_; }
  size_t key_shift() const { return key_shift_; }
  int32_t element() const { return static_cast<int32_t>(dtype_bytes(shape_.dtype)); }

  struct Range {
    int32_t seq, begin, end;
  };
  /// What row r sees of its sequence, by the contract of RowsView.
  Range range(int32_t r) const {
    const auto i = static_cast<size_t>(r);
    const int32_t first = with_begin_ ? std::max(begin[i], 0) : 0;
    const int32_t s = with_seq_ ? seq[i] : 0;
    if (end[i] > shape_.max_keys || first >= end[i] || s < 0 || s >= shape_.num_seqs) return {0, 0, 0};
    return {s, first, end[i]};
  }

  /// A key in the host's pool; null: not there. scale: 1 without scales.
  struct Key {
    const uint8_t *vector;
    float scale;
  };
  Key key(int32_t s, int32_t position) const {
    const int64_t bytes = int64_t{shape_.head_dim} * element();
    const bool scaled = shape_.dtype == IC_DTYPE_E4M3;
    if (shape_.page_tokens == 0) {
      const int64_t offset = with_offsets_ ? offsets[static_cast<size_t>(s)] : 0;
      if (offset < -position || offset >= capacity_ - position) return {nullptr, 0.0f};
      return {keys.data() + (offset + position) * key_stride_,
              scaled ? scales[static_cast<size_t>(offset + position)] : 1.0f};
    }
    const int32_t page = table[static_cast<size_t>(s * table_stride_ + position / shape_.page_tokens)];
    if (page < 0 || page >= capacity_) return {nullptr, 0.0f};
    const int32_t token = position % shape_.page_tokens;
    return {keys.data() + page * key_stride_ + token * bytes,
            scaled ? scales[static_cast<size_t>(int64_t{page} * shape_.page_tokens + token)] : 1.0f};
  }

  /// The same rows and keys in another layout. Every key must be there.
  ScoresProblem laid_out(int32_t page_tokens) const {
    ScoresProblem other = *this;
    other.shape_.page_tokens = page_tokens;
    other.lay_out_keys();
    other.with_offsets_ = true;
    other.draw_elements(&other.keys, static_cast<size_t>(other.capacity_ * other.key_stride_ / element()));
    other.draw_floats(&other.scales, other.scale_count(), true);
    other.draw_tables();
    std::vector<int32_t> pages(static_cast<size_t>(page_tokens == 0 ? 0 : other.capacity_));
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
    std::shuffle(pages.begin(), pages.end(), other.random_);
    const auto bytes = static_cast<size_t>(shape_.head_dim * element());
    for (int32_t s = 0; s < shape_.num_seqs; ++s) {
      other.offsets[static_cast<size_t>(s)] = int64_t{s} * shape_.max_keys + 3;
      for (int32_t b = 0; b < other.num_blocks_; ++b) {
        other.table[static_cast<size_t>(s * other.table_stride_ + b)] = pages.back();
        pages.pop_back();
      }
      for (int32_t position = 0; position < shape_.max_keys; ++position) {
        const Key from = key(s, position);
        const Key to = other.key(s, position);
        std::memcpy(const_cast<uint8_t *>(to.vector), from.vector, bytes);
        if (shape_.dtype == IC_DTYPE_E4M3) {
          const int64_t at = page_tokens == 0 ? (to.vector - other.keys.data()) / other.key_stride_
                                              : other.page_of(s, position) * page_tokens + position % page_tokens;
          other.scales[static_cast<size_t>(at)] = from.scale;
        }
      }
    }
    other.put_scales_into_pages();
    return other;
  }

  /// The call over a set of pointers; host and device use the same numbers.
  struct Pointers {
    const void *q;
    const float *w, *q_scale;
    uint8_t *keys;
    float *scales;
    const int32_t *table, *seq, *begin, *end;
    const int64_t *offsets;
    uint32_t *fault;
    float *scores;
  };
  ScoresParams params(const Pointers &at) const {
    ScoresParams p{};
    p.rows = {shape_.num_rows,
              shape_.num_seqs,
              shape_.max_keys,
              with_seq_ ? at.seq : nullptr,
              with_begin_ ? at.begin : nullptr,
              at.end,
              at.fault};
    p.query = {at.q,
               q_row_stride_,
               at.w,
               w_row_stride_,
               with_q_scale_ ? at.q_scale : nullptr,
               w_row_stride_,
               shape_.num_heads,
               shape_.head_dim,
               shape_.dtype,
               0};
    const bool paged = shape_.page_tokens != 0;
    p.keys = {at.keys,
              !paged && shape_.dtype == IC_DTYPE_E4M3 ? at.scales : nullptr,
              key_stride_,
              capacity_,
              shape_.page_tokens,
              num_blocks_,
              paged ? at.table : nullptr,
              table_stride_,
              !paged && with_offsets_ ? at.offsets : nullptr};
    p.scores = at.scores;
    p.score_stride = score_stride_;
    p.first_column = first_column_;
    p.num_columns = num_columns_;
    p.others = others_;
    return p;
  }

  ScoreLimits limits() const {
    return {shape_.num_rows, shape_.max_keys, shape_.num_heads, shape_.head_dim, shape_.dtype, 0};
  }

  /// A kMarkAbsent problem runs as kKeep there.
  ScoresResult run_on_cpu() {
    ScoresResult result;
    result.scores.assign(score_count(), kUntouched);
    ScoresParams p = params({q.data(), w.data(), q_scale.data(), keys.data(), scales.data(), table.data(), seq.data(),
                             begin.data(), end.data(), offsets.data(), &result.fault, result.scores.data()});
    if (p.others == OtherColumns::kMarkAbsent) p.others = OtherColumns::kKeep;
    const size_t needed = cpu_backend().scores_workspace_size(limits());
    std::vector<uint8_t> workspace(needed + 256);
    const size_t past = reinterpret_cast<uintptr_t>(workspace.data()) % 256;
    p.workspace = workspace.data() + (256 - past) % 256;
    p.workspace_size = needed;
    cpu_backend().scores(p, nullptr);
    return result;
  }

  std::vector<uint8_t> q, keys;  // elements of the dtype
  std::vector<float> w, q_scale, scales;
  std::vector<int32_t> table, seq, begin, end;
  std::vector<int64_t> offsets;

 private:
  int32_t draw(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(random_); }
  int32_t key_alignment() const { return shape_.dtype == IC_DTYPE_E4M3 ? 4 : element(); }
  int64_t page_of(int32_t s, int32_t position) const {
    return table[static_cast<size_t>(s * table_stride_ + position / shape_.page_tokens)];
  }

  void lay_out_keys() {
    const int32_t tokens = shape_.page_tokens;
    const int64_t vector = int64_t{shape_.head_dim} * element();
    if (tokens == 0) {
      num_blocks_ = 0;
      table_stride_ = 0;
      capacity_ = int64_t{shape_.num_seqs} * shape_.max_keys + 5;
      key_stride_ = vector;
    } else {
      num_blocks_ = (shape_.max_keys + tokens - 1) / tokens;
      table_stride_ = num_blocks_ + draw(0, 3);
      capacity_ = int64_t{shape_.num_seqs} * num_blocks_ + 3;
      key_stride_ = tokens * (vector + (shape_.dtype == IC_DTYPE_E4M3 ? 4 : 0));
    }
    if (shape_.unaligned) {
      key_stride_ += key_alignment() * draw(1, 5);
    } else if (draw(0, 1) == 1) {
      key_stride_ = (key_stride_ + 15) / 16 * 16 + 16 * draw(0, 2);
    }
  }

  size_t scale_count() const {
    if (shape_.dtype != IC_DTYPE_E4M3) return 0;
    return static_cast<size_t>(capacity_ * std::max(shape_.page_tokens, 1));
  }

  void put_scales_into_pages() {
    if (shape_.dtype != IC_DTYPE_E4M3 || shape_.page_tokens == 0) return;
    const auto tokens = static_cast<size_t>(shape_.page_tokens);
    for (int64_t page = 0; page < capacity_; ++page) {
      std::memcpy(keys.data() + page * key_stride_ + int64_t{shape_.page_tokens} * shape_.head_dim,
                  scales.data() + static_cast<size_t>(page) * tokens, tokens * 4);
    }
  }

  float draw_number() {
    constexpr float kIntegers[] = {-2.0f, -1.0f, -1.0f, 0.0f, 0.0f, 1.0f, 1.0f, 2.0f};
    if (shape_.integers) return kIntegers[draw(0, 7)];
    return std::normal_distribution<float>(0.0f, shape_.dtype == IC_DTYPE_E4M3 ? 64.0f : 1.0f)(random_);
  }

  void draw_elements(std::vector<uint8_t> *values, size_t count) {
    const auto size = static_cast<size_t>(element());
    values->resize(count * size);
    // Windows of a random stream: drawing every element would take longer than scoring it.
    if (stream_.empty()) {
      stream_.resize(size << 16);
      for (size_t i = 0; i < stream_.size(); i += size) encode(draw_number(), shape_.dtype, &stream_[i]);
    }
    for (size_t done = 0; done < values->size();) {
      const size_t from = static_cast<size_t>(draw(0, 1 << 15)) * size;
      const size_t bytes = std::min(values->size() - done, stream_.size() - from);
      std::memcpy(values->data() + done, stream_.data() + from, bytes);
      done += bytes;
    }
  }

  void draw_floats(std::vector<float> *values, size_t count, bool positive) {
    values->resize(count);
    std::normal_distribution<float> normal;
    for (float &x : *values) {
      if (shape_.integers) {
        x = positive ? 0.5f * static_cast<float>(1 << draw(0, 2)) : static_cast<float>(draw(-2, 2));
      } else {
        x = positive ? std::exp(normal(random_)) : normal(random_);
      }
    }
  }

  void sprinkle() {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    constexpr float kSpecial[] = {
        std::numeric_limits<float>::quiet_NaN(), kInf, -kInf, -0.0f, 0.0f, 1e-40f, -1e-42f, 3e38f, -3e38f,
        std::numeric_limits<float>::denorm_min()};
    for (std::vector<float> *values : {&w, &q_scale, &scales}) {
      const auto last = static_cast<int32_t>(values->size()) - 1;
      for (int32_t i = 0; last >= 0 && i < 4 + last / 400; ++i) {
        (*values)[static_cast<size_t>(draw(0, last))] = kSpecial[draw(0, 9)];
      }
    }
    const auto size = static_cast<size_t>(element());
    for (std::vector<uint8_t> *values : {&q, &keys}) {
      const auto last = static_cast<int32_t>(values->size() / size) - 1;
      for (int32_t i = 0; i < 4 + last / 400; ++i) {
        encode(kSpecial[draw(0, 9)], shape_.dtype, values->data() + static_cast<size_t>(draw(0, last)) * size);
      }
    }
    // Equal keys, and keys of nothing but tiny numbers.
    const size_t vector = static_cast<size_t>(shape_.head_dim) * size;
    for (size_t at = 0; at + 2 * vector <= keys.size() / 4; at += 2 * vector) {
      std::memcpy(keys.data() + at + vector, keys.data() + at, vector);
    }
    const float tiny = shape_.dtype == IC_DTYPE_F16 ? 1e-6f : shape_.dtype == IC_DTYPE_E4M3 ? 1e-4f : 1e-38f;
    const size_t middle = keys.size() / 2 / size * size;
    for (size_t i = middle; i < middle + vector && i + size <= keys.size(); i += size) {
      encode(decode(&keys[i], shape_.dtype) * tiny, shape_.dtype, &keys[i]);
    }
  }

  void draw_tables() {
    table.assign(static_cast<size_t>(shape_.num_seqs * table_stride_) + 1, 1 << 30);  // behind a row: never looked at
    for (int32_t s = 0; s < shape_.num_seqs; ++s) {
      for (int32_t b = 0; b < num_blocks_; ++b) {
        int32_t page = draw(0, static_cast<int32_t>(capacity_) - 1);
        if (draw(0, 9) == 0) page = -1;
        if (shape_.illegal && draw(0, 9) == 0) {
          page = draw(0, 1) == 0 ? static_cast<int32_t>(capacity_) : draw(0, 1) == 0 ? INT32_MAX : INT32_MIN;
        }
        table[static_cast<size_t>(s * table_stride_ + b)] = page;
      }
    }
    offsets.assign(static_cast<size_t>(shape_.num_seqs), 0);
    for (int32_t s = 0; s < shape_.num_seqs; ++s) {
      int64_t offset = int64_t{s} * shape_.max_keys + draw(0, 5);
      if (shape_.illegal && draw(0, 2) == 0) {
        const int64_t wrong[] = {-3, capacity_ - 2, std::numeric_limits<int64_t>::max(),
                                 std::numeric_limits<int64_t>::min()};
        offset = wrong[draw(0, 3)];
      }
      offsets[static_cast<size_t>(s)] = offset;
    }
  }

  void draw_rows() {
    const auto rows = static_cast<size_t>(shape_.num_rows);
    seq.assign(rows, 0);
    begin.assign(rows, 0);
    end.assign(rows, 0);
    const int32_t per_seq = (shape_.num_rows + shape_.num_seqs - 1) / shape_.num_seqs;
    for (int32_t r = 0; r < shape_.num_rows; ++r) {
      const auto i = static_cast<size_t>(r);
      if (shape_.causal) {
        seq[i] = r / per_seq;
        end[i] = std::max(shape_.max_keys - per_seq + r % per_seq + 1, 0);
        continue;
      }
      seq[i] = draw(0, shape_.num_seqs - 1);
      begin[i] = draw(0, 1) == 0 ? 0 : draw(-2, shape_.max_keys / 2);
      end[i] = draw(0, 9) == 0 ? draw(-1, 1) : draw(0, shape_.max_keys);
      if (shape_.illegal && draw(0, 5) == 0) end[i] = draw(0, 1) == 0 ? shape_.max_keys + 1 : INT32_MAX;
      if (shape_.illegal && draw(0, 5) == 0) seq[i] = draw(0, 1) == 0 ? shape_.num_seqs : INT32_MIN;
    }
  }

  ScoresShape shape_;
  std::mt19937 random_;
  std::vector<uint8_t> stream_;
  int64_t q_row_stride_ = 0, w_row_stride_ = 0, key_stride_ = 0, capacity_ = 0, table_stride_ = 0, score_stride_ = 0;
  int32_t num_blocks_ = 0, first_column_ = 0, num_columns_ = 0;
  size_t q_shift_ = 0, key_shift_ = 0;
  OtherColumns others_ = OtherColumns::kKeep;
  bool with_q_scale_ = false, with_seq_ = false, with_begin_ = false, with_offsets_ = false;
};

/// The arrays of a problem on the device; upload() after redraw() changes what a captured launch will read.
class DeviceScores {
 public:
  explicit DeviceScores(const ScoresProblem &problem)
      : problem_(problem),
        q_(problem.q, problem.q_shift()),
        keys_(problem.keys, problem.key_shift()),
        w_(problem.w),
        q_scale_(problem.q_scale),
        scales_(problem.scales),
        table_(problem.table),
        seq_(problem.seq),
        begin_(problem.begin),
        end_(problem.end),
        offsets_(problem.offsets),
        fault_(1),
        scores_(problem.score_count()) {
    reset_outputs();
  }

  void upload() {
    q_.assign(problem_.q);
    w_.assign(problem_.w);
    q_scale_.assign(problem_.q_scale);
    keys_.assign(problem_.keys);
    scales_.assign(problem_.scales);
    table_.assign(problem_.table);
    seq_.assign(problem_.seq);
    begin_.assign(problem_.begin);
    end_.assign(problem_.end);
    offsets_.assign(problem_.offsets);
    reset_outputs();
  }

  void reset_outputs() {
    fault_.assign({0});
    scores_.assign(std::vector<float>(problem_.score_count(), ScoresProblem::kUntouched));
  }

  ScoresParams params() const {
    return problem_.params({q_.data(), w_.data(), q_scale_.data(), keys_.data(), scales_.data(), table_.data(),
                            seq_.data(), begin_.data(), end_.data(), offsets_.data(), fault_.data(), scores_.data()});
  }

  uint32_t *fault_word() const { return fault_.data(); }

  ScoresResult read() const {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    return {scores_.read(), fault_.read()[0]};
  }

 private:
  const ScoresProblem &problem_;
  DeviceArray<uint8_t> q_, keys_;
  DeviceArray<float> w_, q_scale_, scales_;
  DeviceArray<int32_t> table_, seq_, begin_, end_;
  DeviceArray<int64_t> offsets_;
  DeviceArray<uint32_t> fault_;
  DeviceArray<float> scores_;
};

}  // namespace ic::test

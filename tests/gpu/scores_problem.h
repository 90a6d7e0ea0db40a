// SPDX-License-Identifier: Apache-2.0
// A random call of scores(): the same arrays on the host for the CPU backend and on the device for CUDA.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/backend.h"
#include "indexcache.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

/// What is drawn; everything else is random.
struct ScoresShape {
  int32_t num_heads = 4;
  int32_t head_dim = 64;
  int32_t page_tokens = 0;  // 0 = contiguous
  int32_t num_seqs = 2;
  int32_t num_rows = 9;
  int32_t max_keys = 500;
  bool causal = false;     // rows of one sequence after another, each seeing one key more
  bool illegal = false;    // sequences, ends, pages and offsets out of range
  bool special = false;    // NaN, infinities, subnormals, -0, overflow, equal keys
  bool unaligned = false;  // pointers and strides of 4 bytes only
};

inline std::string describe(const ScoresShape &s) {
  return "heads " + std::to_string(s.num_heads) + ", dim " + std::to_string(s.head_dim) + ", page_tokens " +
         std::to_string(s.page_tokens) + ", seqs " + std::to_string(s.num_seqs) + ", rows " +
         std::to_string(s.num_rows) + ", keys " + std::to_string(s.max_keys) + (s.causal ? ", causal" : "") +
         (s.illegal ? ", illegal values" : "") + (s.special ? ", special values" : "") +
         (s.unaligned ? ", unaligned" : "");
}

struct ScoresResult {
  std::vector<float> scores;  // the whole matrix, padding columns included
  uint32_t fault = 0;
};

/// Same bits, NaN and -0 told apart. Fails the test at the first element that differs.
inline void expect_same(const ScoresResult &cuda, const ScoresResult &cpu, int64_t stride) {
  EXPECT_EQ(cuda.fault, cpu.fault);
  ASSERT_EQ(cuda.scores.size(), cpu.scores.size());
  if (std::memcmp(cuda.scores.data(), cpu.scores.data(), cpu.scores.size() * sizeof(float)) == 0) return;
  for (size_t i = 0; i < cpu.scores.size(); ++i) {
    ASSERT_EQ(std::memcmp(&cuda.scores[i], &cpu.scores[i], sizeof(float)), 0)
        << "row " << static_cast<int64_t>(i) / stride << ", column " << static_cast<int64_t>(i) % stride << ": cuda "
        << cuda.scores[i] << ", cpu " << cpu.scores[i];
  }
}

class ScoresProblem {
 public:
  static constexpr float kUntouched = 12345.0f;

  ScoresProblem(const ScoresShape &shape, uint32_t seed) : shape_(shape), random_(seed) {
    const int64_t vector = int64_t{shape.head_dim} * 4;
    const int32_t pad = shape.unaligned ? draw(1, 5) : 4 * draw(0, 2);  // elements
    q_row_stride_ = int64_t{shape.num_heads} * shape.head_dim + pad;
    w_row_stride_ = shape.num_heads + draw(0, 3);
    with_q_scale_ = draw(0, 1) == 1;
    if (shape.page_tokens == 0) {
      capacity_ = int64_t{shape.num_seqs} * shape.max_keys + 5;
      key_stride_ = vector + pad * 4;
    } else {
      num_blocks_ = (shape.max_keys + shape.page_tokens - 1) / shape.page_tokens;
      table_stride_ = num_blocks_ + draw(0, 3);
      capacity_ = int64_t{shape.num_seqs} * num_blocks_ + 3;
      key_stride_ = shape.page_tokens * vector + pad * 4;
    }
    with_seq_ = shape.num_seqs > 1 || draw(0, 1) == 1;
    with_begin_ = draw(0, 2) > 0;
    with_offsets_ = shape.num_seqs > 1 || draw(0, 1) == 1;
    first_column_ = draw(0, 2) > 0 ? 0 : draw(0, shape.max_keys - 1);
    num_columns_ = draw(0, 2) > 0 ? shape.max_keys - first_column_ : draw(1, shape.max_keys);
    score_stride_ = num_columns_ + draw(0, 7);
    others_ = draw(0, 1) == 1 ? OtherColumns::kClean : OtherColumns::kKeep;
    redraw();
  }

  /// New contents of every array; sizes, strides and flags stay, as in a replayed graph.
  void redraw() {
    fill(&q, static_cast<size_t>(shape_.num_rows * q_row_stride_), 1.0f);
    fill(&w, static_cast<size_t>(shape_.num_rows * w_row_stride_), 1.0f);
    fill(&q_scale, w.size(), 1.0f);
    fill(&keys, static_cast<size_t>(capacity_ * key_stride_ / 4), 1.0f);
    if (shape_.special) sprinkle();
    draw_tables();
    draw_rows();
  }

  const ScoresShape &shape() const { return shape_; }
  int64_t score_stride() const { return score_stride_; }
  size_t score_count() const { return static_cast<size_t>(shape_.num_rows * score_stride_); }
  size_t shift_bytes() const { return shape_.unaligned ? 4 : 0; }

  /// The call over a set of pointers; host and device use the same numbers.
  struct Pointers {
    const float *q, *w, *q_scale;
    float *keys;
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
               IC_DTYPE_F32,
               0};
    const bool paged = shape_.page_tokens != 0;
    p.keys = {reinterpret_cast<uint8_t *>(at.keys),
              nullptr,
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
    return {shape_.num_rows, shape_.max_keys, shape_.num_heads, shape_.head_dim, IC_DTYPE_F32, 0};
  }

  ScoresResult run_on_cpu() {
    ScoresResult result;
    result.scores.assign(score_count(), kUntouched);
    ScoresParams p = params({q.data(), w.data(), q_scale.data(), keys.data(), table.data(), seq.data(), begin.data(),
                             end.data(), offsets.data(), &result.fault, result.scores.data()});
    const size_t needed = cpu_backend().scores_workspace_size(limits());
    std::vector<uint8_t> workspace(needed + 256);
    const size_t past = reinterpret_cast<uintptr_t>(workspace.data()) % 256;
    p.workspace = workspace.data() + (256 - past) % 256;
    p.workspace_size = needed;
    cpu_backend().scores(p, nullptr);
    return result;
  }

  std::vector<float> q, w, q_scale, keys;
  std::vector<int32_t> table, seq, begin, end;
  std::vector<int64_t> offsets;

 private:
  int32_t draw(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(random_); }

  void fill(std::vector<float> *values, size_t count, float scale) {
    std::normal_distribution<float> normal(0.0f, scale);
    values->resize(count);
    // A window of a random stream: drawing every element would take longer than scoring it.
    if (stream_.empty()) {
      stream_.resize(1 << 16);
      for (float &x : stream_) x = normal(random_);
    }
    auto at = static_cast<size_t>(draw(0, 1 << 15));
    for (float &x : *values) {
      x = stream_[at];
      if (++at == stream_.size()) at = static_cast<size_t>(draw(0, 1 << 15));
    }
  }

  void sprinkle() {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    constexpr float kSpecial[] = {
        std::numeric_limits<float>::quiet_NaN(), kInf, -kInf, -0.0f, 0.0f, 1e-40f, -1e-42f, 3e38f, -3e38f,
        std::numeric_limits<float>::denorm_min()};
    for (std::vector<float> *values : {&q, &w, &q_scale, &keys}) {
      const auto last = static_cast<int32_t>(values->size()) - 1;
      for (int32_t i = 0; i < 4 + last / 400; ++i) {
        (*values)[static_cast<size_t>(draw(0, last))] = kSpecial[draw(0, 9)];
      }
    }
    // Equal keys, and keys of nothing but tiny numbers.
    const auto vector = static_cast<size_t>(shape_.head_dim);
    for (size_t at = 0; at + 2 * vector <= keys.size() / 4; at += 2 * vector) {
      std::copy_n(keys.begin() + static_cast<int64_t>(at), vector, keys.begin() + static_cast<int64_t>(at + vector));
    }
    for (size_t i = keys.size() / 2; i < keys.size() / 2 + vector && i < keys.size(); ++i) keys[i] *= 1e-38f;
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
  std::vector<float> stream_;
  int64_t q_row_stride_ = 0, w_row_stride_ = 0, key_stride_ = 0, capacity_ = 0, table_stride_ = 0, score_stride_ = 0;
  int32_t num_blocks_ = 0, first_column_ = 0, num_columns_ = 0;
  OtherColumns others_ = OtherColumns::kKeep;
  bool with_q_scale_ = false, with_seq_ = false, with_begin_ = false, with_offsets_ = false;
};

/// The arrays of a problem on the device; upload() after redraw() changes what a captured launch will read.
class DeviceScores {
 public:
  explicit DeviceScores(const ScoresProblem &problem)
      : problem_(problem),
        q_(problem.q, problem.shift_bytes()),
        w_(problem.w),
        q_scale_(problem.q_scale),
        keys_(problem.keys, problem.shift_bytes()),
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
    return problem_.params({q_.data(), w_.data(), q_scale_.data(), keys_.data(), table_.data(), seq_.data(),
                            begin_.data(), end_.data(), offsets_.data(), fault_.data(), scores_.data()});
  }

  uint32_t *fault_word() const { return fault_.data(); }

  ScoresResult read() const {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    return {scores_.read(), fault_.read()[0]};
  }

 private:
  const ScoresProblem &problem_;
  DeviceArray<float> q_, w_, q_scale_, keys_;
  DeviceArray<int32_t> table_, seq_, begin_, end_;
  DeviceArray<int64_t> offsets_;
  DeviceArray<uint32_t> fault_;
  DeviceArray<float> scores_;
};

}  // namespace ic::test

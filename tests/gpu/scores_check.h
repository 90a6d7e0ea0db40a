// SPDX-License-Identifier: Apache-2.0
// What scores() must have written: column rules exactly, scores as the CPU's bits or within the published bound.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/numerics.h"
#include "tests/gpu/scores_problem.h"

namespace ic::test {

/// A score in fp64 and the size of what was added up for it.
struct ExactScore {
  double value;      // after the rules for -0 and NaN
  double magnitude;  // ks * sum_h |w'_h| * sum_d |q_hd * k_d|
  double slack;      // for products below the smallest normal number
  bool certain;      // false: fp32 may overflow in some orders and not in others
};

inline double score_error_bound(const ScoresShape &shape) {
  return cuda_backend().error_bound(shape.num_heads, shape.head_dim, shape.dtype);
}

inline ExactScore exact_score(const ScoresProblem &problem, int32_t r, const ScoresProblem::Key &key) {
  constexpr double kLimit = 3e38;
  const ScoresShape &shape = problem.shape();
  const double doubt = 1e-4 + score_error_bound(shape);  // of a sum's magnitude: it may be 0, or of either sign
  const auto dim = static_cast<size_t>(shape.head_dim);
  const auto size = static_cast<size_t>(problem.element());
  std::vector<double> k(dim);
  for (size_t d = 0; d < dim; ++d) k[d] = decode(key.vector + d * size, shape.dtype);
  const ScoresParams p = problem.params({});
  ExactScore exact{0.0, 0.0, 0.0, true};
  for (int32_t h = 0; h < shape.num_heads; ++h) {
    const uint8_t *q = problem.q.data() + (r * p.query.q_row_stride + int64_t{h} * shape.head_dim) * problem.element();
    double dot = 0.0, dot_magnitude = 0.0, finite = 0.0;
    for (size_t d = 0; d < dim; ++d) {
      const double product = decode(q + d * size, shape.dtype) * k[d];
      dot += product;
      dot_magnitude += std::fabs(product);
      if (std::isfinite(product)) finite += std::fabs(product);
    }
    const auto at = static_cast<size_t>(r * p.query.w_row_stride + h);
    const float w = problem.with_q_scale() ? problem.w[at] * problem.q_scale[at] : problem.w[at];
    const double z = dot > 0.0 ? dot : 0.0;  // relu(NaN) = 0
    exact.value += w * z;
    if (std::isfinite(dot) && std::isfinite(w)) {  // else z is 0 or infinite, exactly
      exact.magnitude += std::fabs(w) * dot_magnitude;
      exact.slack += std::fabs(w) * 1e-36;
    }
    if (finite > kLimit) exact.certain = false;
    // An fp32 dot product this close to 0 may be 0, which an infinite weight makes a NaN.
    if (!std::isfinite(w) && std::isfinite(dot) && std::fabs(dot) <= dot_magnitude * doubt + 1e-36)
      exact.certain = false;
  }
  const double sum_magnitude = exact.magnitude;
  if (sum_magnitude > kLimit) exact.certain = false;
  if (!std::isfinite(key.scale) && std::fabs(exact.value) <= sum_magnitude * doubt + 1e-36) exact.certain = false;
  exact.value *= key.scale;
  exact.magnitude *= std::fabs(key.scale);
  exact.slack = exact.slack * std::fabs(key.scale) + 1e-36;
  if (std::isfinite(exact.value) && exact.magnitude > kLimit) exact.certain = false;
  if (std::isnan(exact.value)) exact.value = -std::numeric_limits<double>::infinity();
  return exact;
}

class ScoresCheck {
 public:
  /// The CPU's scores are taken from the problem as it is now.
  explicit ScoresCheck(ScoresProblem &problem)
      : problem_(problem), p_(problem.params({})), cpu_(problem.run_on_cpu()), random_(run_seed()) {
    const ScoresShape &shape = problem.shape();
    exact_bits_ = shape.dtype == IC_DTYPE_F32 || shape.integers;
    const double cost = 1.0 * shape.num_heads * shape.head_dim;
    samples_ = (shape.special ? 10 : 1) * kBudget / cost / std::max(1.0, 1.0 * shape.num_rows * shape.max_keys);
  }

  const ScoresResult &cpu() const { return cpu_; }

  void expect(const ScoresResult &cuda) {
    EXPECT_EQ(cuda.fault, cpu_.fault);
    ASSERT_EQ(cuda.scores.size(), cpu_.scores.size());
    const int64_t stride = problem_.score_stride();
    for (int32_t r = 0; r < problem_.shape().num_rows; ++r) {
      const ScoresProblem::Range range = problem_.range(r);
      const double row = exact_bits_ ? 0.0 : row_magnitude(r);
      for (int64_t c = 0; c < stride; ++c) {
        const auto i = static_cast<size_t>(r * stride + c);
        const int64_t position = problem_.first_column() + c;
        const bool window = c < problem_.num_columns();
        const bool inside = window && position >= range.begin && position < range.end;
        const ScoresProblem::Key key =
            inside ? problem_.key(range.seq, static_cast<int32_t>(position)) : ScoresProblem::Key{nullptr, 0.0f};
        const bool good =
            key.vector == nullptr ? is_other(cuda.scores[i], window, inside) : is_score(cuda.scores[i], i, r, key, row);
        ASSERT_TRUE(good) << "row " << r << ", column " << c << " (position " << position << " of [" << range.begin
                          << ", " << range.end << ")): cuda " << cuda.scores[i] << ", cpu " << cpu_.scores[i] << why_;
      }
    }
  }

 private:
  static constexpr double kBudget = 4e6;  // multiply-adds in fp64 per check

  bool is_other(float score, bool window, bool inside) const {
    if (problem_.others() == OtherColumns::kMarkAbsent && inside) return std::isnan(score);
    if (problem_.others() == OtherColumns::kClean && window) return score == -std::numeric_limits<float>::infinity();
    return score == ScoresProblem::kUntouched;
  }

  bool is_score(float score, size_t i, int32_t r, const ScoresProblem::Key &key, double row) {
    if (exact_bits_) return std::memcmp(&score, &cpu_.scores[i], 4) == 0;
    if (std::isnan(score) || (score == 0.0f && std::signbit(score))) return false;
    const double bound = score_error_bound(problem_.shape());
    if (std::uniform_real_distribution<double>()(random_) < samples_) {
      const ExactScore exact = exact_score(problem_, r, key);
      if (!exact.certain) return true;
      why_ = ", exact " + std::to_string(exact.value) + ", magnitude " + std::to_string(exact.magnitude);
      if (!std::isfinite(exact.value)) return score == exact.value;
      return std::isfinite(score) && std::fabs(score - exact.value) <= exact.magnitude * bound + exact.slack;
    }
    if (problem_.shape().special) return true;
    // |q| |k| is at least the sum of |q_d k_d|.
    const double both = bound + fma_chain_error_bound(problem_.shape().num_heads, problem_.shape().head_dim);
    why_.clear();
    return std::fabs(double{score} - cpu_.scores[i]) <= both * row * key_norm(key) * key.scale + kTiny;
  }

  double norm(const uint8_t *vector) const {
    const auto size = static_cast<size_t>(problem_.element());
    double sum = 0.0;
    for (int32_t d = 0; d < problem_.shape().head_dim; ++d) {
      const double x = decode(vector + static_cast<size_t>(d) * size, problem_.shape().dtype);
      sum += x * x;
    }
    return std::sqrt(sum);
  }

  /// Rows of one sequence ask for the same keys, one after another.
  double key_norm(const ScoresProblem::Key &key) {
    constexpr size_t kSlots = 1 << 16;
    if (norms_.empty()) norms_.resize(kSlots, {nullptr, 0.0});
    auto &slot = norms_[reinterpret_cast<uintptr_t>(key.vector) / 32 % kSlots];
    if (slot.first != key.vector) slot = {key.vector, norm(key.vector)};
    return slot.second;
  }

  /// sum_h |w'_h| |q_h|
  double row_magnitude(int32_t r) const {
    double sum = 0.0;
    for (int32_t h = 0; h < problem_.shape().num_heads; ++h) {
      const auto at = static_cast<size_t>(r * p_.query.w_row_stride + h);
      const float w = problem_.with_q_scale() ? problem_.w[at] * problem_.q_scale[at] : problem_.w[at];
      const int64_t q = (r * p_.query.q_row_stride + int64_t{h} * problem_.shape().head_dim) * problem_.element();
      sum += std::fabs(w) * norm(problem_.q.data() + q);
    }
    return sum;
  }

  static constexpr double kTiny = 1e-30;  // subnormal sums

  ScoresProblem &problem_;
  ScoresParams p_;
  ScoresResult cpu_;
  std::mt19937 random_;
  bool exact_bits_;
  double samples_;
  std::vector<std::pair<const uint8_t *, double>> norms_;
  std::string why_;
};

}  // namespace ic::test

// SPDX-License-Identifier: Apache-2.0
// Dynamic program over the layers that may be Full. best[m][i]: greatest sum over the Shared layers before layer i when
// i is the m-th Full layer:
//     best[m][i] = max over j < i of best[m - 1][j] + sum of similarity[r, j] over j < r < i
// where no held layer lies between j and i. Of equal sums the lowest j is taken.
#include "core/search_similarity.h"

#include <limits>

namespace ic {
namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();  // sums are finite: kMaxSimilarity

class SimilarityProgram {
 public:
  explicit SimilarityProgram(const SearchPlan &plan)
      : plan_(plan), layers_(plan.start.size()), ranks_(static_cast<size_t>(plan.max_full)) {
    sum_gaps();
    best_.assign(ranks_, std::vector<double>(layers_, kImpossible));
    source_.assign(ranks_, std::vector<size_t>(layers_, 0));
    best_[0][0] = 0;
    for (size_t m = 1; m < ranks_; ++m) {
      for (size_t i = m; i < layers_; ++i) extend(m, i);
    }
  }

  /// The best pattern with `full` Full layers.
  std::string pattern(size_t full) const {
    const size_t m = full - 1;
    size_t last = 0;
    double sum = kImpossible;
    for (size_t i = 0; i < layers_; ++i) {
      const double found = best_[m][i] + gap_[i][layers_];
      if (found > sum) {
        sum = found;
        last = i;
      }
    }
    std::string letters(layers_, 'S');
    for (size_t rank = m;; --rank) {
      letters[last] = 'F';
      if (rank == 0) return letters;
      last = source_[rank][last];
    }
  }

 private:
  /// gap_[j][i]: what the layers between j and i add when j is their source, i = number of layers for the end of the
  /// stack; impossible when one of them must be Full.
  void sum_gaps() {
    gap_.assign(layers_, std::vector<double>(layers_ + 1, kImpossible));
    for (size_t j = 0; j < layers_; ++j) {
      double sum = 0;
      for (size_t i = j + 1; i <= layers_; ++i) {
        gap_[j][i] = sum;
        if (i == layers_ || plan_.held[i]) break;
        sum += plan_.similarity[i * layers_ + j];
      }
    }
  }

  void extend(size_t m, size_t i) {
    if (plan_.start[i] == 'S') return;
    for (size_t j = m - 1; j < i; ++j) {
      const double found = best_[m - 1][j] + gap_[j][i];
      if (found > best_[m][i]) {
        best_[m][i] = found;
        source_[m][i] = j;
      }
    }
  }

  const SearchPlan &plan_;
  size_t layers_;
  size_t ranks_;  // most Full layers
  std::vector<std::vector<double>> gap_;
  std::vector<std::vector<double>> best_;
  std::vector<std::vector<size_t>> source_;
};

}  // namespace

std::vector<std::string> most_similar_patterns(const SearchPlan &plan) {
  const SimilarityProgram program(plan);
  std::vector<std::string> patterns;
  for (int32_t full = plan.num_full; full <= plan.max_full; ++full) {
    patterns.push_back(program.pattern(static_cast<size_t>(full)));
  }
  return patterns;
}

}  // namespace ic

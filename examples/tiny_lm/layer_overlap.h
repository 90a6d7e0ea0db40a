// SPDX-License-Identifier: Apache-2.0
// How much of one layer's index set is in another's: what says which layers could share.
#pragma once

#include <string>
#include <vector>

#include "evaluate.h"

namespace tiny_lm {

/// One row and one column per layer compared.
using LayerTable = std::vector<std::vector<double>>;

/// The first row of a window that sees more than k keys. Throws Error when there is none.
int first_compared_row(const ModelConfig &config);

/// Means over the tokens that see more than k keys; of all others every layer selects the same set.
struct LayerOverlap {
  std::vector<int> layers;  ///< the Full layers of the pattern
  int k = 0;
  int64_t rows = 0;    ///< tokens that the means are taken over
  LayerTable recall;   ///< [i][j] |Ti and Tj| / |Ti|
  LayerTable jaccard;  ///< [i][j] |Ti and Tj| / |Ti or Tj|
  LayerTable mass;     ///< [i][j] share of layer i's attention over Ti that lies on Tj
};

/// Runs every window once. Memory: indices and weights of one set per layer, [tokens, k] each, no tokens x tokens
/// matrix. Throws Error; kExitPattern when the library refuses the pattern.
LayerOverlap layer_overlap(const Model &model, const std::string &pattern, const Corpus &corpus, Device *device,
                           ThreadPool *pool);

}  // namespace tiny_lm

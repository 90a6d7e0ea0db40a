// SPDX-License-Identifier: Apache-2.0
// How much a layer's attention output changes when it attends with another layer's indices.
#pragma once

#include "evaluate.h"
#include "layer_overlap.h"

namespace tiny_lm {

/// [i][j] for j < i: mean cosine between the attention output of layer i (of all heads, in front of the output
/// projection) with its own indices and with those of layer j, in a run whose layers are all Full (IndexCache paper,
/// appendix C). 1 on the diagonal, 0 above it. Means over the tokens that see more than k keys.
///
/// The paper takes one pass per layer j. Here one pass gives all: the cache keeps the index sets of all layers, and
/// each layer's attention is repeated over those of the layers in front of it.
LayerTable layer_similarity(const Model &model, const Corpus &corpus, Device *device, ThreadPool *pool);

}  // namespace tiny_lm

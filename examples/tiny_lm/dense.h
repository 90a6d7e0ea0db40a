// SPDX-License-Identifier: Apache-2.0
// The dense part of a decoder layer, on a block of rows: norms, projections, rotation, MLP. Nothing here knows the
// library.
#pragma once

#include "model.h"

namespace tiny_lm {

/// cos and sin of position * theta^(-2i / rope_dim): [num_positions, rope_dim / 2] each.
struct RopeTable {
  RopeTable(int num_positions, int rope_dim, float theta);
  Matrix cos;
  Matrix sin;
};

/// What flows between the steps of a layer; one row per token that is being fed. Sized once, for the longest feed.
struct Activations {
  Activations(const ModelConfig &config, int max_rows);
  Matrix hidden;      ///< [rows, hidden] the residual stream
  Matrix normed;      ///< [rows, hidden] input of attention and indexer
  Matrix q_low;       ///< [rows, q_rank] compressed query, after its norm
  Matrix query;       ///< [rows, num_heads * (kv_rank + rope_dim)] absorbed: compares with latent KV directly
  Matrix kv;          ///< [rows, kv_rank + rope_dim] new latent KV
  Matrix latent_out;  ///< [rows, num_heads * kv_rank] what attention returns
  Matrix index_q;     ///< [rows, index_heads * index_dim] not yet rotated
  Matrix index_k_w;  ///< [rows, index_dim + index_heads] keys, neither normed nor rotated; beside them the head weights
  Matrix logits;     ///< [rows, vocab]
};

/// Rows [begin, begin + count) of the activations; row r stands at position first_position + r of its sequence.
struct RowBlock {
  int begin = 0;
  int count = 0;
  int first_position = 0;
};

/// bytes -> hidden
void embed(const Model &model, const uint8_t *bytes, const RowBlock &rows, Activations *a);

/// hidden -> normed, q_low, query, kv
void project_attention_inputs(const ModelConfig &config, const LayerWeights &w, const RopeTable &rope,
                              const RowBlock &rows, Activations *a);

/// normed, q_low -> index_q, index_k_w. Only a Full layer needs this.
void project_indexer_inputs(const LayerWeights &w, const RowBlock &rows, Activations *a);

/// latent_out -> hidden: value projection, output projection, MLP, both residuals
void finish_layer(const ModelConfig &config, const LayerWeights &w, const RowBlock &rows, Activations *a);

/// hidden -> logits
void project_logits(const Model &model, const RowBlock &rows, Activations *a);

}  // namespace tiny_lm

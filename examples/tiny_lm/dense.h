// SPDX-License-Identifier: Apache-2.0
// The dense part of a decoder layer, on a block of rows and on the CPU: norms, projections, rotation, MLP. Nothing here
// calls the library, but what it reads and writes is in memory that it shares.
#pragma once

#include "device.h"
#include "model.h"

namespace tiny_lm {

/// cos and sin of position * theta^(-2i / rope_dim): [num_positions, rope_dim / 2] each.
struct RopeTable {
  RopeTable(Device *device, int num_positions, int rope_dim, float theta);
  SharedMatrix cos;
  SharedMatrix sin;
};

/// What flows between the steps of a layer; one row per token that is being fed. Sized once, for the longest feed.
struct Activations {
  Activations(Device *device, const ModelConfig &config, int max_rows);
  Matrix hidden;            ///< [rows, hidden] the residual stream
  Matrix normed;            ///< [rows, hidden] input of attention and indexer
  Matrix q_low;             ///< [rows, q_rank] compressed query, after its norm
  SharedMatrix query;       ///< [rows, num_heads * (kv_rank + rope_dim)] absorbed: compares with latent KV directly
  SharedMatrix kv;          ///< [rows, kv_rank + rope_dim] new latent KV
  SharedMatrix latent_out;  ///< [rows, num_heads * kv_rank] what attention returns
  SharedMatrix index_q;     ///< [rows, index_heads * index_dim] not yet rotated
  SharedMatrix index_k_w;   ///< [rows, index_dim + index_heads] keys, neither normed nor rotated, and the head weights
  Matrix logits;            ///< [rows, vocab]
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

/// Rows of latent_out -> the values of all heads, [rows, num_heads * value_dim]: what leaves attention in front of the
/// output projection.
Matrix project_values(const ModelConfig &config, const LayerWeights &w, const Eigen::Ref<const Matrix> &latent);

/// latent_out -> hidden: value projection, output projection, MLP, both residuals
void finish_layer(const ModelConfig &config, const LayerWeights &w, const RowBlock &rows, Activations *a);

/// hidden -> logits
void project_logits(const Model &model, const RowBlock &rows, Activations *a);

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// The checkpoint: geometry from config.json and weights from model.safetensors, arranged as the forward pass wants
// them.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <string>
#include <vector>

namespace tiny_lm {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowVector = Eigen::RowVectorXf;

/// Geometry of a GLM-MoE-DSA model whose MLPs are all dense.
struct ModelConfig {
  int num_layers = 0;
  int hidden = 0;
  int intermediate = 0;
  int vocab = 0;
  int num_heads = 0;
  int q_rank = 0;     ///< width of the compressed query
  int kv_rank = 0;    ///< width of the latent KV: what MLA caches, besides the rotary part
  int nope_dim = 0;   ///< per head, without rotation
  int rope_dim = 0;   ///< per head, rotated; also what the indexer rotates
  int value_dim = 0;  ///< per head
  int index_heads = 0;
  int index_dim = 0;
  int index_topk = 0;
  float norm_eps = 0;
  float rope_theta = 0;
  std::string json;  ///< the whole text: the library reads the schedule from it
};

/// One decoder layer. Matrices are [out, in]; those that read the same input are stacked, so that one product serves
/// both.
struct LayerWeights {
  RowVector input_norm;
  Matrix down_q_kv;  ///< [q_rank + kv_rank + rope_dim, hidden]
  RowVector q_norm;
  RowVector kv_norm;
  Matrix up_q;                   ///< [num_heads * (nope_dim + rope_dim), q_rank]
  std::vector<Matrix> up_key;    ///< per head [nope_dim, kv_rank]
  std::vector<Matrix> up_value;  ///< per head [value_dim, kv_rank]
  Matrix output;                 ///< [hidden, num_heads * value_dim]
  Matrix index_q;                ///< [index_heads * index_dim, q_rank]
  Matrix index_k_w;  ///< [index_dim + index_heads, hidden]; head weights carry the factor (heads * dim)^-1/2
  RowVector index_k_norm;
  RowVector index_k_bias;
  RowVector mlp_norm;
  Matrix gate_up;  ///< [2 * intermediate, hidden]
  Matrix down;     ///< [hidden, intermediate]
};

struct Model {
  ModelConfig config;
  Matrix embedding;  ///< [vocab, hidden]
  std::vector<LayerWeights> layers;
  RowVector final_norm;
  Matrix head;  ///< [vocab, hidden]
};

/// Norms inside attention and of the indexer's keys use this, whatever rms_norm_eps says.
inline constexpr float kInnerNormEps = 1e-6F;

/// Reads config.json and model.safetensors of a folder. Throws Error (kExitFile).
Model load_model(const std::string &folder);

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// Loading of the checkpoint.
#include "model.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "error.h"
#include "files.h"
#include "safetensors.h"

namespace tiny_lm {
namespace {

ModelConfig load_config(const std::string &path) {
  ModelConfig config;
  config.json = read_file(path);
  try {
    const auto json = nlohmann::json::parse(config.json);
    if (json.at("model_type") != "glm_moe_dsa") {
      throw Error(kExitFile, path + ": model_type is " + json.at("model_type").dump() + ", expected \"glm_moe_dsa\"");
    }
    const auto positive = [&](const char *key) {
      const int value = json.at(key).get<int>();
      if (value < 1 || value > 1 << 20) throw Error(kExitFile, path + ": " + key + " is " + std::to_string(value));
      return value;
    };
    config.num_layers = positive("num_hidden_layers");
    config.hidden = positive("hidden_size");
    config.intermediate = positive("intermediate_size");
    config.vocab = positive("vocab_size");
    config.num_heads = positive("num_attention_heads");
    config.q_rank = positive("q_lora_rank");
    config.kv_rank = positive("kv_lora_rank");
    config.nope_dim = positive("qk_nope_head_dim");
    config.rope_dim = positive("qk_rope_head_dim");
    config.value_dim = positive("v_head_dim");
    config.index_heads = positive("index_n_heads");
    config.index_dim = positive("index_head_dim");
    config.index_topk = positive("index_topk");
    config.norm_eps = json.at("rms_norm_eps").get<float>();
    config.rope_theta = json.at("rope_parameters").at("rope_theta").get<float>();
    if (config.vocab != 256) throw Error(kExitFile, path + ": vocab_size is not 256; this program feeds bytes");
    if (json.at("first_k_dense_replace").get<int>() < config.num_layers) {
      throw Error(kExitFile, path + ": has layers of experts; this program knows dense MLPs only");
    }
  } catch (const nlohmann::json::exception &error) {
    throw Error(kExitFile, path + ": " + error.what());
  }
  return config;
}

/// Turns tensors of one file into Eigen objects.
class Loader {
 public:
  explicit Loader(const Safetensors &file) : file_(file) {}

  Matrix matrix(const std::string &name, int rows, int columns) const {
    const std::vector<float> values = file_.floats(name, {rows, columns});
    return Eigen::Map<const Matrix>(values.data(), rows, columns);
  }

  RowVector vector(const std::string &name, int size) const {
    const std::vector<float> values = file_.floats(name, {size});
    return Eigen::Map<const RowVector>(values.data(), size);
  }

 private:
  const Safetensors &file_;
};

Matrix stack(const Matrix &upper, const Matrix &lower) {
  Matrix both(upper.rows() + lower.rows(), upper.cols());
  both << upper, lower;
  return both;
}

LayerWeights load_layer(const Loader &load, const ModelConfig &c, int layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::string attention = prefix + "self_attn.";
  const std::string indexer = attention + "indexer.";
  LayerWeights w;
  w.input_norm = load.vector(prefix + "input_layernorm.weight", c.hidden);
  w.down_q_kv = stack(load.matrix(attention + "q_a_proj.weight", c.q_rank, c.hidden),
                      load.matrix(attention + "kv_a_proj_with_mqa.weight", c.kv_rank + c.rope_dim, c.hidden));
  w.q_norm = load.vector(attention + "q_a_layernorm.weight", c.q_rank);
  w.kv_norm = load.vector(attention + "kv_a_layernorm.weight", c.kv_rank);
  w.up_q = load.matrix(attention + "q_b_proj.weight", c.num_heads * (c.nope_dim + c.rope_dim), c.q_rank);
  const int head_rows = c.nope_dim + c.value_dim;
  const Matrix up_kv = load.matrix(attention + "kv_b_proj.weight", c.num_heads * head_rows, c.kv_rank);
  for (int head = 0; head < c.num_heads; ++head) {
    w.up_key.emplace_back(up_kv.middleRows(head * head_rows, c.nope_dim));
    w.up_value.emplace_back(up_kv.middleRows(head * head_rows + c.nope_dim, c.value_dim));
  }
  w.output = load.matrix(attention + "o_proj.weight", c.hidden, c.num_heads * c.value_dim);
  w.index_q = load.matrix(indexer + "wq_b.weight", c.index_heads * c.index_dim, c.q_rank);
  const float head_factor = 1.0F / std::sqrt(static_cast<float>(c.index_heads * c.index_dim));
  w.index_k_w = stack(load.matrix(indexer + "wk.weight", c.index_dim, c.hidden),
                      load.matrix(indexer + "weights_proj.weight", c.index_heads, c.hidden) * head_factor);
  w.index_k_norm = load.vector(indexer + "k_norm.weight", c.index_dim);
  w.index_k_bias = load.vector(indexer + "k_norm.bias", c.index_dim);
  w.mlp_norm = load.vector(prefix + "post_attention_layernorm.weight", c.hidden);
  w.gate_up = stack(load.matrix(prefix + "mlp.gate_proj.weight", c.intermediate, c.hidden),
                    load.matrix(prefix + "mlp.up_proj.weight", c.intermediate, c.hidden));
  w.down = load.matrix(prefix + "mlp.down_proj.weight", c.hidden, c.intermediate);
  return w;
}

}  // namespace

Model load_model(const std::string &folder) {
  Model model;
  model.config = load_config(folder + "/config.json");
  const ModelConfig &c = model.config;
  const Safetensors file(folder + "/model.safetensors");
  const Loader load(file);
  model.embedding = load.matrix("model.embed_tokens.weight", c.vocab, c.hidden);
  for (int layer = 0; layer < c.num_layers; ++layer) model.layers.push_back(load_layer(load, c, layer));
  model.final_norm = load.vector("model.norm.weight", c.hidden);
  model.head = load.matrix("lm_head.weight", c.vocab, c.hidden);
  return model;
}

}  // namespace tiny_lm

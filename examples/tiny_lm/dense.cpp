// SPDX-License-Identifier: Apache-2.0
// The dense part of a decoder layer.
#include "dense.h"

#include <cmath>

namespace tiny_lm {
namespace {

using Block = Eigen::Ref<Matrix, 0, Eigen::OuterStride<>>;
using ConstBlock = Eigen::Ref<const Matrix, 0, Eigen::OuterStride<>>;

void rms_norm(const ConstBlock &in, const RowVector &weight, float eps, Block out) {
  for (Eigen::Index r = 0; r < in.rows(); ++r) {
    const float mean_square = in.row(r).squaredNorm() / static_cast<float>(in.cols());
    out.row(r) = (in.row(r) / std::sqrt(mean_square + eps)).cwiseProduct(weight);
  }
}

/// Turns the pairs (2i, 2i + 1) of one vector.
void rotate_pairs(const RopeTable &rope, int position, float *x) {
  for (Eigen::Index i = 0; i < rope.cos.cols(); ++i) {
    const float cos = rope.cos(position, i);
    const float sin = rope.sin(position, i);
    const float even = x[2 * i];
    const float odd = x[2 * i + 1];
    x[2 * i] = even * cos - odd * sin;
    x[2 * i + 1] = even * sin + odd * cos;
  }
}

}  // namespace

RopeTable::RopeTable(Device *device, int num_positions, int rope_dim, float theta)
    : cos(device, num_positions, rope_dim / 2), sin(device, num_positions, rope_dim / 2) {
  for (int i = 0; i < rope_dim / 2; ++i) {
    // The frequency is rounded to fp32 once, and the angle is an fp32 product, as in training: at position 2000 an
    // angle is only good to 1e-4, so other roundings turn by visibly other angles.
    const auto frequency = static_cast<float>(std::pow(static_cast<double>(theta), -2.0 * i / rope_dim));
    for (int position = 0; position < num_positions; ++position) {
      const double angle = static_cast<float>(position) * frequency;
      cos(position, i) = static_cast<float>(std::cos(angle));
      sin(position, i) = static_cast<float>(std::sin(angle));
    }
  }
}

Activations::Activations(Device *device, const ModelConfig &c, int max_rows)
    : hidden(max_rows, c.hidden),
      normed(max_rows, c.hidden),
      q_low(max_rows, c.q_rank),
      query(device, max_rows, c.num_heads * (c.kv_rank + c.rope_dim)),
      kv(device, max_rows, c.kv_rank + c.rope_dim),
      latent_out(device, max_rows, c.num_heads * c.kv_rank),
      index_q(device, max_rows, c.index_heads * c.index_dim),
      index_k_w(device, max_rows, c.index_dim + c.index_heads),
      logits(max_rows, c.vocab) {}

void embed(const Model &model, const uint8_t *bytes, const RowBlock &rows, Activations *a) {
  for (int r = rows.begin; r < rows.begin + rows.count; ++r) a->hidden.row(r) = model.embedding.row(bytes[r]);
}

void project_attention_inputs(const ModelConfig &c, const LayerWeights &w, const RopeTable &rope, const RowBlock &rows,
                              Activations *a) {
  rms_norm(a->hidden.middleRows(rows.begin, rows.count), w.input_norm, c.norm_eps,
           a->normed.middleRows(rows.begin, rows.count));

  Matrix low(rows.count, w.down_q_kv.rows());
  low.noalias() = a->normed.middleRows(rows.begin, rows.count) * w.down_q_kv.transpose();
  rms_norm(low.leftCols(c.q_rank), w.q_norm, kInnerNormEps, a->q_low.middleRows(rows.begin, rows.count));
  auto kv = a->kv.middleRows(rows.begin, rows.count);
  rms_norm(low.middleCols(c.q_rank, c.kv_rank), w.kv_norm, kInnerNormEps, kv.leftCols(c.kv_rank));
  kv.rightCols(c.rope_dim) = low.rightCols(c.rope_dim);

  Matrix heads(rows.count, w.up_q.rows());
  heads.noalias() = a->q_low.middleRows(rows.begin, rows.count) * w.up_q.transpose();
  const int head_dim = c.nope_dim + c.rope_dim;
  const int absorbed_dim = c.kv_rank + c.rope_dim;
  auto query = a->query.middleRows(rows.begin, rows.count);
  for (int head = 0; head < c.num_heads; ++head) {
    // q_nope . (W_uk latent) = (q_nope W_uk) . latent: the keys need not be projected back up.
    const auto q = heads.middleCols(head * head_dim, head_dim);
    query.middleCols(head * absorbed_dim, c.kv_rank).noalias() =
        q.leftCols(c.nope_dim) * w.up_key[static_cast<size_t>(head)];
    query.middleCols(head * absorbed_dim + c.kv_rank, c.rope_dim) = q.rightCols(c.rope_dim);
  }

  for (int r = 0; r < rows.count; ++r) {
    const int position = rows.first_position + rows.begin + r;
    rotate_pairs(rope, position, &kv(r, c.kv_rank));
    for (int head = 0; head < c.num_heads; ++head) {
      rotate_pairs(rope, position, &query(r, head * absorbed_dim + c.kv_rank));
    }
  }
}

void project_indexer_inputs(const LayerWeights &w, const RowBlock &rows, Activations *a) {
  a->index_q.middleRows(rows.begin, rows.count).noalias() =
      a->q_low.middleRows(rows.begin, rows.count) * w.index_q.transpose();
  a->index_k_w.middleRows(rows.begin, rows.count).noalias() =
      a->normed.middleRows(rows.begin, rows.count) * w.index_k_w.transpose();
}

Matrix project_values(const ModelConfig &c, const LayerWeights &w, const Eigen::Ref<const Matrix> &latent) {
  Matrix values(latent.rows(), c.num_heads * c.value_dim);
  for (int head = 0; head < c.num_heads; ++head) {
    values.middleCols(head * c.value_dim, c.value_dim).noalias() =
        latent.middleCols(head * c.kv_rank, c.kv_rank) * w.up_value[static_cast<size_t>(head)].transpose();
  }
  return values;
}

void finish_layer(const ModelConfig &c, const LayerWeights &w, const RowBlock &rows, Activations *a) {
  auto hidden = a->hidden.middleRows(rows.begin, rows.count);
  const Matrix values = project_values(c, w, a->latent_out.middleRows(rows.begin, rows.count));
  hidden.noalias() += values * w.output.transpose();

  Matrix normed(rows.count, c.hidden);
  rms_norm(hidden, w.mlp_norm, c.norm_eps, normed);
  Matrix gate_up(rows.count, 2 * c.intermediate);
  gate_up.noalias() = normed * w.gate_up.transpose();
  const auto gate = gate_up.leftCols(c.intermediate).array();
  Matrix active(rows.count, c.intermediate);
  active = (gate / (1.0F + (-gate).exp())) * gate_up.rightCols(c.intermediate).array();  // silu(gate) * up
  hidden.noalias() += active * w.down.transpose();
}

void project_logits(const Model &model, const RowBlock &rows, Activations *a) {
  Matrix normed(rows.count, model.config.hidden);
  rms_norm(a->hidden.middleRows(rows.begin, rows.count), model.final_norm, model.config.norm_eps, normed);
  a->logits.middleRows(rows.begin, rows.count).noalias() = normed * model.head.transpose();
}

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// Joins per-part selections. Positions come in any order, so a candidate is one 64-bit key that holds both its score
// and its position, and the k largest keys are the answer.
#include <algorithm>
#include <cstring>
#include <functional>

#include "cpu/candidate_rows.h"
#include "cpu/select.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

/// Larger = better: the score in order, then the complement of the position.
uint64_t merge_key(float score, int32_t position) {
  score = score == score ? score + 0.0f : -__builtin_inff();
  uint32_t bits = 0;
  std::memcpy(&bits, &score, 4);
  const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | (0xffffffffu - static_cast<uint32_t>(position));
}

int32_t key_position(uint64_t key) { return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key)); }

float key_score(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = (ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered;
  float score = 0;
  std::memcpy(&score, &bits, 4);
  return score;
}

size_t slice_bytes(int32_t parts, int32_t k) {
  Workspace measure;
  measure.take<uint64_t>(static_cast<size_t>(parts) * static_cast<size_t>(k));
  return measure.used();
}

struct Call {
  Call(const MergeParams &params_in, int64_t count) : params(params_in), work(count) {}
  const MergeParams &params;
  WorkCounter work;
};

void merge_row(const MergeParams &p, int64_t r, uint64_t *keys) {
  int64_t count = 0;
  for (int64_t part = 0; part < p.parts; ++part) {
    const int32_t length = std::clamp(p.lengths[part * p.length_stride + r], 0, p.out.k);
    const int32_t *indices = p.indices + part * p.part_stride + r * p.index_stride;
    const float *scores = p.scores + part * p.part_stride + r * p.index_stride;
    for (int32_t i = 0; i < length; ++i) {
      if (indices[i] >= 0) keys[count++] = merge_key(scores[i], indices[i]);
    }
  }
  if (count > p.out.k) {
    std::nth_element(keys, keys + p.out.k, keys + count, std::greater<uint64_t>());
    count = p.out.k;
  }
  if (p.out.order == IC_ORDER_SCORE) {
    std::sort(keys, keys + count, std::greater<uint64_t>());
  } else {
    std::sort(keys, keys + count, [](uint64_t a, uint64_t b) { return key_position(a) < key_position(b); });
  }
  int32_t *indices = p.out.indices + r * p.out.index_stride;
  float *selected = p.out.scores == nullptr ? nullptr : p.out.scores + r * p.out.index_stride;
  for (int64_t i = 0; i < count; ++i) {
    indices[i] = key_position(keys[i]);
    if (selected != nullptr) selected[i] = key_score(keys[i]);
  }
  std::fill(indices + count, indices + p.out.k_padded, -1);
  if (selected != nullptr) std::fill(selected + count, selected + p.out.k_padded, -__builtin_inff());
  p.out.lengths[r] = static_cast<int32_t>(count);
}

void run_rows(void *data, int64_t number) {
  Call &call = *static_cast<Call *>(data);
  const MergeParams &p = call.params;
  Workspace workspace(static_cast<uint8_t *>(p.workspace) +
                      static_cast<size_t>(number) * slice_bytes(p.parts, p.out.k));
  auto *keys = workspace.take<uint64_t>(static_cast<size_t>(p.parts) * static_cast<size_t>(p.out.k));
  for (int64_t r = call.work.take(); r >= 0; r = call.work.take()) merge_row(p, r, keys);
}

}  // namespace

size_t merge_workspace_size(const Executor &executor, int32_t max_rows, int32_t max_parts, int32_t k) {
  const int32_t slices = std::min(executor.workers->slices(), std::max(max_rows, 1));
  return static_cast<size_t>(slices) * slice_bytes(max_parts, k);
}

void merge(const Executor &executor, const MergeParams &params) {
  if (params.rows <= 0) return;
  Call call(params, params.rows);
  executor.workers->run(std::min(executor.workers->slices(), params.rows), run_rows, &call);
}

}  // namespace ic::cpu

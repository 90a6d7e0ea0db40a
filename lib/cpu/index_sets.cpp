// SPDX-License-Identifier: Apache-2.0
// Operations on published index sets, row by row.
#include "cpu/index_sets.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

void raise(uint32_t *fault, uint32_t bit) noexcept {
  if (fault != nullptr) std::atomic_ref<uint32_t>(*fault).fetch_or(bit, std::memory_order_relaxed);
}

/// Calls body(row) for every row on the executor's workers, some rows at a time.
template <class Body>
void each_row(const Executor &executor, int32_t rows, Body body) noexcept {
  constexpr int32_t kRowsPerTask = 64;
  struct Job {
    Body *body;
    int32_t rows;
  } job{&body, rows};
  executor.workers->run((int64_t{rows} + kRowsPerTask - 1) / kRowsPerTask,
                        [](void *data, int64_t index) {
                          const Job &work = *static_cast<Job *>(data);
                          const auto first = static_cast<int32_t>(index * kRowsPerTask);
                          const int32_t last = std::min(first + kRowsPerTask, work.rows);
                          for (int32_t row = first; row < last; ++row) (*work.body)(row);
                        },
                        &job);
}

constexpr int64_t kNoSlot = -2;  // a fault; -1 is a key that is legally absent

uint64_t stamp_of(int32_t source_layer, uint32_t epoch) noexcept {
  return static_cast<uint64_t>(static_cast<uint32_t>(source_layer)) << 32 | epoch;
}

/// Adds the lanes up; they are not needed any more.
float add_lanes(float (&lanes)[kOverlapLanes]) noexcept {
  for (int32_t half = kOverlapLanes / 2; half > 0; half /= 2)
    for (int32_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

/// The part of A's mass that lies on B; both lists ascend.
float mass_recall(const float *mass, const int32_t *a, int32_t a_count, const int32_t *b, int32_t b_count) noexcept {
  float all[kOverlapLanes] = {};
  float common[kOverlapLanes] = {};
  int32_t j = 0;
  for (int32_t i = 0; i < a_count; ++i) {
    while (j < b_count && b[j] < a[i]) ++j;
    all[i % kOverlapLanes] += mass[i];
    if (j < b_count && b[j] == a[i]) common[i % kOverlapLanes] += mass[i];
  }
  const float total = add_lanes(all);
  return total == 0.0f ? 1.0f : add_lanes(common) / total;
}

}  // namespace

void stamp(const StampParams &params) {
  std::fill_n(params.stamps, params.count, stamp_of(params.source_layer, *params.epoch));
}

void check_stamps(const CheckStampsParams &params) {
  const uint64_t wanted = stamp_of(params.source_layer, *params.epoch);
  for (int32_t row = 0; row < params.count; ++row) {
    const bool current = params.stamps[row] == wanted;
    params.checked_lengths[row] = current ? params.lengths[row] : 0;
    if (!current) raise(params.fault, IC_FAULT_EPOCH);
  }
}

void gather_rows(const Executor &executor, const GatherRowsParams &params) {
  each_row(executor, params.count, [&params](int32_t row) {
    int32_t from = params.rows == nullptr ? row : params.rows[row];
    if (from < -1 || from >= params.source_rows) {
      raise(params.fault, IC_FAULT_ROW);
      from = -1;
    }
    int32_t *indices = params.out_indices + row * params.out_stride;
    float *scores = params.out_scores == nullptr ? nullptr : params.out_scores + row * params.out_stride;
    int32_t copied = 0;
    params.out_lengths[row] = 0;
    if (from >= 0) {
      copied = params.width;
      params.out_lengths[row] = params.lengths[from];
      std::memcpy(indices, params.indices + from * params.index_stride, static_cast<size_t>(copied) * sizeof(int32_t));
      if (scores != nullptr)
        std::memcpy(scores, params.scores + from * params.index_stride, static_cast<size_t>(copied) * sizeof(float));
    }
    std::fill(indices + copied, indices + params.padded_width, -1);
    if (scores != nullptr)
      std::fill(scores + copied, scores + params.padded_width, -std::numeric_limits<float>::infinity());
  });
}

void export_rows(const Executor &executor, const ExportParams &params) {
  std::memcpy(params.block, params.header, sizeof params.header);
  GatherRowsParams pack{};
  pack.count = params.count;
  pack.source_rows = params.count;
  pack.width = params.k;
  pack.padded_width = params.k;
  pack.indices = params.indices;
  pack.index_stride = params.index_stride;
  pack.lengths = params.lengths;
  pack.scores = params.scores;
  pack.out_lengths = static_cast<int32_t *>(params.block) + sizeof params.header / sizeof(int32_t);
  pack.out_indices = pack.out_lengths + params.count;
  pack.out_stride = params.k;
  if (params.scores != nullptr)
    pack.out_scores = reinterpret_cast<float *>(pack.out_indices + int64_t{params.count} * params.k);
  gather_rows(executor, pack);
}

void import_rows(const Executor &executor, const ImportParams &params) {
  GatherRowsParams unpack{};
  unpack.count = params.rows.count;
  unpack.source_rows = params.rows.count;
  unpack.width = params.k;
  unpack.padded_width = params.k_padded;
  unpack.lengths = static_cast<const int32_t *>(params.body);
  unpack.indices = unpack.lengths + params.rows.count;
  unpack.index_stride = params.k;
  if (params.scores != nullptr)
    unpack.scores = reinterpret_cast<const float *>(unpack.indices + int64_t{params.rows.count} * params.k);
  unpack.out_indices = params.indices;
  unpack.out_stride = params.k_padded;
  unpack.out_lengths = params.lengths;
  unpack.out_scores = params.scores;
  gather_rows(executor, unpack);
}

void remap(const Executor &executor, const RemapParams &params) {
  each_row(executor, params.rows.count, [&params](int32_t row) {
    const int32_t *indices = params.indices + row * params.index_stride;
    int32_t *slots = params.slots + row * params.slot_stride;
    const int32_t seq = params.rows.seq == nullptr ? 0 : params.rows.seq[row];
    int32_t length = std::clamp(params.lengths[row], 0, params.k_padded);
    if (seq < 0 || seq >= params.rows.num_seqs) {
      if (length > 0) raise(params.rows.fault, IC_FAULT_SEQUENCE);
      length = 0;
    }
    for (int32_t i = 0; i < length; ++i) {
      const int32_t position = indices[i];
      int64_t slot = -1;
      if (position >= 0 && params.page_tokens == 0) {
        const int64_t offset = params.key_offsets == nullptr ? 0 : params.key_offsets[seq];
        if (__builtin_add_overflow(offset, int64_t{position}, &slot) || slot < 0) slot = kNoSlot;
      } else if (position >= 0) {
        const int32_t block = position / params.page_tokens;
        const int32_t page =
            block < params.num_blocks ? params.block_table[seq * params.block_table_stride + block] : -1;
        if (page >= 0) slot = int64_t{page} * params.page_tokens + position % params.page_tokens;
      }
      if (slot < -1 || slot > std::numeric_limits<int32_t>::max()) {  // kNoSlot, or too large for an entry
        raise(params.rows.fault, IC_FAULT_SLOT);
        slot = -1;
      }
      slots[i] = static_cast<int32_t>(slot);
    }
    std::fill(slots + length, slots + params.k_padded, -1);
    params.out_lengths[row] = length;
  });
}

void overlap(const Executor &executor, const OverlapParams &params) {
  each_row(executor, params.count, [&params](int32_t row) {
    const int32_t *a = params.a + row * params.a_stride;
    const int32_t *b = params.b + row * params.b_stride;
    const int32_t a_count = std::clamp(params.a_lengths[row], 0, params.a_k);
    const int32_t b_count = std::clamp(params.b_lengths[row], 0, params.b_k);
    int32_t common = 0;
    for (int32_t i = 0, j = 0; i < a_count && j < b_count;) {
      const int32_t x = a[i];
      const int32_t y = b[j];
      common += x == y ? 1 : 0;
      i += x <= y ? 1 : 0;
      j += y <= x ? 1 : 0;
    }
    const int32_t either = a_count + b_count - common;
    if (params.intersection != nullptr) params.intersection[row] = common;
    if (params.recall != nullptr)
      params.recall[row] = a_count == 0 ? 1.0f : static_cast<float>(common) / static_cast<float>(a_count);
    if (params.jaccard != nullptr)
      params.jaccard[row] = either == 0 ? 1.0f : static_cast<float>(common) / static_cast<float>(either);
    if (params.mass_recall != nullptr)
      params.mass_recall[row] = mass_recall(params.mass + row * params.mass_stride, a, a_count, b, b_count);
  });
}

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// Addresses, faults and the division of work of the preparation operations; the arithmetic is in isa/prepare.inl.
#include "cpu/prepare.h"

#include <algorithm>
#include <cstring>

#include "cpu/convert.h"
#include "cpu/isa/prepare_kernels.h"
#include "cpu/workers.h"
#include "indexcache.h"

namespace ic::cpu {
namespace {

constexpr int64_t kChunkElements = 16384;  // a chunk takes some microseconds: more than waking a thread costs
constexpr int64_t kScaleBytes = sizeof(float);

const PrepareKernels &kernels_for(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kPrepareKernelsAvx512;
  if (isa == Isa::kAvx2) return kPrepareKernelsAvx2;
#endif
  static_cast<void>(isa);
  return kPrepareKernelsPortable;
}

// Calls process(begin, end) -> fault bits for chunks of rows on the workers.
template <class Process>
void run_rows(const Executor &executor, int64_t count, int64_t row_elements, uint32_t *fault, const Process &process) {
  const int64_t chunk_rows = std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, row_elements));
  const int64_t chunks = (count + chunk_rows - 1) / chunk_rows;
  struct Shared {
    WorkCounter counter;
    int64_t count, chunk_rows;
    uint32_t *fault;
    const Process &process;
  } shared{WorkCounter(chunks), count, chunk_rows, fault, process};
  executor.workers->run(
      std::min<int64_t>(chunks, executor.workers->slices()),
      [](void *data, int64_t) {
        Shared &work = *static_cast<Shared *>(data);
        uint32_t faults = 0;
        for (int64_t chunk = work.counter.take(); chunk >= 0; chunk = work.counter.take()) {
          const int64_t begin = chunk * work.chunk_rows;
          faults |= work.process(begin, std::min(begin + work.chunk_rows, work.count));
        }
        if (faults != 0 && work.fault != nullptr) __atomic_fetch_or(work.fault, faults, __ATOMIC_RELAXED);
      },
      &shared);
}

struct KeyPlace {
  uint8_t *vector;  // null: the key has no place
  uint8_t *scale;
};

KeyPlace place_of(const PoolView &pool, int64_t slot, int64_t vector_bytes) {
  uint8_t *scales = reinterpret_cast<uint8_t *>(pool.scales);
  if (pool.page_tokens == 0) {
    if (slot < 0 || slot >= pool.capacity) return {nullptr, nullptr};
    return {pool.data + slot * pool.stride_bytes, scales == nullptr ? nullptr : scales + slot * kScaleBytes};
  }
  const int64_t page = slot / pool.page_tokens, offset = slot % pool.page_tokens;
  if (slot < 0 || page >= pool.capacity) return {nullptr, nullptr};
  uint8_t *base = pool.data + page * pool.stride_bytes;
  return {base + offset * vector_bytes, base + pool.page_tokens * vector_bytes + offset * kScaleBytes};
}

bool position_is_legal(const PrepareParams &params, int64_t row) {
  return params.rope_dim == 0 || (params.positions[row] >= 0 && params.positions[row] < params.num_positions);
}

const float *table_row(const PrepareParams &params, const float *table, int64_t row) {
  if (params.rope_dim == 0) return nullptr;
  return table + static_cast<int64_t>(params.positions[row]) * (params.rope_dim / 2);
}

const void *row_of(const PrepareParams &params, int64_t row) {
  return static_cast<const uint8_t *>(params.x) + row * params.x_row_stride * dtype_bytes(params.x_dtype);
}

void clear_query_row(const PrepareParams &params, uint8_t *out, float *scales) {
  std::memset(out, 0,
              static_cast<size_t>(params.num_heads) * static_cast<size_t>(params.head_dim) *
                  static_cast<size_t>(dtype_bytes(params.dtype)));
  if (params.dtype != IC_DTYPE_E4M3) return;
  const float scale = e4m3_scale(0.0f);
  std::fill_n(scales, params.num_heads, (params.flags & IC_PREPARE_UE8M0) != 0 ? power_of_two_scale(scale) : scale);
}

}  // namespace

void prepare_queries(const Executor &executor, const PrepareParams &params) {
  const PrepareKernels &kernels = kernels_for(executor.isa);
  const int64_t row_bytes = params.q_out_stride * dtype_bytes(params.dtype);
  const auto process = [&](int64_t begin, int64_t end) {
    uint32_t faults = 0;
    for (int64_t row = begin; row < end; ++row) {
      uint8_t *out = static_cast<uint8_t *>(params.q_out) + row * row_bytes;
      float *scales = params.dtype == IC_DTYPE_E4M3 ? params.q_scale_out + row * params.num_heads : nullptr;
      if (position_is_legal(params, row)) {
        kernels.row(params, row_of(params, row), table_row(params, params.cos_table, row),
                    table_row(params, params.sin_table, row), out, reinterpret_cast<uint8_t *>(scales));
      } else {
        faults |= IC_FAULT_POSITION;
        clear_query_row(params, out, scales);
      }
    }
    return faults;
  };
  run_rows(executor, params.count, int64_t{params.num_heads} * params.head_dim, params.fault, process);
}

void prepare_keys(const Executor &executor, const PrepareParams &params) {
  const PrepareKernels &kernels = kernels_for(executor.isa);
  const int64_t vector_bytes = int64_t{params.head_dim} * dtype_bytes(params.dtype);
  const auto process = [&](int64_t begin, int64_t end) {
    uint32_t faults = 0;
    for (int64_t row = begin; row < end; ++row) {
      if (params.slots[row] == -1) continue;
      const KeyPlace place = place_of(params.pool, params.slots[row], vector_bytes);
      if (place.vector == nullptr) {
        faults |= IC_FAULT_SLOT;
      } else if (!position_is_legal(params, row)) {
        faults |= IC_FAULT_POSITION;
      } else {
        kernels.row(params, row_of(params, row), table_row(params, params.cos_table, row),
                    table_row(params, params.sin_table, row), place.vector, place.scale);
      }
    }
    return faults;
  };
  run_rows(executor, params.count, params.head_dim, params.fault, process);
}

void write_keys(const Executor &executor, const WriteKeysParams &params) {
  const int64_t vector_bytes = int64_t{params.head_dim} * dtype_bytes(params.dtype);
  const auto process = [&](int64_t begin, int64_t end) {
    uint32_t faults = 0;
    for (int64_t row = begin; row < end; ++row) {
      if (params.slots[row] == -1) continue;
      const KeyPlace place = place_of(params.pool, params.slots[row], vector_bytes);
      if (place.vector == nullptr) {
        faults |= IC_FAULT_SLOT;
        continue;
      }
      std::memcpy(place.vector, static_cast<const uint8_t *>(params.keys) + row * params.key_stride_bytes,
                  static_cast<size_t>(vector_bytes));
      if (params.dtype == IC_DTYPE_E4M3) std::memcpy(place.scale, params.scales + row, sizeof(float));
    }
    return faults;
  };
  run_rows(executor, params.count, params.head_dim, params.fault, process);
}

}  // namespace ic::cpu

// SPDX-License-Identifier: Apache-2.0
// A checked batch, and the views of rows and pools that operations take.
#pragma once

#include <array>
#include <cstdint>

#include "core/params.h"
#include "core/publications.h"
#include "indexcache.h"

namespace ic {

inline constexpr int32_t kMaxBlockTables = 8;
inline constexpr int32_t kMaxKeyEnd = 1 << 24;

struct Batch {
  int32_t num_rows = 0;
  int32_t num_seqs = 0;
  int32_t max_key_end = 0;
  int32_t num_block_tables = 0;
  const int32_t *row_seq = nullptr;
  const int32_t *key_begin = nullptr;
  const int32_t *key_end = nullptr;
  std::array<ic_block_table, kMaxBlockTables> block_tables{};  // strides resolved
  const int64_t *key_offsets = nullptr;
  uint64_t capture_id = 0;
  bool keep = false;

  RowsView rows(RowRange part, uint32_t *fault) const noexcept;
};

/// What a pool's vectors are, for its strides and its alignment.
struct VectorLayout {
  int64_t bytes;       // one vector
  int64_t page_extra;  // bytes per token behind the vectors of a page (e4m3 scales)
  int64_t alignment;   // of data and strides
  bool scales;         // contiguous: a scales array belongs to it
};
VectorLayout index_key_layout(int32_t head_dim, int32_t dtype) noexcept;
VectorLayout kv_layout(int32_t d_latent, int32_t d_rope, int32_t kv_dtype) noexcept;

/// The pool as operations take it; fails with the argument's name. The pool's block table is the batch's.
PoolView pool_view(const ic_pool &pool, const VectorLayout &layout, const Batch &batch, const char *name);
/// The same without a batch: slots only. page_tokens is 0 for a contiguous pool.
PoolView slot_pool_view(const ic_pool &pool, const VectorLayout &layout, int32_t page_tokens, const char *name);

bool is_page_size(int32_t page_tokens) noexcept;

// Values in arrays, where the host can see them; each fails with IC_ERROR_OUT_OF_RANGE.

/// Sequences, key ranges, and pages that are neither -1 nor a page number.
void check_batch_values(const Batch &batch);
/// Every visible key of the part lies inside the pool.
void check_pool_values(const Batch &batch, RowRange part, const PoolView &pool, const char *name);
/// Every slot is -1 or inside the pool.
void check_slot_values(const int64_t *slots, int64_t count, const PoolView &pool, const char *name);

}  // namespace ic

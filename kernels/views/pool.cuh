// SPDX-License-Identifier: Apache-2.0
// Where the vector of a key lies, on the device. Tables and offsets are the caller's memory: every entry is checked.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "indexcache.h"

namespace ic::cuda {

/// page_tokens as a shift, -1 = contiguous. Page sizes are powers of two.
__host__ __device__ inline int32_t page_shift(const PoolView &pool) {
  int32_t shift = -1;
  for (int32_t tokens = pool.page_tokens; tokens != 0; tokens >>= 1) ++shift;
  return shift;
}

/// A place in a pool: vector `token` of page `page` (contiguous: vector `page`, token 0). page < 0: no such key.
struct PoolPlace {
  int64_t page;
  int32_t token;
};

/// The block table's entry for a position >= 0 of sequence seq, as it stands there; a copy may be asked for long before
/// it is used. Behind the last block: -1. Contiguous: 0.
__device__ inline int32_t page_entry(const PoolView &pool, int32_t shift, int32_t seq, int32_t position) {
  if (shift < 0) return 0;
  const int32_t block = position >> shift;
  return block < pool.num_blocks ? pool.block_table[seq * pool.block_table_stride + block] : -1;
}

/// The place of a position >= 0 of sequence seq, whose page_entry() is `page`. Adds IC_FAULT_PAGE for one outside the
/// pool; a key on page -1 or behind the last block is just not there.
__device__ inline PoolPlace place_on_page(const PoolView &pool, int32_t shift, int32_t seq, int32_t position,
                                          int32_t page, uint32_t *fault) {
  if (shift < 0) {
    const int64_t offset = pool.key_offsets == nullptr ? 0 : pool.key_offsets[seq];
    // offset + position in [0, capacity), without a sum that could overflow
    if (offset < -int64_t{position} || offset >= pool.capacity - position) {
      *fault |= IC_FAULT_PAGE;
      return {-1, 0};
    }
    return {offset + position, 0};
  }
  if (page < 0 || page >= pool.capacity) {
    if (page != -1) *fault |= IC_FAULT_PAGE;
    return {-1, 0};
  }
  return {page, position & ((1 << shift) - 1)};
}

__device__ inline PoolPlace find_place(const PoolView &pool, int32_t shift, int32_t seq, int32_t position,
                                       uint32_t *fault) {
  return place_on_page(pool, shift, seq, position, page_entry(pool, shift, seq, position), fault);
}

/// First byte of the vector, null when there is none.
__device__ inline const uint8_t *vector_at(const PoolView &pool, PoolPlace place, int64_t vector_bytes) {
  if (place.page < 0) return nullptr;
  return pool.data + place.page * pool.stride_bytes + place.token * vector_bytes;
}

/// The fp32 scale of an e4m3 index key that is there.
__device__ inline const float *scale_at(const PoolView &pool, PoolPlace place, int64_t vector_bytes) {
  if (pool.page_tokens == 0) return pool.scales + place.page;
  return reinterpret_cast<const float *>(pool.data + place.page * pool.stride_bytes + pool.page_tokens * vector_bytes) +
         place.token;
}

}  // namespace ic::cuda

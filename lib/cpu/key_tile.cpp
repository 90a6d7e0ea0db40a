// SPDX-License-Identifier: Apache-2.0
// Logical positions to addresses. Tables come from the caller's memory: every entry is checked before it is used.
#include "cpu/key_tile.h"

#include <cstring>

#include "indexcache.h"

namespace ic::cpu {
namespace {

uint32_t find_contiguous(const PoolView &pool, int32_t seq, int32_t first, int32_t num, const uint8_t *wanted,
                         bool scaled, KeyTile *tile) noexcept {
  uint32_t fault = 0;
  int32_t count = 0;
  const int64_t offset = pool.key_offsets == nullptr ? 0 : pool.key_offsets[seq];
  for (int32_t i = 0; i < num; ++i) {
    if (wanted != nullptr && wanted[i] == 0) continue;
    int64_t vector = 0;
    if (__builtin_add_overflow(offset, int64_t{first} + i, &vector) || vector < 0 || vector >= pool.capacity) {
      fault = IC_FAULT_PAGE;
      continue;
    }
    tile->keys[count] = pool.data + vector * pool.stride_bytes;
    tile->positions[count] = first + i;
    if (scaled) tile->scales[count] = pool.scales[vector];
    ++count;
  }
  tile->count = count;
  return fault;
}

uint32_t find_paged(const PoolView &pool, int32_t seq, int32_t first, int32_t num, const uint8_t *wanted,
                    int32_t vector_bytes, bool scaled, KeyTile *tile) noexcept {
  uint32_t fault = 0;
  int32_t count = 0;
  const int32_t *blocks = pool.block_table + seq * pool.block_table_stride;
  const int64_t scales_at = int64_t{pool.page_tokens} * vector_bytes;
  int32_t block = -1;
  int32_t page = -1;
  for (int32_t i = 0; i < num; ++i) {
    if (wanted != nullptr && wanted[i] == 0) continue;
    const int32_t position = first + i;
    const int32_t its_block = position / pool.page_tokens;
    if (its_block >= pool.num_blocks) break;
    if (its_block != block) {
      block = its_block;
      page = blocks[block];
      if (page < 0 || page >= pool.capacity) {
        if (page != -1) fault = IC_FAULT_PAGE;
        page = -1;
      }
    }
    if (page == -1) continue;
    const uint8_t *data = pool.data + page * pool.stride_bytes;
    const int64_t token = position - block * pool.page_tokens;
    tile->keys[count] = data + token * vector_bytes;
    tile->positions[count] = position;
    if (scaled) std::memcpy(&tile->scales[count], data + scales_at + token * 4, 4);
    ++count;
  }
  tile->count = count;
  return fault;
}

}  // namespace

uint32_t find_keys(const PoolView &pool, int32_t seq, int32_t first, int32_t num, const uint8_t *wanted,
                   int32_t vector_bytes, bool scaled, KeyTile *tile) noexcept {
  if (pool.page_tokens == 0) return find_contiguous(pool, seq, first, num, wanted, scaled, tile);
  return find_paged(pool, seq, first, num, wanted, vector_bytes, scaled, tile);
}

}  // namespace ic::cpu

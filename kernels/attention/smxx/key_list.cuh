// SPDX-License-Identifier: Apache-2.0
// From a row's index list to addresses of tokens, on the device. Lists, tables and offsets are the caller's memory:
// every entry is checked, and what points at nothing is skipped.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "indexcache.h"

namespace ic::cuda {

struct KeyList {
  const int32_t *indices;
  const int32_t *table;  // of the row's sequence; paged pools with logical indices only
  int64_t offset;        // of position 0; contiguous pools with logical indices only
  int32_t count;         // entries; 0 for an illegal row
};

/// Adds IC_FAULT_* bits to *fault for an illegal row, which is then empty.
__device__ inline KeyList key_list(const AttendParams &p, int32_t row, uint32_t *fault) {
  const int32_t count = p.lengths == nullptr ? p.num_indices : p.lengths[row];
  KeyList list = {p.indices + row * p.index_stride, nullptr, 0, max(count, 0)};
  if (count > p.num_indices) {
    *fault |= IC_FAULT_KEY_END;
    list.count = 0;
    return list;
  }
  if (p.slots != 0) return list;
  const int32_t seq = p.rows.seq == nullptr ? 0 : p.rows.seq[row];
  if (seq < 0 || seq >= p.rows.num_seqs) {
    *fault |= IC_FAULT_SEQUENCE;
    list.count = 0;
    return list;
  }
  if (p.kv.page_tokens != 0) {
    list.table = p.kv.block_table + seq * p.kv.block_table_stride;
  } else if (p.kv.key_offsets != nullptr) {
    list.offset = p.kv.key_offsets[seq];
  }
  return list;
}

// An address needs up to three loads one after another (list, table, token). They are separate steps, so that a kernel
// can put other work between them.

/// The first: the entry itself.
__device__ inline int32_t load_index(const KeyList &list, int32_t entry, int32_t end) {
  return entry < end ? list.indices[entry] : -1;
}

/// The second: the page of a logical index of a paged pool, -1 when there is none.
__device__ inline int32_t load_page(const AttendParams &p, const KeyList &list, int32_t shift, int32_t index) {
  const bool known = list.table != nullptr && index >= 0 && (index >> shift) < p.kv.num_blocks;
  return known ? list.table[index >> shift] : -1;
}

/// Address of the token, null for an entry that is skipped. Adds IC_FAULT_* bits to *fault for an illegal one.
__device__ inline const uint8_t *token_address(const AttendParams &p, const KeyList &list, int32_t shift, int32_t index,
                                               int32_t page, int64_t token_bytes, uint32_t *fault) {
  const PoolView &pool = p.kv;
  if (index < 0) {
    if (index != -1) *fault |= p.slots != 0 ? IC_FAULT_SLOT : IC_FAULT_PAGE;
    return nullptr;
  }
  int64_t vector = 0;  // or page
  if (p.slots != 0) {
    vector = index >> shift;
    if (vector >= pool.capacity) {
      *fault |= IC_FAULT_SLOT;
      return nullptr;
    }
  } else if (list.table != nullptr) {
    vector = page;
    if (page < 0 || vector >= pool.capacity) {
      if (page != -1) *fault |= IC_FAULT_PAGE;
      return nullptr;
    }
  } else {
    // offset + index in [0, capacity), without a sum that could overflow
    if (list.offset < -int64_t{index} || list.offset >= pool.capacity - index) {
      *fault |= IC_FAULT_PAGE;
      return nullptr;
    }
    return pool.data + (list.offset + index) * pool.stride_bytes;
  }
  return pool.data + vector * pool.stride_bytes + (index & ((1 << shift) - 1)) * token_bytes;
}

}  // namespace ic::cuda

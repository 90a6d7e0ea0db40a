// SPDX-License-Identifier: Apache-2.0
// From a row's index list to the addresses of its tokens. A List takes what was found: add(entry, token) for every
// entry that is not skipped, in list order, and add_fault(IC_FAULT_*) for an illegal one.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/convert.h"
#include "indexcache.h"

namespace ic::cpu {

/// A power of two as a shift; page sizes are nothing else.
struct PageSize {
  int shift;
  int32_t mask;
};
inline PageSize page_size_of(const PoolView &pool) {
  return {__builtin_ctz(static_cast<uint32_t>(pool.page_tokens)), pool.page_tokens - 1};
}

inline int64_t token_bytes_of(const AttendParams &params) {
  if (params.kv_dtype == IC_DTYPE_E4M3) return 656;
  return int64_t{params.d_latent + params.d_rope} * dtype_bytes(params.kv_dtype);
}

template <class List>
void list_slots(const AttendParams &params, const int32_t *indices, int32_t count, List &list) {
  const PoolView &pool = params.kv;
  const bool paged = pool.page_tokens != 0;
  const PageSize page = paged ? page_size_of(pool) : PageSize{0, 0};
  const int64_t token_bytes = token_bytes_of(params);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t slot = indices[i];
    if (slot >= 0 && slot >> page.shift < pool.capacity) {
      list.add(i, pool.data + (slot >> page.shift) * pool.stride_bytes + (slot & page.mask) * token_bytes);
    } else if (slot != -1) {
      list.add_fault(IC_FAULT_SLOT);
    }
  }
}

template <class List>
void list_paged(const AttendParams &params, int32_t seq, const int32_t *indices, int32_t count, List &list) {
  const PoolView &pool = params.kv;
  const PageSize page = page_size_of(pool);
  const int64_t token_bytes = token_bytes_of(params);
  const int32_t *table = pool.block_table + seq * pool.block_table_stride;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t position = indices[i];
    const int32_t block = position >> page.shift;
    if (position < 0 || block >= pool.num_blocks) {
      if (position < -1) list.add_fault(IC_FAULT_PAGE);
      continue;
    }
    const int32_t number = table[block];
    if (number >= 0 && number < pool.capacity) {
      list.add(i, pool.data + number * pool.stride_bytes + (position & page.mask) * token_bytes);
    } else if (number != -1) {
      list.add_fault(IC_FAULT_PAGE);
    }
  }
}

template <class List>
void list_contiguous(const AttendParams &params, int32_t seq, const int32_t *indices, int32_t count, List &list) {
  const PoolView &pool = params.kv;
  const int64_t first = pool.key_offsets == nullptr ? 0 : pool.key_offsets[seq];
  for (int32_t i = 0; i < count; ++i) {
    const int32_t position = indices[i];
    int64_t vector = 0;
    if (position >= 0 && !__builtin_add_overflow(first, int64_t{position}, &vector) && vector >= 0 &&
        vector < pool.capacity) {
      list.add(i, pool.data + vector * pool.stride_bytes);
    } else if (position != -1) {
      list.add_fault(IC_FAULT_PAGE);
    }
  }
}

/// The rules for what is skipped, and when with a fault: attend.h.
template <class List>
void list_keys(const AttendParams &params, int32_t row, List &list) {
  const int32_t count = params.lengths == nullptr ? params.num_indices : params.lengths[row];
  if (count > params.num_indices) return list.add_fault(IC_FAULT_KEY_END);
  const int32_t *indices = params.indices + row * params.index_stride;
  if (params.slots != 0) return list_slots(params, indices, count, list);
  const int32_t seq = params.rows.seq == nullptr ? 0 : params.rows.seq[row];
  if (seq < 0 || seq >= params.rows.num_seqs) return list.add_fault(IC_FAULT_SEQUENCE);
  if (params.kv.page_tokens != 0) return list_paged(params, seq, indices, count, list);
  list_contiguous(params, seq, indices, count, list);
}

}  // namespace ic::cpu

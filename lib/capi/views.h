// SPDX-License-Identifier: Apache-2.0
// From a caller's structs to the checked views that operations take.
#pragma once

#include <cstdint>

#include "core/batch.h"
#include "core/context.h"
#include "core/operators.h"
#include "indexcache.h"

namespace ic {

/// A stream that the backend's operations may run on.
inline void require_stream(const Backend &backend, ic_stream stream) { backend.require_stream(stream); }

/// The batch without the values of its arrays. max_rows: what the cache holds.
Batch read_batch(const ic_batch *batch, int32_t max_rows);

/// Rows [row_begin, row_begin + row_count) of a batch; IC_ALL_ROWS resolved.
RowRange read_part(int32_t row_begin, int32_t row_count, const Batch &batch);

QueryView read_queries(const ic_queries *queries, const ic_indexer &indexer, const char *name);
PoolView read_index_keys(const ic_pool *pool, const ic_indexer &indexer, const Batch &batch, const char *name);

/// All of AttendParams but rows, indices and workspace.
AttendParams read_attention_args(const ic_attention_args *args, const ic_attention &attention, const Batch &batch,
                                 const char *name, const char *kv_name);

/// All of AttentionMassParams but rows, indices and workspace. k: of the indices.
AttentionMassParams read_mass_args(const ic_mass_args *args, const ic_attention &attention, const Batch &batch,
                                   int32_t k, const char *name, const char *kv_name);

/// A set of indices given by a caller.
ic_index_view read_index_view(const ic_index_view *view, const char *name);

}  // namespace ic

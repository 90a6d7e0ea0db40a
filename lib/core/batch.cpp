// SPDX-License-Identifier: Apache-2.0
// Views of a batch, and the checks of what its arrays contain.
#include "core/batch.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/failure.h"

namespace ic {
namespace {

int32_t seq_of(const Batch &batch, int32_t row) noexcept { return batch.row_seq == nullptr ? 0 : batch.row_seq[row]; }
int32_t begin_of(const Batch &batch, int32_t row) noexcept {
  return batch.key_begin == nullptr ? 0 : batch.key_begin[row];
}

/// Visits [first, last) blocks of a sequence's row in a block table once for consecutive rows that see the same ones.
class BlockWalk {
 public:
  explicit BlockWalk(const ic_block_table &table) noexcept : table_(table) {}

  template <class Visit>
  void row(int32_t seq, int32_t key_begin, int32_t key_end, Visit visit) {
    if (key_end <= key_begin) return;
    const int32_t first = key_begin / table_.page_tokens;
    const int32_t last = static_cast<int32_t>(
        std::min<int64_t>((int64_t{key_end} + table_.page_tokens - 1) / table_.page_tokens, table_.num_blocks));
    if (seq != seq_ || first < first_ || first > seen_) {  // not a continuation of what has been visited
      seq_ = seq;
      first_ = first;
      seen_ = first;
    }
    for (int32_t block = seen_; block < last; ++block) visit(block, table_.pages[int64_t{seq} * table_.stride + block]);
    seen_ = std::max(seen_, last);
  }

 private:
  const ic_block_table &table_;
  int32_t seq_ = -1;
  int32_t first_ = 0;
  int32_t seen_ = 0;
};

void check_alignment(const void *pointer, int64_t alignment, const char *name, const char *field) {
  if (reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(alignment) != 0)
    fail(IC_ERROR_MISALIGNED, "%s->%s is %p; it must be a multiple of %lld", name, field, pointer,
         static_cast<long long>(alignment));
}

/// Everything of a pool but its block table.
PoolView plain_view(const ic_pool &pool, const VectorLayout &layout, int32_t page_tokens, const char *name) {
  if (pool.capacity < 0)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s->capacity is %lld; allowed: at least 0", name,
         static_cast<long long>(pool.capacity));
  if (pool.data == nullptr && pool.capacity > 0) fail(IC_ERROR_NULL_POINTER, "%s->data is NULL", name);
  check_alignment(pool.data, layout.alignment, name, "data");
  const bool paged = page_tokens != 0;
  const int64_t dense = paged ? page_tokens * (layout.bytes + layout.page_extra) : layout.bytes;
  int64_t stride = pool.stride_bytes;
  if (stride == 0) stride = dense;
  if (stride < dense)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s->stride_bytes is %lld; allowed: 0 (dense) or at least %lld", name,
         static_cast<long long>(stride), static_cast<long long>(dense));
  if (stride % layout.alignment != 0)
    fail(IC_ERROR_MISALIGNED, "%s->stride_bytes is %lld; it must be a multiple of %lld", name,
         static_cast<long long>(stride), static_cast<long long>(layout.alignment));
  if (pool.capacity > INT64_MAX / stride)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: capacity %lld times stride_bytes %lld does not fit into 63 bits", name,
         static_cast<long long>(pool.capacity), static_cast<long long>(stride));
  const bool wants_scales = layout.scales && !paged;
  if (wants_scales && pool.scales == nullptr && pool.capacity > 0)
    fail(IC_ERROR_NULL_POINTER, "%s->scales is NULL; contiguous e4m3 keys have one scale each", name);
  if (!wants_scales && pool.scales != nullptr)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s->scales is given; only contiguous e4m3 index keys have it", name);
  check_alignment(pool.scales, 4, name, "scales");
  PoolView view{};
  view.data = static_cast<uint8_t *>(pool.data);
  view.scales = pool.scales;
  view.stride_bytes = stride;
  view.capacity = pool.capacity;
  view.page_tokens = page_tokens;
  return view;
}

void check_layout(const ic_pool &pool, const char *name) {
  if (pool.layout != IC_LAYOUT_CONTIGUOUS && pool.layout != IC_LAYOUT_PAGED)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s->layout is %d; allowed: IC_LAYOUT_CONTIGUOUS, IC_LAYOUT_PAGED", name,
         pool.layout);
}

}  // namespace

RowsView Batch::rows(RowRange part, uint32_t *fault) const noexcept {
  const auto from = [&](const int32_t *array) { return array == nullptr ? nullptr : array + part.begin; };
  RowsView view{};
  view.count = part.count;
  view.num_seqs = num_seqs;
  view.max_key_end = max_key_end;
  view.seq = from(row_seq);
  view.key_begin = from(key_begin);
  view.key_end = from(key_end);
  view.fault = fault;
  return view;
}

bool is_page_size(int32_t page_tokens) noexcept {
  return page_tokens == 1 || page_tokens == 16 || page_tokens == 32 || page_tokens == 64 || page_tokens == 128;
}

VectorLayout index_key_layout(int32_t head_dim, int32_t dtype) noexcept {
  const bool e4m3 = dtype == IC_DTYPE_E4M3;
  return {head_dim * dtype_bytes(dtype), e4m3 ? 4 : 0, e4m3 ? 4 : dtype_bytes(dtype), e4m3};
}

VectorLayout kv_layout(int32_t d_latent, int32_t d_rope, int32_t kv_dtype) noexcept {
  return {kv_token_bytes(d_latent, d_rope, kv_dtype), 0, kv_dtype == IC_DTYPE_E4M3 ? 4 : dtype_bytes(kv_dtype), false};
}

PoolView pool_view(const ic_pool &pool, const VectorLayout &layout, const Batch &batch, const char *name) {
  check_layout(pool, name);
  if (pool.layout == IC_LAYOUT_CONTIGUOUS) {
    PoolView view = plain_view(pool, layout, 0, name);
    view.key_offsets = batch.key_offsets;
    return view;
  }
  if (pool.block_table < 0 || pool.block_table >= batch.num_block_tables)
    fail(IC_ERROR_INVALID_ARGUMENT, "%s->block_table is %d; the batch has %d block tables", name, pool.block_table,
         batch.num_block_tables);
  const ic_block_table &table = batch.block_tables[static_cast<size_t>(pool.block_table)];
  PoolView view = plain_view(pool, layout, table.page_tokens, name);
  view.block_table = table.pages;
  view.block_table_stride = table.stride;
  view.num_blocks = table.num_blocks;
  return view;
}

PoolView slot_pool_view(const ic_pool &pool, const VectorLayout &layout, int32_t page_tokens, const char *name) {
  check_layout(pool, name);
  if (pool.layout == IC_LAYOUT_CONTIGUOUS && page_tokens != 0)
    fail(IC_ERROR_INVALID_ARGUMENT, "args->page_tokens is %d; a contiguous pool has none (0)", page_tokens);
  if (pool.layout == IC_LAYOUT_PAGED && !is_page_size(page_tokens))
    fail(IC_ERROR_INVALID_ARGUMENT, "args->page_tokens is %d; allowed: 1, 16, 32, 64, 128", page_tokens);
  return plain_view(pool, layout, page_tokens, name);
}

void check_batch_values(const Batch &batch) {
  for (int32_t row = 0; row < batch.num_rows; ++row) {
    const int32_t seq = seq_of(batch, row);
    if (seq < 0 || seq >= batch.num_seqs)
      fail(IC_ERROR_OUT_OF_RANGE, "row_seq[%d] is %d; allowed: 0 to %d", row, seq, batch.num_seqs - 1);
    if (begin_of(batch, row) < 0)
      fail(IC_ERROR_OUT_OF_RANGE, "key_begin[%d] is %d; allowed: at least 0", row, begin_of(batch, row));
    if (batch.key_end[row] > batch.max_key_end)
      fail(IC_ERROR_OUT_OF_RANGE, "key_end[%d] is %d; max_key_end of the batch is %d", row, batch.key_end[row],
           batch.max_key_end);
  }
  for (int32_t index = 0; index < batch.num_block_tables; ++index) {
    const ic_block_table &table = batch.block_tables[static_cast<size_t>(index)];
    BlockWalk walk(table);
    for (int32_t row = 0; row < batch.num_rows; ++row)
      walk.row(seq_of(batch, row), begin_of(batch, row), batch.key_end[row], [&](int32_t block, int32_t page) {
        if (page < -1)
          fail(IC_ERROR_OUT_OF_RANGE,
               "block_tables[%d]: sequence %d, block %d is page %d; allowed: -1 (absent) or a page number", index,
               seq_of(batch, row), block, page);
      });
  }
}

void check_pool_values(const Batch &batch, RowRange part, const PoolView &pool, const char *name) {
  if (pool.page_tokens == 0) {
    for (int32_t row = part.begin; row < part.begin + part.count; ++row) {
      const int32_t seq = seq_of(batch, row);
      const int32_t end = batch.key_end[row];
      if (seq < 0 || seq >= batch.num_seqs || end <= begin_of(batch, row) || end > batch.max_key_end) continue;
      const int64_t offset = pool.key_offsets == nullptr ? 0 : pool.key_offsets[seq];
      if (offset < 0 || offset > pool.capacity - end)
        fail(IC_ERROR_OUT_OF_RANGE,
             "row %d: keys up to %d of sequence %d start at vector %lld, but %s has %lld vectors", row, end, seq,
             static_cast<long long>(offset), name, static_cast<long long>(pool.capacity));
    }
    return;
  }
  const ic_block_table table{pool.block_table, pool.block_table_stride, pool.num_blocks, pool.page_tokens};
  BlockWalk walk(table);
  for (int32_t row = part.begin; row < part.begin + part.count; ++row) {
    const int32_t seq = seq_of(batch, row);
    if (seq < 0 || seq >= batch.num_seqs || batch.key_end[row] > batch.max_key_end) continue;
    walk.row(seq, std::max(begin_of(batch, row), 0), batch.key_end[row], [&](int32_t block, int32_t page) {
      if (page >= pool.capacity || page < -1)
        fail(IC_ERROR_OUT_OF_RANGE, "sequence %d, block %d is page %d; %s has %lld pages", seq, block, page, name,
             static_cast<long long>(pool.capacity));
    });
  }
}

void check_slot_values(const int64_t *slots, int64_t count, const PoolView &pool, const char *name) {
  const int64_t limit = pool.page_tokens == 0 ? pool.capacity : pool.capacity * pool.page_tokens;
  for (int64_t i = 0; i < count; ++i)
    if (slots[i] < -1 || slots[i] >= limit)
      fail(IC_ERROR_OUT_OF_RANGE, "slots[%lld] is %lld; allowed: -1 (skip) or 0 to %lld of %s",
           static_cast<long long>(i), static_cast<long long>(slots[i]), static_cast<long long>(limit - 1), name);
}

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// Indices leaving their place: remap, compact, export, import, overlap.
#include <cstddef>
#include <cstring>

#include "capi/guard.h"
#include "capi/validate.h"
#include "capi/views.h"
#include "core/cache.h"

namespace {

using namespace ic;

constexpr uint32_t kMagic = 0x58494349;

ic_export_header read_header(const void *buffer, size_t size) {
  if (size < sizeof(ic_export_header))
    fail(IC_ERROR_PARSE, "the block has %zu bytes; its header alone has %zu", size, sizeof(ic_export_header));
  ic_export_header header;
  std::memcpy(&header, buffer, sizeof header);
  if (header.magic != kMagic)
    fail(IC_ERROR_PARSE, "the block begins with 0x%08x; an exported block begins with 0x%08x", header.magic, kMagic);
  if (header.version != 1) fail(IC_ERROR_PARSE, "the block has version %u; this library reads 1", header.version);
  if ((header.flags & ~IC_EXPORT_SCORES) != 0 || (header.reserved[0] | header.reserved[1] | header.reserved[2]) != 0)
    fail(IC_ERROR_PARSE, "the block's header has flags 0x%x or reserved words that this library does not know",
         header.flags);
  if (header.num_rows < 0 || header.k < 1 || header.k > 4096 || header.source_layer < 0)
    fail(IC_ERROR_PARSE, "the block's header says %d rows, k %d, source_layer %d; no such block can be exported",
         header.num_rows, header.k, header.source_layer);
  return header;
}

/// The lists of a block in host memory: lengths, order, padding, and that every index is visible to its row.
void check_block(const Batch &batch, const ic_export_header &header, const uint8_t *body, bool host_visible) {
  for (int32_t row = 0; row < header.num_rows; ++row) {
    int32_t length;
    std::memcpy(&length, body + size_t{4} * static_cast<size_t>(row), sizeof length);
    if (length < 0 || length > header.k)
      fail(IC_ERROR_PARSE, "row %d of the block has length %d; allowed: 0 to %d", row, length, header.k);
    const uint8_t *list = body + size_t{4} * static_cast<size_t>(header.num_rows) +
                          size_t{4} * static_cast<size_t>(row) * static_cast<size_t>(header.k);
    int32_t last = -1;
    for (int32_t i = 0; i < header.k; ++i) {
      int32_t index;
      std::memcpy(&index, list + size_t{4} * static_cast<size_t>(i), sizeof index);
      if (i < length ? index <= last : index != -1)
        fail(IC_ERROR_PARSE, "row %d of the block: entry %d is %d; %d ascending indices and then -1 are expected", row,
             i, index, length);
      if (i < length) last = index;
    }
    if (!host_visible || length == 0) continue;
    int32_t first;
    std::memcpy(&first, list, sizeof first);
    const int32_t begin = batch.key_begin == nullptr ? 0 : batch.key_begin[row];
    if (first < begin || last >= batch.key_end[row])
      fail(IC_ERROR_OUT_OF_RANGE, "row %d of the block has indices %d to %d; the row sees keys %d to %d", row, first,
           last, begin, batch.key_end[row] - 1);
  }
}

}  // namespace

extern "C" ic_status ic_cache_remap(ic_cache *cache, const ic_remap_args *args, ic_index_view *out, ic_stream stream) {
  return guarded([&] {
    require_pointer(cache, "cache");
    ic_remap_args given = read_struct(args, "args");
    if (out != nullptr) require_output(out, "out");
    require_stream(cache->backend(), stream);
    require_zero(given.reserved, "args->reserved");
    cache->publications().require(given.source_layer);
    const Batch &batch = cache->batch();
    if (given.layout != IC_LAYOUT_CONTIGUOUS && given.layout != IC_LAYOUT_PAGED)
      fail(IC_ERROR_INVALID_ARGUMENT, "args->layout is %d; allowed: IC_LAYOUT_CONTIGUOUS, IC_LAYOUT_PAGED",
           given.layout);
    if (given.layout == IC_LAYOUT_PAGED && (given.block_table < 0 || given.block_table >= batch.num_block_tables))
      fail(IC_ERROR_INVALID_ARGUMENT, "args->block_table is %d; the batch has %d block tables", given.block_table,
           batch.num_block_tables);
    if (given.layout == IC_LAYOUT_CONTIGUOUS) require_range(given.block_table, 0, 0, "args->block_table (contiguous)");
    if (batch.num_rows > 0) {
      require_pointer(given.slots, "args->slots");
      require_pointer(given.lengths, "args->lengths");
    }
    require_aligned(given.slots, 4, "args->slots");
    require_aligned(given.lengths, 4, "args->lengths");
    given.row_stride = resolve_stride(given.row_stride, cache->topk().k_padded, "args->row_stride");
    cache->remap(given, stream);
    if (out == nullptr) return;
    ic_index_view view = cache->view(given.source_layer, {0, batch.num_rows});
    view.indices = given.slots;
    view.lengths = given.lengths;
    view.scores = nullptr;
    view.row_stride = given.row_stride;
    view.kind = IC_INDEX_SLOT;
    write_struct(out, view);
  });
}

extern "C" ic_status ic_cache_compact_workspace_size(const ic_cache *cache, int32_t max_rows, size_t *size) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_array(size, alignof(size_t), "size");
    require_range(max_rows, 0, cache->max_rows(), "max_rows");
    *size = cache->compact_workspace_size(max_rows);
  });
}

extern "C" ic_status ic_cache_compact(ic_cache *cache, const ic_compact_args *args, ic_stream stream) {
  return guarded([&] {
    require_pointer(cache, "cache");
    const ic_compact_args given = read_struct(args, "args");
    require_stream(cache->backend(), stream);
    require_zero(given.reserved, "args->reserved");
    const Publications &publications = cache->publications();
    const int32_t source_rows = publications.require_any_rows(given.source_layer);
    publications.require_publishable(given.publish_layer, "args->publish_layer");
    // A forgotten field must not publish under layer 0.
    if (given.publish_layer != given.source_layer && given.publish_layer < cache->schedule().num_layers())
      fail(IC_ERROR_INVALID_ARGUMENT, "args->publish_layer is %d; allowed: source_layer (%d) or an MTP layer",
           given.publish_layer, given.source_layer);
    if (given.num_rows != publications.rows())
      fail(IC_ERROR_INVALID_ARGUMENT, "args->num_rows is %d; the open batch has %d rows", given.num_rows,
           publications.rows());
    if (given.num_rows > 0) {
      require_array(given.rows, 4, "args->rows");
      require_workspace(given.workspace, given.workspace_size, cache->compact_workspace_size(given.num_rows),
                        "args->workspace");
    }
    if (cache->backend().host_visible())
      for (int32_t i = 0; i < given.num_rows; ++i)
        if (given.rows[i] < -1 || given.rows[i] >= source_rows)
          fail(IC_ERROR_OUT_OF_RANGE, "rows[%d] is %d; allowed: -1 (empty) or 0 to %d", i, given.rows[i],
               source_rows - 1);
    cache->compact({given.source_layer, given.publish_layer, given.rows, given.num_rows, given.workspace}, stream);
  });
}

extern "C" ic_status ic_cache_export_size(const ic_cache *cache, int32_t num_rows, uint32_t flags, size_t *size) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_array(size, alignof(size_t), "size");
    require_range(num_rows, 0, cache->max_rows(), "num_rows");
    require_flags(flags, IC_EXPORT_SCORES, "flags");
    *size = cache->export_size(num_rows, flags);
  });
}

extern "C" ic_status ic_cache_export(ic_cache *cache, int32_t source_layer, uint32_t flags, int32_t location,
                                     void *buffer, size_t size, ic_stream stream) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_stream(cache->backend(), stream);
    require_flags(flags, IC_EXPORT_SCORES, "flags");
    if (location != IC_MEMORY_HOST && location != IC_MEMORY_DEVICE)
      fail(IC_ERROR_INVALID_ARGUMENT, "location is %d; allowed: IC_MEMORY_HOST, IC_MEMORY_DEVICE", location);
    if ((flags & IC_EXPORT_SCORES) != 0 && !cache->keeps_scores())
      fail(IC_ERROR_INVALID_ARGUMENT, "flags has IC_EXPORT_SCORES; the cache was created without IC_CACHE_SCORES");
    cache->publications().require(source_layer);
    require_array(buffer, 8, "buffer");
    const size_t needed = cache->export_size(cache->publications().rows(), flags);
    if (size < needed) fail(IC_ERROR_BUFFER_TOO_SMALL, "buffer has %zu bytes; %zu are needed", size, needed);
    cache->backend().require_block(buffer, location, stream);
    cache->export_block(source_layer, flags, buffer, stream);
  });
}

extern "C" ic_status ic_cache_import(ic_cache *cache, int32_t publish_layer, uint32_t flags, const void *buffer,
                                     size_t size, ic_export_header *header, ic_stream stream) {
  return guarded([&] {
    require_pointer(cache, "cache");
    require_stream(cache->backend(), stream);
    require_flags(flags, IC_IMPORT_ANY_SCHEDULE | IC_IMPORT_SAME_NUMERICS, "flags");
    require_aligned(header, alignof(ic_export_header), "header");
    require_array(buffer, 8, "buffer");
    cache->backend().require_block(buffer, IC_MEMORY_HOST, stream);
    const ic_export_header given = read_header(buffer, size);
    if (given.schedule_hash != cache->schedule().hash() && (flags & IC_IMPORT_ANY_SCHEDULE) == 0)
      fail(IC_ERROR_SCHEDULE_HASH, "the block's schedule hash is 0x%016llx; the cache's is 0x%016llx",
           static_cast<unsigned long long>(given.schedule_hash),
           static_cast<unsigned long long>(cache->schedule().hash()));
    const uint64_t numerics = cache->numerics_id();
    if (given.numerics_id != numerics && (flags & IC_IMPORT_SAME_NUMERICS) != 0)
      fail(IC_ERROR_NUMERICS, "the block's numerics id is 0x%016llx; the cache's is 0x%016llx",
           static_cast<unsigned long long>(given.numerics_id), static_cast<unsigned long long>(numerics));
    const int32_t layer = publish_layer == -1 ? given.source_layer : publish_layer;
    cache->publications().require_publishable(layer, "publish_layer");
    if (given.k != cache->topk().k)
      fail(IC_ERROR_HANDLE_MISMATCH, "the block has k %d; the cache has k %d", given.k, cache->topk().k);
    if (given.num_rows != cache->publications().rows())
      fail(IC_ERROR_INVALID_ARGUMENT, "the block has %d rows; the open batch has %d", given.num_rows,
           cache->publications().rows());
    const bool scores = (given.flags & IC_EXPORT_SCORES) != 0;
    if (cache->keeps_scores() && !scores)
      fail(IC_ERROR_HANDLE_MISMATCH, "the block has no scores; the cache keeps them (IC_CACHE_SCORES)");
    const size_t needed = cache->export_size(given.num_rows, given.flags);
    if (size < needed)
      fail(IC_ERROR_PARSE, "the block has %zu bytes; %d rows of k %d need %zu", size, given.num_rows, given.k, needed);
    const auto *body = static_cast<const uint8_t *>(buffer) + sizeof given;
    check_block(cache->batch(), given, body, cache->backend().host_visible());
    cache->import_block(layer, given, body, stream);
    if (header != nullptr) *header = given;
  });
}

extern "C" ic_status ic_index_overlap(ic_context *context, const ic_index_view *a, const ic_index_view *b,
                                      const ic_overlap_args *out, ic_stream stream) {
  return guarded([&] {
    require_pointer(context, "context");
    require_stream(*context->backend, stream);
    const ic_index_view left = read_index_view(a, "a");
    const ic_index_view right = read_index_view(b, "b");
    const ic_overlap_args given = read_struct(out, "out", offsetof(ic_overlap_args, mass));
    if (left.num_rows != right.num_rows)
      fail(IC_ERROR_INVALID_ARGUMENT, "a has %d rows and b has %d; they must be equal", left.num_rows, right.num_rows);
    if (left.kind != IC_INDEX_LOGICAL || right.kind != IC_INDEX_LOGICAL)
      fail(IC_ERROR_INVALID_ARGUMENT, "%s holds slots; only logical indices can be compared",
           left.kind != IC_INDEX_LOGICAL ? "a" : "b");
    require_aligned(given.intersection, 4, "out->intersection");
    require_aligned(given.recall, 4, "out->recall");
    require_aligned(given.jaccard, 4, "out->jaccard");
    require_aligned(given.mass, 4, "out->mass");
    require_aligned(given.mass_recall, 4, "out->mass_recall");
    if (given.mass_recall != nullptr && given.mass == nullptr)
      fail(IC_ERROR_NULL_POINTER, "out->mass is NULL; out->mass_recall needs it");
    OverlapParams params{};
    params.a = left.indices;
    params.a_stride = left.row_stride;
    params.a_lengths = left.lengths;
    params.a_k = left.k;
    params.b_k = right.k;
    params.b = right.indices;
    params.b_stride = right.row_stride;
    params.b_lengths = right.lengths;
    params.count = left.num_rows;
    params.intersection = given.intersection;
    params.recall = given.recall;
    params.jaccard = given.jaccard;
    params.mass_recall = given.mass_recall;
    params.mass = given.mass;
    params.mass_stride = resolve_stride(given.mass_row_stride, left.k, "out->mass_row_stride");
    if (left.num_rows > 0) context->backend->overlap(params, stream);
  });
}

// SPDX-License-Identifier: Apache-2.0
// Device memory of an index cache and the operations on it.
#include "core/cache.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/failure.h"

namespace ic {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kRemapMemory = 32;  // remaps of one step that are remembered; one more is simply run again

constexpr size_t aligned(size_t bytes) noexcept { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

SlotLayout::SlotLayout(int32_t max_rows, int32_t k_padded, bool scores, bool stamps) noexcept {
  const auto rows = static_cast<size_t>(max_rows);
  const size_t matrix = aligned(rows * static_cast<size_t>(k_padded) * 4);
  lengths_offset = matrix;
  bytes = matrix + aligned(rows * sizeof(int32_t));
  scores_offset = scores ? bytes : 0;
  bytes += scores ? matrix : 0;
  stamps_offset = stamps ? bytes : 0;
  bytes += stamps ? aligned(rows * sizeof(uint64_t)) : 0;
}

SlotLayout::Arrays SlotLayout::at(void *base) const noexcept {
  auto *bytes_at = static_cast<uint8_t *>(base);
  return {reinterpret_cast<int32_t *>(bytes_at), reinterpret_cast<int32_t *>(bytes_at + lengths_offset),
          scores_offset == 0 ? nullptr : reinterpret_cast<float *>(bytes_at + scores_offset),
          stamps_offset == 0 ? nullptr : reinterpret_cast<uint64_t *>(bytes_at + stamps_offset)};
}

}  // namespace ic

using ic::fail;

ic_cache::ic_cache(ic_context *context, const ic_cache_desc &desc)
    : context_(context),
      schedule_(const_cast<ic_schedule *>(desc.schedule)),
      indexer_(const_cast<ic_indexer *>(desc.indexer)),
      topk_(const_cast<ic_topk *>(desc.topk)),
      attention_(const_cast<ic_attention *>(desc.attention)),
      max_rows_(desc.max_rows),
      layout_{ic::SlotLayout(desc.max_rows, desc.topk->k_padded, (desc.flags & IC_CACHE_SCORES) != 0,
                             desc.epoch != nullptr),
              desc.num_slots},
      epoch_(desc.epoch),
      publications_(desc.schedule->schedule, desc.max_rows, desc.num_slots),
      remapped_(ic::kRemapMemory),
      memory_(desc.memory),
      owns_memory_(desc.memory == nullptr) {
  if (owns_memory_) memory_ = backend().allocate(layout_.bytes());
  if (memory_ == nullptr)
    fail(IC_ERROR_OUT_OF_MEMORY, "%zu bytes of device memory for a cache could not be allocated", layout_.bytes());
  try {
    if (reinterpret_cast<uintptr_t>(memory_) % ic::kAlignment != 0)
      fail(IC_ERROR_MISALIGNED, "the context's desc->alloc returned %p; it must be a multiple of %zu", memory_,
           ic::kAlignment);
    backend().clear(memory_, layout_.bytes());
  } catch (...) {
    if (owns_memory_) backend().release(memory_, layout_.bytes());
    throw;
  }
}

ic_cache::~ic_cache() {
  if (owns_memory_) backend().release(memory_, layout_.bytes());
}

ic::SlotLayout::Arrays ic_cache::slot(int32_t index) const noexcept {
  return layout_.slot.at(static_cast<uint8_t *>(memory_) + ic::CacheLayout::kFaultBytes +
                         static_cast<size_t>(index) * layout_.slot.bytes);
}

void ic_cache::begin(const ic::Batch &batch) {
  batch_ = batch;
  publications_.begin(batch.num_rows, batch.capture_id, batch.keep);
}

void ic_cache::reset() noexcept {
  batch_ = ic::Batch{};
  publications_.reset();
}

size_t ic_cache::forward_workspace_size(int32_t max_rows, int32_t max_key_end) const {
  const ic::ScoreLimits score{max_rows,           max_key_end,     indexer_->num_heads,
                              indexer_->head_dim, indexer_->dtype, topk_->k};
  size_t size = backend().score_select_workspace_size(score);
  if (attention() != nullptr) {
    const ic::AttendLimits attend{max_rows,           attention_->num_heads, attention_->d_latent,
                                  attention_->d_rope, attention_->kv_dtype,  topk_->k};
    const size_t lengths = epoch_ == nullptr ? 0 : ic::aligned(static_cast<size_t>(max_rows) * sizeof(int32_t));
    size = std::max(size, lengths + backend().attend_workspace_size(attend));
  }
  return size;
}

size_t ic_cache::compact_workspace_size(int32_t max_rows) const {
  return ic::SlotLayout(max_rows, topk_->k_padded, keeps_scores(), false).bytes;
}

void ic_cache::share(const ic::Publications::Plan &plan, int32_t mode) {
  publications_.require(plan.source);
  publications_.note_shared(plan.layer, mode);
}

void ic_cache::forward(const ic::ForwardRequest &request, ic::Stream stream) {
  const auto &plan = request.plan;
  if (plan.full)
    publications_.require_uncovered(plan, request.part);
  else
    publications_.require(plan.source);

  if (request.new_keys) backend().write_keys(*request.new_keys, stream);
  if (plan.full) {
    const auto to = slot(plan.slot);
    const int64_t first = int64_t{request.part.begin} * topk_->k_padded;
    publications_.open_part(plan, request.mode);
    ic::ScoreSelectParams params{};
    params.rows = batch_.rows(request.part, fault());
    params.query = request.queries;
    params.keys = request.keys;
    params.out = {to.indices + first,
                  to.lengths + request.part.begin,
                  to.scores == nullptr ? nullptr : to.scores + first,
                  topk_->k_padded,
                  topk_->k,
                  topk_->k_padded,
                  topk_->order,
                  0};
    params.workspace = request.workspace;
    params.workspace_size = request.workspace_size;
    if (request.part.count > 0) {
      backend().score_select(params, stream);
      if (epoch_ != nullptr)
        backend().stamp({to.stamps + request.part.begin, epoch_, plan.layer, request.part.count}, stream);
    }
    publications_.close_part(plan, request.part);
  } else {
    publications_.note_shared(plan.layer, request.mode);
  }
  if (request.attention && request.part.count > 0) attend(request, *request.attention, stream);
}

void ic_cache::attend(const ic::ForwardRequest &request, ic::AttendParams params, ic::Stream stream) {
  const auto from = slot(request.plan.slot);
  params.rows = batch_.rows(request.part, fault());
  params.indices = from.indices + int64_t{request.part.begin} * topk_->k_padded;
  params.index_stride = topk_->k_padded;
  params.lengths = from.lengths + request.part.begin;
  params.num_indices = topk_->k;
  params.workspace = request.workspace;
  params.workspace_size = request.workspace_size;
  if (epoch_ != nullptr) {
    const size_t used = ic::aligned(static_cast<size_t>(request.part.count) * sizeof(int32_t));
    auto *checked = static_cast<int32_t *>(request.workspace);
    backend().check_stamps({params.lengths, from.stamps + request.part.begin, epoch_, request.plan.source,
                            request.part.count, checked, fault()},
                           stream);
    params.lengths = checked;
    params.workspace = static_cast<uint8_t *>(request.workspace) + used;
    params.workspace_size -= used;
  }
  backend().attend(params, stream);
}

void ic_cache::compact(const ic::CompactRequest &request, ic::Stream stream) {
  const int32_t source_rows = publications_.require_any_rows(request.source_layer);
  publications_.require_publishable(request.publish_layer, "publish_layer");
  if (request.num_rows == 0) {
    publications_.unpublish(request.publish_layer);
    publications_.publish(request.publish_layer);
    return;
  }
  const auto from = slot(publications_.slot_of(request.source_layer));
  // The result usually replaces its own source, and rows may go anywhere: collect them beside, then copy.
  const auto collected = ic::SlotLayout(request.num_rows, topk_->k_padded, keeps_scores(), false).at(request.workspace);
  const int32_t width = topk_->k_padded;
  ic::GatherRowsParams gather{};
  gather.rows = request.rows;
  gather.count = request.num_rows;
  gather.source_rows = source_rows;
  gather.width = width;
  gather.padded_width = width;
  gather.indices = from.indices;
  gather.index_stride = width;
  gather.lengths = from.lengths;
  gather.scores = from.scores;
  gather.out_indices = collected.indices;
  gather.out_stride = width;
  gather.out_lengths = collected.lengths;
  gather.out_scores = collected.scores;
  gather.fault = fault();
  backend().gather_rows(gather, stream);

  gather.rows = nullptr;
  gather.source_rows = request.num_rows;
  gather.indices = collected.indices;
  gather.lengths = collected.lengths;
  gather.scores = collected.scores;
  const auto to = slot(publications_.slot_of(request.publish_layer));
  gather.out_indices = to.indices;
  gather.out_lengths = to.lengths;
  gather.out_scores = from.scores == nullptr ? nullptr : to.scores;
  publications_.unpublish(request.publish_layer);
  backend().gather_rows(gather, stream);
  restamp(request.publish_layer, request.num_rows, stream);
  publications_.publish(request.publish_layer);
}

void ic_cache::remap(const ic_remap_args &args, ic::Stream stream) {
  publications_.require(args.source_layer);
  const int32_t index = publications_.slot_of(args.source_layer);
  const Remapped wanted{args.slots,
                        args.lengths,
                        args.layout,
                        args.block_table,
                        args.row_stride,
                        publications_.serial(index),
                        publications_.generation()};
  const auto same = [&](const Remapped &had) {
    return had.slots == wanted.slots && had.lengths == wanted.lengths && had.layout == wanted.layout &&
           had.block_table == wanted.block_table && had.row_stride == wanted.row_stride &&
           had.serial == wanted.serial && had.generation == wanted.generation;
  };
  // With an epoch the check of every row must be made anew: the caller may have moved on.
  if (epoch_ == nullptr && std::any_of(remapped_.begin(), remapped_.end(), same)) return;
  // Whatever these arrays held before is gone, also when the operation fails.
  for (Remapped &had : remapped_)
    if (had.slots == wanted.slots || had.lengths == wanted.lengths) had = Remapped{};

  const auto from = slot(index);
  const int32_t rows = publications_.rows();
  if (rows > 0) {
    ic::RemapParams params{};
    params.rows = batch_.rows({0, rows}, fault());
    params.indices = from.indices;
    params.index_stride = topk_->k_padded;
    params.lengths = from.lengths;
    params.k_padded = topk_->k_padded;
    if (args.layout == IC_LAYOUT_PAGED) {
      const ic_block_table &table = batch_.block_tables[static_cast<size_t>(args.block_table)];
      params.page_tokens = table.page_tokens;
      params.block_table = table.pages;
      params.block_table_stride = table.stride;
      params.num_blocks = table.num_blocks;
    } else {
      params.key_offsets = batch_.key_offsets;
    }
    params.slots = args.slots;
    params.slot_stride = args.row_stride;
    params.out_lengths = args.lengths;
    if (epoch_ != nullptr) {
      backend().check_stamps({from.lengths, from.stamps, epoch_, args.source_layer, rows, args.lengths, fault()},
                             stream);
      params.lengths = args.lengths;
    }
    backend().remap(params, stream);
  }
  remapped_[next_remapped_] = wanted;
  next_remapped_ = (next_remapped_ + 1) % remapped_.size();
}

size_t ic_cache::export_size(int32_t num_rows, uint32_t flags) const noexcept {
  const auto rows = static_cast<size_t>(num_rows);
  const size_t matrix = rows * static_cast<size_t>(topk_->k) * 4;
  return sizeof(ic_export_header) + rows * sizeof(int32_t) + matrix * ((flags & IC_EXPORT_SCORES) != 0 ? 2 : 1);
}

void ic_cache::export_block(int32_t source_layer, uint32_t flags, void *buffer, ic::Stream stream) {
  const auto from = slot(publications_.slot_of(source_layer));
  const int32_t rows = publications_.rows();
  ic_export_header header{};
  header.magic = 0x58494349;
  header.version = 1;
  header.schedule_hash = schedule().hash();
  header.numerics_id = numerics_id();
  header.source_layer = source_layer;
  header.num_rows = rows;
  header.k = topk_->k;
  header.flags = flags;
  ic::ExportParams params{};
  static_assert(sizeof params.header == sizeof header);
  std::memcpy(params.header, &header, sizeof header);
  params.indices = from.indices;
  params.index_stride = topk_->k_padded;
  params.lengths = from.lengths;
  params.scores = (flags & IC_EXPORT_SCORES) != 0 ? from.scores : nullptr;
  params.count = rows;
  params.k = topk_->k;
  params.block = buffer;
  backend().export_rows(params, stream);
}

void ic_cache::import_block(int32_t publish_layer, const ic_export_header &header, const void *body,
                            ic::Stream stream) {
  const auto to = slot(publications_.slot_of(publish_layer));
  ic::ImportParams params{};
  params.rows = batch_.rows({0, header.num_rows}, fault());
  params.body = body;
  params.k = header.k;
  params.k_padded = topk_->k_padded;
  params.indices = to.indices;
  params.lengths = to.lengths;
  params.scores = to.scores;
  publications_.unpublish(publish_layer);
  if (header.num_rows > 0) {
    backend().import_rows(params, stream);
    restamp(publish_layer, header.num_rows, stream);
  }
  publications_.publish(publish_layer);
}

/// The layer vouches for its rows now.
void ic_cache::restamp(int32_t publish_layer, int32_t rows, ic::Stream stream) {
  if (epoch_ == nullptr) return;
  backend().stamp({slot(publications_.slot_of(publish_layer)).stamps, epoch_, publish_layer, rows}, stream);
}

ic_index_view ic_cache::view(int32_t source_layer, ic::RowRange part) const noexcept {
  const auto from = slot(publications_.slot_of(source_layer));
  const int64_t first = int64_t{part.begin} * topk_->k_padded;
  ic_index_view view{};
  view.struct_size = sizeof view;
  view.indices = from.indices + first;
  view.lengths = from.lengths + part.begin;
  view.scores = from.scores == nullptr ? nullptr : from.scores + first;
  view.row_stride = topk_->k_padded;
  view.num_rows = part.count;
  view.k = topk_->k;
  view.kind = IC_INDEX_LOGICAL;
  view.source_layer = source_layer;
  view.generation = publications_.generation();
  view.numerics_id = numerics_id();
  return view;
}

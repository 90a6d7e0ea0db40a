// SPDX-License-Identifier: Apache-2.0
// The index cache: its device memory, its publications, and the operations that move indices. Arguments are checked by
// the caller (lib/capi); what depends on the cache's state is checked here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/batch.h"
#include "core/operators.h"
#include "core/publications.h"
#include "core/ref.h"
#include "core/schedule_handle.h"
#include "indexcache.h"

namespace ic {

/// The arrays of one publication, one behind the other.
struct SlotLayout {
  SlotLayout(int32_t max_rows, int32_t k_padded, bool scores, bool stamps) noexcept;

  struct Arrays {
    int32_t *indices;  // [max_rows, k_padded]
    int32_t *lengths;  // [max_rows]
    float *scores;     // [max_rows, k_padded]; null = not kept
    uint64_t *stamps;  // [max_rows]; null = no epoch
  };
  Arrays at(void *base) const noexcept;

  size_t lengths_offset;
  size_t scores_offset;  // 0 = none
  size_t stamps_offset;  // 0 = none
  size_t bytes;
};

/// The memory of a cache: a fault word, then its slots.
struct CacheLayout {
  static constexpr size_t kFaultBytes = 256;
  SlotLayout slot;
  int32_t num_slots;
  size_t bytes() const noexcept { return kFaultBytes + static_cast<size_t>(num_slots) * slot.bytes; }
};

/// One part of one layer, checked.
struct ForwardRequest {
  Publications::Plan plan;
  int32_t mode = 0;  // as the caller gave it
  RowRange part{};
  std::optional<WriteKeysParams> new_keys;
  QueryView queries{};                    // Full
  PoolView keys{};                        // Full
  std::optional<AttendParams> attention;  // indices, lengths and workspace are filled in by the cache
  void *workspace = nullptr;
  size_t workspace_size = 0;
};

/// One call of compact, checked.
struct CompactRequest {
  int32_t source_layer;
  int32_t publish_layer;
  const int32_t *rows;
  int32_t num_rows;
  void *workspace;
};

}  // namespace ic

struct ic_cache final : ic::RefCounted {
 public:
  ic_cache(ic_context *context, const ic_cache_desc &desc);
  ~ic_cache();

  void begin(const ic::Batch &batch);
  void reset() noexcept;

  const ic_indexer &indexer() const noexcept { return *indexer_; }
  const ic_topk &topk() const noexcept { return *topk_; }
  const ic_attention *attention() const noexcept { return attention_.get(); }
  ic::Backend &backend() const noexcept { return *context_->backend; }
  /// Of the scores that the cache's selections are made from.
  uint64_t numerics_id() const noexcept {
    return backend().numerics_id(indexer_->num_heads, indexer_->head_dim, indexer_->dtype);
  }
  const ic::Schedule &schedule() const noexcept { return schedule_->schedule; }
  const ic::Batch &batch() const noexcept { return batch_; }
  const ic::Publications &publications() const noexcept { return publications_; }
  int32_t max_rows() const noexcept { return max_rows_; }
  int32_t num_slots() const noexcept { return layout_.num_slots; }
  bool keeps_scores() const noexcept { return layout_.slot.scores_offset != 0; }
  uint32_t *fault() const noexcept { return static_cast<uint32_t *>(memory_); }

  size_t forward_workspace_size(int32_t max_rows, int32_t max_key_end) const;
  size_t compact_workspace_size(int32_t max_rows) const;

  void forward(const ic::ForwardRequest &request, ic::Stream stream);
  /// A Shared layer without new keys and attention: finds its source, does no device work.
  void share(const ic::Publications::Plan &plan, int32_t mode);
  void compact(const ic::CompactRequest &request, ic::Stream stream);
  /// Does nothing when the same arrays hold the same publication's slots already.
  void remap(const ic_remap_args &args, ic::Stream stream);
  void export_block(int32_t source_layer, uint32_t flags, void *buffer, ic::Stream stream);
  void import_block(int32_t publish_layer, const ic_export_header &header, const void *body, ic::Stream stream);

  size_t export_size(int32_t num_rows, uint32_t flags) const noexcept;
  /// View of a part of a source's publication, which the caller has required.
  ic_index_view view(int32_t source_layer, ic::RowRange part) const noexcept;

 private:
  struct Remapped {  // what an array of slots holds
    int32_t *slots = nullptr;
    int32_t *lengths = nullptr;
    int32_t layout = 0;
    int32_t block_table = 0;
    int64_t row_stride = 0;
    uint64_t serial = 0;
    uint64_t generation = 0;
  };
  ic::SlotLayout::Arrays slot(int32_t index) const noexcept;
  void attend(const ic::ForwardRequest &request, ic::AttendParams params, ic::Stream stream);
  void restamp(int32_t publish_layer, int32_t rows, ic::Stream stream);

  const ic::Ref<ic_context> context_;
  const ic::Ref<ic_schedule> schedule_;
  const ic::Ref<ic_indexer> indexer_;
  const ic::Ref<ic_topk> topk_;
  const ic::Ref<ic_attention> attention_;
  const int32_t max_rows_;
  const ic::CacheLayout layout_;
  const uint32_t *const epoch_;
  ic::Publications publications_;
  ic::Batch batch_;
  std::vector<Remapped> remapped_;  // a ring, as long as a step has different remaps
  size_t next_remapped_ = 0;
  void *memory_;
  bool owns_memory_;
};

// SPDX-License-Identifier: Apache-2.0
// The resolved schedule: mode and source of every layer, and the maps between the numberings of layers. Immutable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/schedule_layers.h"
#include "core/schedule_request.h"

namespace ic {

class Schedule {
 public:
  /// What resolving leaves behind; consistent by construction, see resolve_schedule().
  struct Parts {
    int32_t num_layers = 0;
    int32_t num_mtp_layers = 0;
    std::vector<bool> sparse;       // [num_layers + num_mtp_layers]
    std::vector<bool> has_indexer;  // [num_layers + num_mtp_layers]: its weights exist
    std::string pattern;            // one letter per sparse layer of the stack; starts with F
    ModelFamily family;
    bool mtp_can_share = false;
    std::string architecture;            // where the knowledge of weights came from, for explain()
    std::string override;                // where the pattern came from, for explain()
    std::vector<std::string> conflicts;  // fields that disagreed, one sentence each
    std::vector<std::string> warnings;
  };

  explicit Schedule(Parts parts);

  int32_t num_layers() const noexcept { return parts_.num_layers; }
  int32_t num_mtp_layers() const noexcept { return parts_.num_mtp_layers; }
  int32_t num_all_layers() const noexcept { return parts_.num_layers + parts_.num_mtp_layers; }
  bool is_mtp(GlobalLayer layer) const noexcept { return raw(layer) >= parts_.num_layers; }
  bool contains(int32_t layer) const noexcept { return layer >= 0 && layer < num_all_layers(); }

  /// Full layers of the stack; MTP layers are not counted.
  int32_t num_full() const noexcept { return num_full_; }
  int32_t num_shared() const noexcept { return num_shared_; }
  int32_t num_indexers() const noexcept { return static_cast<int32_t>(indexer_layers_.size()); }
  int32_t num_key_slots() const noexcept { return static_cast<int32_t>(key_layers_.size()); }
  bool mtp_can_share() const noexcept { return parts_.mtp_can_share; }
  const ModelFamily &family() const noexcept { return parts_.family; }

  // All that follow take a layer that contains() accepts.
  LayerMode mode(GlobalLayer layer) const noexcept { return at(layer).mode; }
  /// Full: the layer itself. Shared: the nearest preceding Full layer. None: nullopt.
  std::optional<GlobalLayer> source(GlobalLayer layer) const noexcept;
  /// Shared layers that read a Full layer, ascending; empty for others.
  std::span<const GlobalLayer> consumers(GlobalLayer layer) const noexcept;
  bool has_indexer(GlobalLayer layer) const noexcept { return at(layer).indexer_ordinal >= 0; }
  /// Rank of the layer's source among Full layers, MTP layers last: the layers of one group share indices.
  std::optional<int32_t> group(GlobalLayer layer) const noexcept;
  /// Cache slot that a Full layer writes and its consumers read. Reuse never reaches past the next Full layer, so any
  /// num_slots >= 1 keeps a publication until its last consumer.
  std::optional<int32_t> cache_slot(GlobalLayer layer, int32_t num_slots) const noexcept;

  std::optional<PatternPosition> pattern_position(GlobalLayer layer) const noexcept;
  std::optional<IndexerOrdinal> indexer_ordinal(GlobalLayer layer) const noexcept;
  std::optional<KeySlot> key_slot(GlobalLayer layer) const noexcept;
  GlobalLayer layer_at(PatternPosition position) const { return pattern_layers_.at(static_cast<size_t>(position)); }
  GlobalLayer layer_at(IndexerOrdinal ordinal) const { return indexer_layers_.at(static_cast<size_t>(ordinal)); }
  GlobalLayer layer_at(KeySlot slot) const { return key_layers_.at(static_cast<size_t>(slot)); }

  /// The source whose indices must cross a pipeline cut in front of first_layer (0 ... num_all_layers). nullopt: none.
  std::optional<GlobalLayer> carry(GlobalLayer first_layer) const noexcept;

  std::string_view pattern() const noexcept { return parts_.pattern; }
  uint64_t hash() const noexcept { return hash_; }
  std::string explain() const;

 private:
  struct Layer {
    LayerMode mode = LayerMode::kNone;
    int32_t source = -1;
    int32_t pattern_position = -1;
    int32_t indexer_ordinal = -1;
    int32_t key_slot = -1;
    int32_t first_consumer = 0;  // into consumers_
    int32_t num_consumers = 0;
  };
  const Layer &at(GlobalLayer layer) const noexcept { return layers_[static_cast<size_t>(layer)]; }

  Parts parts_;
  std::vector<Layer> layers_;  // [num_all_layers]
  std::vector<GlobalLayer> consumers_;
  std::vector<GlobalLayer> pattern_layers_;
  std::vector<GlobalLayer> indexer_layers_;
  std::vector<GlobalLayer> key_layers_;
  int32_t num_full_ = 0;
  int32_t num_shared_ = 0;
  uint64_t hash_ = 0;
};

/// Compares the inputs, refuses what disagrees or cannot run, and resolves the rest.
Schedule resolve_schedule(const ScheduleRequest &request);

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// Builds the maps of a schedule once; every query afterwards is a look-up.
#include "core/schedule.h"

#include <utility>

#include "core/sha256.h"

namespace ic {
namespace {

template <class Domain>
std::optional<Domain> some(int32_t value) noexcept {
  if (value < 0) return std::nullopt;
  return static_cast<Domain>(value);
}

}  // namespace

Schedule::Schedule(Parts parts)
    : parts_(std::move(parts)), layers_(static_cast<size_t>(num_all_layers())), hash_(sha256_first_8(parts_.pattern)) {
  consumers_.reserve(layers_.size());
  int32_t source = -1;
  for (int32_t i = 0; i < num_all_layers(); ++i) {
    const size_t index = static_cast<size_t>(i);
    if (!parts_.sparse[index]) continue;
    Layer &layer = layers_[index];
    const GlobalLayer id{i};
    bool full = true;  // an MTP layer computes at draft step 0
    if (!is_mtp(id)) {
      full = parts_.pattern[pattern_layers_.size()] == 'F';
      layer.pattern_position = static_cast<int32_t>(pattern_layers_.size());
      pattern_layers_.push_back(id);
      ++(full ? num_full_ : num_shared_);
    }
    layer.mode = full ? LayerMode::kFull : LayerMode::kShared;
    if (parts_.has_indexer[index]) {
      layer.indexer_ordinal = static_cast<int32_t>(indexer_layers_.size());
      indexer_layers_.push_back(id);
    }
    if (full) {
      layer.key_slot = static_cast<int32_t>(key_layers_.size());
      key_layers_.push_back(id);
      layer.first_consumer = static_cast<int32_t>(consumers_.size());
      source = i;
    } else {
      // Consumers of one source are consecutive: reuse ends at the next Full layer.
      consumers_.push_back(id);
      ++layers_[static_cast<size_t>(source)].num_consumers;
    }
    layer.source = source;
  }
}

std::optional<GlobalLayer> Schedule::source(GlobalLayer layer) const noexcept {
  return some<GlobalLayer>(at(layer).source);
}

std::span<const GlobalLayer> Schedule::consumers(GlobalLayer layer) const noexcept {
  const Layer &l = at(layer);
  return std::span(consumers_).subspan(static_cast<size_t>(l.first_consumer), static_cast<size_t>(l.num_consumers));
}

std::optional<int32_t> Schedule::group(GlobalLayer layer) const noexcept {
  const std::optional<GlobalLayer> from = source(layer);
  if (!from) return std::nullopt;
  return at(*from).key_slot;
}

std::optional<int32_t> Schedule::cache_slot(GlobalLayer layer, int32_t num_slots) const noexcept {
  const std::optional<int32_t> rank = group(layer);
  if (!rank) return std::nullopt;
  return *rank % num_slots;
}

std::optional<PatternPosition> Schedule::pattern_position(GlobalLayer layer) const noexcept {
  return some<PatternPosition>(at(layer).pattern_position);
}

std::optional<IndexerOrdinal> Schedule::indexer_ordinal(GlobalLayer layer) const noexcept {
  return some<IndexerOrdinal>(at(layer).indexer_ordinal);
}

std::optional<KeySlot> Schedule::key_slot(GlobalLayer layer) const noexcept {
  return some<KeySlot>(at(layer).key_slot);
}

std::optional<GlobalLayer> Schedule::carry(GlobalLayer first_layer) const noexcept {
  // Only the first sparse layer behind the cut matters: if it is Full, all behind it read it or something later.
  for (int32_t i = raw(first_layer); i < num_all_layers(); ++i) {
    const GlobalLayer layer{i};
    if (mode(layer) == LayerMode::kNone) continue;
    if (mode(layer) == LayerMode::kFull || raw(*source(layer)) >= raw(first_layer)) return std::nullopt;
    return source(layer);
  }
  return std::nullopt;
}

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// The numberings that a layer has, each its own type: engines broke by mixing them, so one never converts into another
// except through a map of Schedule or StageMap.
#pragma once

#include <cstdint>
#include <type_traits>

#include "indexcache.h"

namespace ic {

/// Layer of the model, 0-based; MTP layers follow the stack: num_layers, num_layers + 1, ...
enum class GlobalLayer : int32_t {};
/// Place in the F/S string: rank among the layers of the stack that have sparse attention.
enum class PatternPosition : int32_t {};
/// Rank among the layers whose indexer has weights, MTP layers last.
enum class IndexerOrdinal : int32_t {};
/// Layer counted from the first layer of its pipeline stage.
enum class StageLayer : int32_t {};
/// Place in an index-K cache that holds Full layers only, MTP layers last.
enum class KeySlot : int32_t {};

/// The number behind a layer of any domain, for arithmetic, messages and the C boundary.
template <class Domain>
constexpr int32_t raw(Domain layer) noexcept {
  static_assert(std::is_enum_v<Domain> && std::is_same_v<std::underlying_type_t<Domain>, int32_t>);
  return static_cast<int32_t>(layer);
}

enum class LayerMode : int32_t {
  kNone = IC_LAYER_NONE,      // no sparse attention with an indexer: sliding window, heavily compressed, ...
  kFull = IC_LAYER_FULL,      // runs its indexer and publishes indices
  kShared = IC_LAYER_SHARED,  // reads the indices of its source
};

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// A schedule cut into pipeline stages: which indices cross each cut, and each stage's own numbering.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/schedule.h"

namespace ic {

/// One pipeline stage: the layers [begin, end).
struct Stage {
  GlobalLayer begin{};
  GlobalLayer end{};
  std::optional<GlobalLayer> carry_in;   // indices of this source come from the stage before
  std::optional<GlobalLayer> carry_out;  // and of this one go to the stage behind
  int32_t first_key_slot = 0;            // key slots of the whole model that lie in this stage
  int32_t num_key_slots = 0;
  bool passes_on = false;  // carry_out is carry_in: the stage must forward what it may only have read
};

class StageMap {
 public:
  /// first_layers: the first layer of every stage, ascending, beginning with 0. MTP layers belong to the last stage.
  /// The schedule must outlive the map.
  StageMap(const Schedule &schedule, std::span<const int32_t> first_layers);

  const std::vector<Stage> &stages() const noexcept { return stages_; }
  /// Index of the stage that owns a layer that the schedule contains.
  int32_t stage_of(GlobalLayer layer) const noexcept;
  StageLayer to_stage(GlobalLayer layer) const noexcept;
  GlobalLayer to_global(int32_t stage, StageLayer layer) const noexcept;
  /// Key slot counted inside the stage that owns the layer; nullopt for a layer that is not Full.
  std::optional<KeySlot> stage_key_slot(GlobalLayer layer) const noexcept;

 private:
  const Schedule *schedule_;
  std::vector<Stage> stages_;
};

}  // namespace ic

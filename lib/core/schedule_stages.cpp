// SPDX-License-Identifier: Apache-2.0
// Pipeline cuts.
#include "core/schedule_stages.h"

#include "core/failure.h"

namespace ic {

StageMap::StageMap(const Schedule &schedule, std::span<const int32_t> first_layers) : schedule_(&schedule) {
  if (first_layers.empty() || first_layers[0] != 0) {
    fail(IC_ERROR_INVALID_ARGUMENT, "first_layers[0] is %d; allowed: 0", first_layers.empty() ? -1 : first_layers[0]);
  }
  for (size_t i = 1; i < first_layers.size(); ++i) {
    if (first_layers[i] <= first_layers[i - 1] || first_layers[i] >= schedule.num_layers()) {
      fail(IC_ERROR_INVALID_ARGUMENT, "first_layers[%zu] is %d; allowed: %d to %d", i, first_layers[i],
           first_layers[i - 1] + 1, schedule.num_layers() - 1);
    }
  }
  stages_.resize(first_layers.size());
  int32_t next_key_slot = 0;
  for (size_t i = 0; i < stages_.size(); ++i) {
    Stage &stage = stages_[i];
    stage.begin = GlobalLayer{first_layers[i]};
    stage.end = GlobalLayer{i + 1 < stages_.size() ? first_layers[i + 1] : schedule.num_all_layers()};
    stage.carry_in = schedule.carry(stage.begin);
    stage.carry_out = schedule.carry(stage.end);
    stage.passes_on = stage.carry_in.has_value() && stage.carry_in == stage.carry_out;
    stage.first_key_slot = next_key_slot;
    for (int32_t layer = raw(stage.begin); layer < raw(stage.end); ++layer) {
      stage.num_key_slots += schedule.key_slot(GlobalLayer{layer}).has_value();
    }
    next_key_slot += stage.num_key_slots;
  }
}

int32_t StageMap::stage_of(GlobalLayer layer) const noexcept {
  size_t stage = stages_.size() - 1;
  while (layer < stages_[stage].begin) --stage;
  return static_cast<int32_t>(stage);
}

StageLayer StageMap::to_stage(GlobalLayer layer) const noexcept {
  return StageLayer{raw(layer) - raw(stages_[static_cast<size_t>(stage_of(layer))].begin)};
}

GlobalLayer StageMap::to_global(int32_t stage, StageLayer layer) const noexcept {
  return GlobalLayer{raw(stages_[static_cast<size_t>(stage)].begin) + raw(layer)};
}

std::optional<KeySlot> StageMap::stage_key_slot(GlobalLayer layer) const noexcept {
  const std::optional<KeySlot> slot = schedule_->key_slot(layer);
  if (!slot) return std::nullopt;
  return KeySlot{raw(*slot) - stages_[static_cast<size_t>(stage_of(layer))].first_key_slot};
}

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// ic_schedule: arguments in, queries out.
#include <string>

#include "capi/guard.h"
#include "capi/validate.h"
#include "core/schedule_export.h"
#include "core/schedule_handle.h"

namespace {

using ic::GlobalLayer;

/// A layer that the schedule has, stack or MTP.
GlobalLayer require_layer(const ic::Schedule &schedule, int32_t layer) {
  ic::require_range(layer, 0, schedule.num_all_layers() - 1, "layer");
  return GlobalLayer{layer};
}

template <class Domain>
int32_t or_none(std::optional<Domain> value) {
  return value ? static_cast<int32_t>(*value) : -1;
}

ic::ScheduleRequest read_request(const ic_schedule_desc &desc) {
  ic::require_flags(desc.flags, IC_SCHEDULE_PRECEDENCE, "desc->flags");
  ic::ScheduleRequest request;
  request.num_layers = desc.num_layers;
  request.num_mtp_layers = desc.num_mtp_layers;
  if (desc.pattern != nullptr) request.override.pattern = desc.pattern;
  if (desc.freq != 0) request.override.freq = desc.freq;
  if (desc.offset != 0) request.override.offset = desc.offset;
  ic::require_range(desc.num_indexer_layers, 0, 2 * ic::kMaxScheduleLayers, "desc->num_indexer_layers");
  if (desc.num_indexer_layers != 0) ic::require_pointer(desc.indexer_layers, "desc->indexer_layers");
  if (desc.indexer_layers != nullptr) {
    ic::require_aligned(desc.indexer_layers, alignof(int32_t), "desc->indexer_layers");
    request.indexer_layers = std::span(desc.indexer_layers, static_cast<size_t>(desc.num_indexer_layers));
  }
  if (desc.config_json != nullptr) request.config_json = desc.config_json;
  request.allow_precedence = (desc.flags & IC_SCHEDULE_PRECEDENCE) != 0;
  return request;
}

void write_text(std::string_view text, char *buffer, size_t *size) {
  ic::write_text(text.data(), text.size(), buffer, size);
}

}  // namespace

extern "C" {

ic_status ic_schedule_create(const ic_schedule_desc *desc, ic_schedule **out) {
  return ic::guarded([&] {
    ic::require_array(out, alignof(ic_schedule *), "out");
    *out = nullptr;
    const ic_schedule_desc fields = ic::read_struct(desc, "desc");
    *out = new ic_schedule(ic::resolve_schedule(read_request(fields)));
  });
}

void ic_schedule_destroy(ic_schedule *schedule) { ic::Ref<ic_schedule>::release(schedule); }

ic_status ic_schedule_get_info(const ic_schedule *schedule, ic_schedule_info *info) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    ic::require_output(info, "info");
    const ic::Schedule &s = schedule->schedule;
    ic_schedule_info filled = IC_SCHEDULE_INFO_INIT;
    filled.num_layers = s.num_layers();
    filled.num_mtp_layers = s.num_mtp_layers();
    filled.num_full = s.num_full();
    filled.num_shared = s.num_shared();
    filled.num_none = s.num_layers() - s.num_full() - s.num_shared();
    filled.num_indexers = s.num_indexers();
    filled.num_key_slots = s.num_key_slots();
    filled.mtp_can_share = s.mtp_can_share();
    filled.hash = s.hash();
    ic::write_struct(info, filled);
  });
}

ic_status ic_schedule_get_layer(const ic_schedule *schedule, int32_t layer, ic_layer_info *info) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    ic::require_output(info, "info");
    const ic::Schedule &s = schedule->schedule;
    const GlobalLayer id = require_layer(s, layer);
    const std::span<const GlobalLayer> consumers = s.consumers(id);
    ic_layer_info filled = IC_LAYER_INFO_INIT;
    filled.layer = layer;
    filled.mode = static_cast<int32_t>(s.mode(id));
    filled.source_layer = or_none(s.source(id));
    filled.indexer_ordinal = or_none(s.indexer_ordinal(id));
    filled.key_slot = or_none(s.key_slot(id));
    filled.num_consumers = static_cast<int32_t>(consumers.size());
    filled.last_consumer = consumers.empty() ? -1 : ic::raw(consumers.back());
    filled.is_mtp = s.is_mtp(id);
    ic::write_struct(info, filled);
  });
}

ic_status ic_schedule_get_cut(const ic_schedule *schedule, int32_t first_layer, int32_t *source_layer) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    ic::require_array(source_layer, alignof(int32_t), "source_layer");
    ic::require_range(first_layer, 1, schedule->schedule.num_layers(), "first_layer");
    *source_layer = or_none(schedule->schedule.carry(GlobalLayer{first_layer}));
  });
}

ic_status ic_schedule_get_cache_slot(const ic_schedule *schedule, int32_t layer, int32_t num_slots, int32_t *slot) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    ic::require_array(slot, alignof(int32_t), "slot");
    const ic::Schedule &s = schedule->schedule;
    const GlobalLayer id = require_layer(s, layer);
    ic::require_range(num_slots, 1, INT32_MAX, "num_slots");
    if (s.mode(id) != ic::LayerMode::kFull) {
      ic::fail(IC_ERROR_INVALID_ARGUMENT,
               "layer is %d, which is not Full and writes no slot; allowed: Full and MTP layers", layer);
    }
    *slot = *s.cache_slot(id, num_slots);
  });
}

ic_status ic_schedule_pattern(const ic_schedule *schedule, char *buffer, size_t *size) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    write_text(schedule->schedule.pattern(), buffer, size);
  });
}

ic_status ic_schedule_explain(const ic_schedule *schedule, char *buffer, size_t *size) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    write_text(schedule->schedule.explain(), buffer, size);
  });
}

ic_status ic_schedule_export(const ic_schedule *schedule, int32_t engine, char *buffer, size_t *size) {
  return ic::guarded([&] {
    ic::require_pointer(schedule, "schedule");
    write_text(ic::export_schedule(schedule->schedule, engine), buffer, size);
  });
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Generations, coverage of rows, and the reasons why indices are not there.
#include "core/publications.h"

#include <algorithm>

#include "core/failure.h"

namespace ic {
namespace {

uint64_t mask_of(int32_t first, int32_t last) noexcept {  // bits [first, last) of one word
  const uint64_t upper = last == 64 ? ~uint64_t{0} : (uint64_t{1} << last) - 1;
  return upper & ~((uint64_t{1} << first) - 1);
}

/// Calls visit(word index, mask) for the words of a bitmap that a run of rows touches; stops when it returns false.
template <class Visit>
bool each_word(RowRange part, Visit visit) {
  for (int32_t row = part.begin, end = part.begin + part.count; row < end;) {
    const int32_t word = row / 64;
    const int32_t last = std::min(end - word * 64, 64);
    if (!visit(static_cast<size_t>(word), mask_of(row % 64, last))) return false;
    row = (word + 1) * 64;
  }
  return true;
}

}  // namespace

Publications::Publications(const Schedule &schedule, int32_t max_rows, int32_t num_slots)
    : num_stack_layers_(schedule.num_layers()) {
  const auto layers = static_cast<size_t>(schedule.num_all_layers());
  routes_.reserve(layers);
  for (int32_t layer = 0; layer < schedule.num_all_layers(); ++layer) {
    const GlobalLayer id{layer};
    const auto source = schedule.source(id);
    const auto slot = source ? schedule.cache_slot(*source, num_slots) : std::nullopt;
    routes_.push_back(
        {static_cast<int32_t>(schedule.mode(id)), slot.value_or(0), schedule.has_indexer(id), schedule.is_mtp(id)});
  }
  forced_.assign(layers, 0);
  touched_.assign(layers, 0);
  slots_.resize(static_cast<size_t>(num_slots));
  for (Slot &slot : slots_) slot.rows_covered.assign((static_cast<size_t>(max_rows) + 63) / 64, 0);
}

void Publications::begin(int32_t rows, uint64_t capture_id, bool keep) noexcept {
  ++generation_;
  rows_ = rows;
  capture_id_ = capture_id;
  for (size_t layer = 0; layer < forced_.size(); ++layer) {
    // A kept publication of a layer that was forced to Full still serves the layers behind it.
    const Slot &slot = slots_[static_cast<size_t>(routes_[layer].slot)];
    const bool kept =
        keep && forced_[layer] == IC_LAYER_FULL && slot.complete && slot.source == static_cast<int32_t>(layer);
    if (!kept) forced_[layer] = 0;
  }
  for (Slot &slot : slots_) {
    if (keep && slot.complete) {
      slot.generation = generation_;
      slot.carried = true;
      touched_[static_cast<size_t>(slot.source)] = generation_;
    } else {
      slot.source = -1;
      slot.complete = false;
    }
  }
}

void Publications::reset() noexcept {
  rows_ = -1;
  std::fill(forced_.begin(), forced_.end(), 0);
  for (Slot &slot : slots_) {
    slot.source = -1;
    slot.complete = false;
  }
}

void Publications::require_open() const {
  if (!open()) fail(IC_ERROR_NO_BATCH, "no generation is open; call ic_cache_begin() first");
}

int32_t Publications::effective_mode(int32_t layer) const noexcept {
  const auto at = static_cast<size_t>(layer);
  return forced_[at] != 0 ? forced_[at] : routes_[at].mode;
}

int32_t Publications::source_of(int32_t layer) const {
  if (routes_[static_cast<size_t>(layer)].is_mtp) return layer;
  for (int32_t before = layer - 1; before >= 0; --before)
    if (effective_mode(before) == IC_LAYER_FULL) return before;
  fail(IC_ERROR_SCHEDULE_INVALID, "layer %d cannot share: no Full layer precedes it", layer);
}

Publications::Plan Publications::plan(int32_t layer, int32_t mode) const {
  require_open();
  const int32_t layers = static_cast<int32_t>(routes_.size());
  if (layer < 0 || layer >= layers) fail(IC_ERROR_INVALID_ARGUMENT, "layer is %d; allowed: 0 to %d", layer, layers - 1);
  if (mode == IC_LAYER_REINDEX)
    fail(IC_ERROR_UNSUPPORTED, "mode is IC_LAYER_REINDEX; scoring inside a candidate list is not implemented");
  if (mode != 0 && mode != IC_LAYER_FULL && mode != IC_LAYER_SHARED)
    fail(IC_ERROR_INVALID_ARGUMENT, "mode is %d; allowed: 0 (as scheduled), IC_LAYER_FULL, IC_LAYER_SHARED", mode);
  const Route &route = routes_[static_cast<size_t>(layer)];
  if (route.mode == IC_LAYER_NONE)
    fail(IC_ERROR_INVALID_ARGUMENT, "layer %d has no sparse attention in this schedule", layer);
  const int32_t effective = mode != 0 ? mode : effective_mode(layer);
  if (effective == IC_LAYER_FULL) {
    if (!route.has_indexer)
      fail(IC_ERROR_SCHEDULE_INVALID, "layer %d cannot run Full: the model has no indexer weights there", layer);
    return {true, layer, layer, route.slot};
  }
  const int32_t source = source_of(layer);
  return {false, layer, source, slot_of(source)};
}

int32_t Publications::require_rows(int32_t source, bool same_rows) const {
  require_open();
  if (source < 0 || source >= static_cast<int32_t>(routes_.size()))
    fail(IC_ERROR_INVALID_ARGUMENT, "source_layer is %d; allowed: 0 to %zu", source, routes_.size() - 1);
  const Slot &slot = slot_for(source);
  const uint64_t touched = touched_[static_cast<size_t>(source)];
  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  if (slot.source != source || slot.generation != generation_) {
    if (touched == generation_)
      fail(IC_ERROR_STALE_OVERWRITTEN,
           "layer %d published in generation %llu, but layer %d has overwritten its slot %d (%zu slots)", source,
           number(touched), slot.source, slot_of(source), slots_.size());
    if (touched == 0 && effective_mode(source) == IC_LAYER_SHARED)
      fail(IC_ERROR_STALE_UNPUBLISHED,
           "layer %d is Shared and has never published on this cache; its source is layer %d", source,
           source_of(source));
    if (touched == 0)
      fail(IC_ERROR_STALE_UNPUBLISHED, "layer %d has never published on this cache; run it Full, or import, first",
           source);
    fail(IC_ERROR_STALE, "layer %d last published in generation %llu; the open generation is %llu", source,
         number(touched), number(generation_));
  }
  if (slot.capture_id != capture_id_)
    fail(IC_ERROR_STALE_CAPTURE, "layer %d was published under capture_id %llu; the batch has capture_id %llu", source,
         number(slot.capture_id), number(capture_id_));
  if (!slot.complete)
    fail(IC_ERROR_STALE_INCOMPLETE, "layer %d has covered %d of %d rows; run its other parts first", source,
         slot.covered, slot.rows);
  if (same_rows && slot.rows != rows_)
    fail(IC_ERROR_STALE_ROWS, "layer %d was published for %d rows; the batch has %d: call ic_cache_compact() first",
         source, slot.rows, rows_);
  return slot.rows;
}

void Publications::require_uncovered(const Plan &plan, RowRange part) const {
  const Slot &slot = slots_[static_cast<size_t>(plan.slot)];
  if (slot.source != plan.layer || slot.generation != generation_ || slot.carried) return;
  const bool free = each_word(part, [&](size_t word, uint64_t mask) { return (slot.rows_covered[word] & mask) == 0; });
  if (!free)
    fail(IC_ERROR_PART_OVERLAP,
         "layer %d: rows %d to %d overlap rows that it has already covered in generation %llu (%d of %d)", plan.layer,
         part.begin, part.begin + part.count - 1, static_cast<unsigned long long>(generation_), slot.covered,
         slot.rows);
}

void Publications::require_publishable(int32_t layer, const char *name) const {
  require_open();
  if (layer < 0 || layer >= static_cast<int32_t>(routes_.size()))
    fail(IC_ERROR_INVALID_ARGUMENT, "%s is %d; allowed: 0 to %zu", name, layer, routes_.size() - 1);
  const Route &route = routes_[static_cast<size_t>(layer)];
  if (route.mode == IC_LAYER_NONE || (!route.is_mtp && effective_mode(layer) != IC_LAYER_FULL))
    fail(IC_ERROR_INVALID_ARGUMENT, "%s is %d, which is no Full layer: nobody would read it", name, layer);
}

void Publications::open_part(const Plan &plan, int32_t mode) noexcept {
  if (mode != 0) forced_[static_cast<size_t>(plan.layer)] = mode;
  Slot &slot = slots_[static_cast<size_t>(plan.slot)];
  touched_[static_cast<size_t>(plan.layer)] = generation_;
  if (slot.source == plan.layer && slot.generation == generation_ && !slot.carried) return;
  unpublish(plan.layer);
}

void Publications::unpublish(int32_t layer) noexcept {
  Slot &slot = slot_for(layer);
  slot.source = layer;
  slot.rows = rows_;
  slot.covered = 0;
  slot.complete = false;
  slot.carried = false;
  slot.generation = generation_;
  slot.capture_id = capture_id_;
  std::fill(slot.rows_covered.begin(), slot.rows_covered.end(), 0);
  touched_[static_cast<size_t>(layer)] = generation_;
}

void Publications::close_part(const Plan &plan, RowRange part) noexcept {
  Slot &slot = slots_[static_cast<size_t>(plan.slot)];
  each_word(part, [&](size_t word, uint64_t mask) {
    slot.rows_covered[word] |= mask;
    return true;
  });
  slot.covered += part.count;
  if (slot.covered == slot.rows && !slot.complete) {
    slot.complete = true;
    slot.serial = next_serial_++;
  }
}

void Publications::publish(int32_t layer) noexcept {
  Slot &slot = slot_for(layer);
  close_part({true, layer, layer, slot_of(layer)}, {0, slot.rows});
}

void Publications::note_shared(int32_t layer, int32_t mode) noexcept {
  if (mode == IC_LAYER_SHARED && !routes_[static_cast<size_t>(layer)].is_mtp)
    forced_[static_cast<size_t>(layer)] = mode;
}

}  // namespace ic

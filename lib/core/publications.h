// SPDX-License-Identifier: Apache-2.0
// Who has published what in which generation: the bookkeeping of an index cache, without any memory of a device.
#pragma once

#include <cstdint>
#include <vector>

#include "core/schedule.h"
#include "indexcache.h"

namespace ic {

/// One consecutive run of rows of the open batch.
struct RowRange {
  int32_t begin;
  int32_t count;
};

class Publications {
 public:
  Publications(const Schedule &schedule, int32_t max_rows, int32_t num_slots);

  /// Opens the next generation. keep: complete publications are carried over, incomplete ones are not.
  void begin(int32_t rows, uint64_t capture_id, bool keep) noexcept;
  void reset() noexcept;

  bool open() const noexcept { return rows_ >= 0; }
  int32_t rows() const noexcept { return rows_; }
  uint64_t generation() const noexcept { return generation_; }
  /// Counts every publication that was ever made complete: an unchanged number means unchanged indices.
  uint64_t serial(int32_t slot) const noexcept { return slots_[static_cast<size_t>(slot)].serial; }
  int32_t slot_of(int32_t layer) const noexcept { return routes_[static_cast<size_t>(layer)].slot; }

  /// What a call on a layer does: runs Full, or reads a source.
  struct Plan {
    bool full;
    int32_t layer;
    int32_t source;  // the layer itself when full
    int32_t slot;    // where the indices are written or read
  };
  /// mode: 0 or IC_LAYER_*. Fails when the layer cannot run that way. Needs an open generation.
  Plan plan(int32_t layer, int32_t mode) const;

  /// Fails when the source's rows are not all there for the open batch.
  void require(int32_t source) const { require_rows(source, true); }
  /// The same for the publication's own number of rows, which it returns: what compact reads.
  int32_t require_any_rows(int32_t source) const { return require_rows(source, false); }
  /// Fails when rows of the part have been covered already. plan.full.
  void require_uncovered(const Plan &plan, RowRange part) const;
  /// Fails when nobody would read what is published under this layer.
  void require_publishable(int32_t layer, const char *name) const;

  /// Around the device work of one part of a Full layer: the first un-publishes the slot, the second counts the rows.
  void open_part(const Plan &plan, int32_t mode) noexcept;
  void close_part(const Plan &plan, RowRange part) noexcept;
  /// Around compact and import: a whole publication under a layer's name.
  void unpublish(int32_t layer) noexcept;
  void publish(int32_t layer) noexcept;
  /// Remembers that a call forced a layer to share.
  void note_shared(int32_t layer, int32_t mode) noexcept;

 private:
  struct Route {
    int32_t mode;  // IC_LAYER_* of the schedule
    int32_t slot;
    bool has_indexer;
    bool is_mtp;
  };
  struct Slot {
    int32_t source = -1;  // -1: empty
    int32_t rows = 0;
    int32_t covered = 0;
    bool complete = false;
    bool carried = false;  // kept from an earlier generation: a Full layer starts it anew
    uint64_t generation = 0;
    uint64_t capture_id = 0;
    uint64_t serial = 0;
    std::vector<uint64_t> rows_covered;  // bitmap over max_rows
  };

  int32_t effective_mode(int32_t layer) const noexcept;
  int32_t source_of(int32_t layer) const;
  int32_t require_rows(int32_t source, bool same_rows) const;
  void require_open() const;
  const Slot &slot_for(int32_t layer) const noexcept { return slots_[static_cast<size_t>(slot_of(layer))]; }
  Slot &slot_for(int32_t layer) noexcept { return slots_[static_cast<size_t>(slot_of(layer))]; }

  std::vector<Route> routes_;      // per layer
  std::vector<int32_t> forced_;    // per layer: 0 or the IC_LAYER_* that a call forced in this generation
  std::vector<uint64_t> touched_;  // per layer: last generation in which it wrote, or was carried; 0 = never
  std::vector<Slot> slots_;
  int32_t num_stack_layers_;
  int32_t rows_ = -1;  // -1: no generation is open
  uint64_t generation_ = 0;
  uint64_t capture_id_ = 0;
  uint64_t next_serial_ = 1;
};

}  // namespace ic

// SPDX-License-Identifier: Apache-2.0
// The library's handles for one model under one schedule.
#pragma once

#include <indexcache.h>

#include <cstddef>
#include <string>

#include "device.h"
#include "handles.h"
#include "model.h"

namespace tiny_lm {

/// The schedule of a pattern on this model. Throws Error (kExitPattern) with the library's reason.
Owner<ic_schedule> create_schedule(const ModelConfig &config, const std::string &pattern);

/// Everything that is made once. Handles may be destroyed in any order: each keeps alive what it was made from.
struct Library {
  /// On the device's context. num_slots: how many layers' indices the cache holds at once. Throws Error; kExitPattern
  /// when the schedule is refused.
  Library(const ModelConfig &config, const std::string &pattern, int max_tokens, int num_slots, Device *device);

  bool is_full(int layer) const;

  Device &device;
  Owner<ic_schedule> schedule;
  Owner<ic_indexer> indexer;
  Owner<ic_topk> topk;
  Owner<ic_attention> attention;
  Owner<ic_cache> cache;

  /// One workspace serves every call, because calls run one behind the other.
  size_t workspace_size = 0;
  Device::Memory workspace;
};

}  // namespace tiny_lm

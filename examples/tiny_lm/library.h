// SPDX-License-Identifier: Apache-2.0
// The library's handles for one model under one schedule, as C++ owners; its statuses as exceptions.
#pragma once

#include <indexcache.h>

#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "error.h"
#include "model.h"
#include "thread_pool.h"

namespace tiny_lm {

/// Destroys what a create function returned.
struct Destroy {
  void operator()(ic_context *handle) const { ic_context_destroy(handle); }
  void operator()(ic_schedule *handle) const { ic_schedule_destroy(handle); }
  void operator()(ic_indexer *handle) const { ic_indexer_destroy(handle); }
  void operator()(ic_topk *handle) const { ic_topk_destroy(handle); }
  void operator()(ic_attention *handle) const { ic_attention_destroy(handle); }
  void operator()(ic_cache *handle) const { ic_cache_destroy(handle); }
};

template <class Handle>
using Owner = std::unique_ptr<Handle, Destroy>;

/// Throws Error, with the library's message, unless the call went well.
void check(ic_status status, ExitStatus exit_status = kExitFailure);

/// The schedule of a pattern on this model. Throws Error (kExitPattern) with the library's reason.
Owner<ic_schedule> create_schedule(const ModelConfig &config, const std::string &pattern);

/// Everything that is made once. Handles may be destroyed in any order: each keeps alive what it was made from.
struct Library {
  /// The context runs its work on `pool`. Throws Error; kExitPattern when the schedule is refused.
  Library(const ModelConfig &config, const std::string &pattern, int max_tokens, ThreadPool *pool);

  bool is_full(int layer) const;

  Owner<ic_context> context;
  Owner<ic_schedule> schedule;
  Owner<ic_indexer> indexer;
  Owner<ic_topk> topk;
  Owner<ic_attention> attention;
  Owner<ic_cache> cache;

  /// One workspace serves every call, because calls run one behind the other.
  size_t workspace_size = 0;
  struct FreeAligned {
    void operator()(void *memory) const { ::operator delete(memory, std::align_val_t{256}); }
  };
  std::unique_ptr<void, FreeAligned> workspace;
};

}  // namespace tiny_lm

// SPDX-License-Identifier: Apache-2.0
// The library's handles as C++ owners; its statuses as exceptions.
#pragma once

#include <indexcache.h>

#include <memory>
#include <string>

#include "error.h"

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

/// The library's message for the call that failed on this thread just now.
std::string last_message();

/// Throws Error, with the library's message and the status's meaning, unless the call went well.
void check(ic_status status, ExitStatus exit_status = kExitFailure);

}  // namespace tiny_lm

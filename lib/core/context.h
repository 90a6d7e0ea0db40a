// SPDX-License-Identifier: Apache-2.0
// A context: the backend that its handles run on, and where messages go.
#pragma once

#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/ref.h"
#include "indexcache.h"

namespace ic {

/// Delivers messages at or below a severity number. Never throws.
class Log {
 public:
  Log() = default;
  Log(ic_log_fn fn, void *user, int32_t level) noexcept : fn_(fn), user_(user), level_(level) {}
  void write(int32_t level, const char *format, ...) const noexcept __attribute__((format(printf, 3, 4)));

 private:
  ic_log_fn fn_ = nullptr;  // null: stderr
  void *user_ = nullptr;
  int32_t level_ = IC_LOG_WARN;
};

/// The caller's allocator, or none.
struct Allocator {
  ic_alloc_fn alloc = nullptr;
  ic_free_fn free = nullptr;
  void *user = nullptr;
};

}  // namespace ic

struct ic_context final : ic::RefCounted {
  ic_context(std::unique_ptr<ic::Backend> backend_in, const ic::Log &log_in)
      : backend(std::move(backend_in)), log(log_in) {}
  const std::unique_ptr<ic::Backend> backend;
  const ic::Log log;
};

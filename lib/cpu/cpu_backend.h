// SPDX-License-Identifier: Apache-2.0
// The CPU backend: the oracle of every other path, and a fast one.
#pragma once

#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/context.h"
#include "indexcache.h"

namespace ic {

struct CpuOptions {
  int32_t num_threads;  // 0 = one per hardware thread
  int32_t isa;          // IC_CPU_ISA_*
  Allocator allocator;
  ic_parallel_for_fn parallel_for;  // null = own threads
  void *parallel_user;
};

/// Fails with IC_ERROR_UNSUPPORTED when the machine lacks the instruction level.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions &options);

/// All fields but struct_size.
ic_device_caps cpu_device_caps();

}  // namespace ic

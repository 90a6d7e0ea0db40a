// SPDX-License-Identifier: Apache-2.0
// The two backends under test, one of each per process, and the seed of this run.
#pragma once

#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/cuda.h"
#include "cpu/cpu_backend.h"

namespace ic::test {

/// The reference: as many threads as the machine has.
inline Backend &cpu_backend() {
  static const std::unique_ptr<Backend> backend = make_cpu_backend({0, IC_CPU_ISA_AUTO, {}, nullptr, nullptr});
  return *backend;
}

/// Device 0.
inline Backend &cuda_backend() {
  static const std::unique_ptr<Backend> backend = make_cuda_backend({0, 0, {}});
  return *backend;
}

/// From IC_TEST_SEED, else from the clock; printed by main().
uint32_t run_seed();

}  // namespace ic::test

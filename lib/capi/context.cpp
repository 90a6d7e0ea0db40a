// SPDX-License-Identifier: Apache-2.0
// ic_context_* and ic_device_*.
#include "core/context.h"

#include <memory>

#include "capi/guard.h"
#include "capi/validate.h"
#include "core/cuda.h"
#include "cpu/cpu_backend.h"

namespace {

using namespace ic;

void require_backend(int32_t backend) {
  if (backend != IC_BACKEND_CPU && backend != IC_BACKEND_CUDA)
    fail(IC_ERROR_INVALID_ARGUMENT, "backend is %d; allowed: IC_BACKEND_CPU (%d), IC_BACKEND_CUDA (%d)", backend,
         IC_BACKEND_CPU, IC_BACKEND_CUDA);
}

std::unique_ptr<Backend> make_backend(const ic_context_desc &desc) {
  const Allocator allocator{desc.alloc, desc.free, desc.alloc_user};
  if (desc.backend == IC_BACKEND_CUDA)
    return make_cuda_backend({desc.device, desc.max_ctas, allocator, (desc.flags & IC_CONTEXT_CHECK_VALUES) != 0});
  return make_cpu_backend({desc.num_threads, desc.cpu_isa, allocator, desc.parallel_for, desc.parallel_user});
}

void check(const ic_context_desc &desc) {
  require_backend(desc.backend);
  require_flags(desc.flags, IC_CONTEXT_CHECK_VALUES, "desc->flags");
  require_zero(desc.reserved, "desc->reserved");
  const bool cpu = desc.backend == IC_BACKEND_CPU;
  require_range(desc.device, 0, cpu ? 0 : 1023, "desc->device");
  require_range(desc.num_threads, 0, cpu ? 1024 : 0, "desc->num_threads");
  require_range(desc.cpu_isa, 0, cpu ? IC_CPU_ISA_AVX512 : 0, "desc->cpu_isa");
  require_range(desc.max_ctas, 0, cpu ? 0 : 1 << 20, "desc->max_ctas");
  require_range(desc.log_level, 0, IC_LOG_DEBUG, "desc->log_level");
  if ((desc.alloc == nullptr) != (desc.free == nullptr))
    fail(IC_ERROR_NULL_POINTER, "desc->%s is NULL; alloc and free are given together or not at all",
         desc.alloc == nullptr ? "alloc" : "free");
  if (desc.parallel_for != nullptr) {
    if (!cpu) fail(IC_ERROR_INVALID_ARGUMENT, "desc->parallel_for is given; only the CPU backend takes one");
    require_range(desc.num_threads, 1, 1024, "desc->num_threads (with parallel_for)");
  }
}

}  // namespace

extern "C" ic_status ic_context_create(const ic_context_desc *desc, ic_context **out) {
  return guarded([&] {
    require_array(out, alignof(void *), "out");
    *out = nullptr;
    const ic_context_desc given = read_struct(desc, "desc");
    check(given);
    const int32_t level = given.log_level == 0 ? IC_LOG_WARN : given.log_level;
    *out = new ic_context(make_backend(given), Log(given.log, given.log_user, level));
    (*out)->log.write(IC_LOG_DEBUG, "context %p: %s backend", static_cast<void *>(*out),
                      given.backend == IC_BACKEND_CPU ? "CPU" : "CUDA");
  });
}

extern "C" void ic_context_destroy(ic_context *context) { Ref<ic_context>::release(context); }

extern "C" ic_status ic_device_count(int32_t backend, int32_t *count) {
  return guarded([&] {
    require_array(count, alignof(int32_t), "count");
    require_backend(backend);
    if (backend == IC_BACKEND_CUDA) *count = 0;
    *count = backend == IC_BACKEND_CPU ? 1 : cuda_device_count();
  });
}

extern "C" ic_status ic_device_get_caps(int32_t backend, int32_t device, ic_device_caps *caps) {
  return guarded([&] {
    require_output(caps, "caps");
    require_backend(backend);
    if (backend == IC_BACKEND_CPU) {
      require_range(device, 0, 0, "device");
      write_struct(caps, cpu_device_caps());
    } else {
      require_range(device, 0, 1023, "device");
      write_struct(caps, cuda_device_caps(device));
    }
  });
}

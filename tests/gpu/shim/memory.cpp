// SPDX-License-Identifier: Apache-2.0
// operator new and the functions of malloc (--wrap) from the arena. unit_allocation has its own.
#include <new>

#include "tests/gpu/shim/arena.h"

namespace {

void *allocate(size_t size, size_t alignment) {
  void *memory = ic_arena_aligned_alloc(alignment, size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

constexpr size_t kUsual = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

void *operator new(size_t size) { return allocate(size, kUsual); }
void *operator new[](size_t size) { return allocate(size, kUsual); }
void *operator new(size_t size, const std::nothrow_t &) noexcept { return ic_arena_malloc(size); }
void *operator new[](size_t size, const std::nothrow_t &) noexcept { return ic_arena_malloc(size); }
void *operator new(size_t size, std::align_val_t at) { return allocate(size, static_cast<size_t>(at)); }
void *operator new[](size_t size, std::align_val_t at) { return allocate(size, static_cast<size_t>(at)); }
void operator delete(void *memory) noexcept { ic_arena_free(memory); }
void operator delete[](void *memory) noexcept { ic_arena_free(memory); }
void operator delete(void *memory, size_t) noexcept { ic_arena_free(memory); }
void operator delete[](void *memory, size_t) noexcept { ic_arena_free(memory); }
void operator delete(void *memory, const std::nothrow_t &) noexcept { ic_arena_free(memory); }
void operator delete[](void *memory, const std::nothrow_t &) noexcept { ic_arena_free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { ic_arena_free(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { ic_arena_free(memory); }
void operator delete(void *memory, size_t, std::align_val_t) noexcept { ic_arena_free(memory); }
void operator delete[](void *memory, size_t, std::align_val_t) noexcept { ic_arena_free(memory); }

extern "C" {
void *__wrap_malloc(size_t size) { return ic_arena_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return ic_arena_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return ic_arena_realloc(memory, size); }
void *__wrap_aligned_alloc(size_t alignment, size_t size) { return ic_arena_aligned_alloc(alignment, size); }
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
  return ic_arena_posix_memalign(memory, alignment, size);
}
void __wrap_free(void *memory) { ic_arena_free(memory); }
}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// Replaces operator new and delete; the functions of malloc are replaced by the linker (--wrap) in all objects that are
// linked into this program, the library's among them.
#include "tests/allocation/counting.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

extern "C" {
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void __real_free(void *memory);
}

namespace {

std::atomic<bool> counting{false};
std::atomic<bool> paused{false};
std::atomic<int64_t> count_now{0};
std::atomic<int64_t> failing{0};
std::atomic<int64_t> live{0};

bool may_allocate() { return !counting.load() || paused.load() || count_now.fetch_add(1) + 1 != failing.load(); }

void *counted(void *memory) {
  if (memory != nullptr) live.fetch_add(1);
  return memory;
}

void release(void *memory) {
  if (memory != nullptr) live.fetch_sub(1);
  __real_free(memory);
}

void *allocate_or_null(size_t size, size_t alignment) {
  if (!may_allocate()) return nullptr;
  if (size == 0) size = 1;
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return counted(__real_malloc(size));
  return counted(__real_aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment));
}

void *allocate(size_t size, size_t alignment) {
  void *memory = allocate_or_null(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

constexpr size_t kUsual = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

namespace ic::test {

Allocations::Allocations(int64_t fail_at) {
  count_now = 0;
  failing = fail_at;
  counting = true;
}
Allocations::~Allocations() { counting = false; }
int64_t Allocations::count() const { return count_now; }
bool pause_counting(bool pause) { return paused.exchange(pause); }
int64_t live_allocations() { return live; }

}  // namespace ic::test

void *operator new(size_t size) { return allocate(size, kUsual); }
void *operator new[](size_t size) { return allocate(size, kUsual); }
void *operator new(size_t size, const std::nothrow_t &) noexcept { return allocate_or_null(size, kUsual); }
void *operator new[](size_t size, const std::nothrow_t &) noexcept { return allocate_or_null(size, kUsual); }
void *operator new(size_t size, std::align_val_t at) { return allocate(size, static_cast<size_t>(at)); }
void *operator new[](size_t size, std::align_val_t at) { return allocate(size, static_cast<size_t>(at)); }
void operator delete(void *memory) noexcept { release(memory); }
void operator delete[](void *memory) noexcept { release(memory); }
void operator delete(void *memory, size_t) noexcept { release(memory); }
void operator delete[](void *memory, size_t) noexcept { release(memory); }
void operator delete(void *memory, const std::nothrow_t &) noexcept { release(memory); }
void operator delete[](void *memory, const std::nothrow_t &) noexcept { release(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void *memory, size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void *memory, size_t, std::align_val_t) noexcept { release(memory); }

extern "C" {

void *__wrap_malloc(size_t size) { return may_allocate() ? counted(__real_malloc(size)) : nullptr; }

void *__wrap_calloc(size_t count, size_t size) {
  return may_allocate() ? counted(__real_calloc(count, size)) : nullptr;
}

void *__wrap_realloc(void *memory, size_t size) {
  if (!may_allocate()) return nullptr;
  void *moved = __real_realloc(memory, size);
  return memory == nullptr ? counted(moved) : moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
  return may_allocate() ? counted(__real_aligned_alloc(alignment, size)) : nullptr;
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
  if (!may_allocate()) return ENOMEM;
  const int error = __real_posix_memalign(memory, alignment, size);
  if (error == 0) live.fetch_add(1);
  return error;
}

void __wrap_free(void *memory) { release(memory); }

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
// One block of memory that host and device both read and write at the same addresses. A test program that is linked
// with this folder takes all its memory from it, so a test written for the CPU backend can hand its arrays to CUDA.
#pragma once

#include <cstddef>

// C names, so that an object can be pointed at them by a macro (CMakeLists.txt: unit_allocation on a GPU).
extern "C" {

void *ic_arena_malloc(size_t size);
void *ic_arena_calloc(size_t count, size_t size);
void *ic_arena_realloc(void *memory, size_t size);
void *ic_arena_aligned_alloc(size_t alignment, size_t size);
int ic_arena_posix_memalign(void **memory, size_t alignment, size_t size);
/// Also takes what malloc of the C library gave. A block whose end has been overwritten ends the program.
void ic_arena_free(void *memory);
}

namespace ic::test {

struct ArenaRange {
  void *begin;
  size_t bytes;
};
/// The whole arena, to be registered with the driver.
ArenaRange arena_range();

}  // namespace ic::test

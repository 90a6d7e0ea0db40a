// SPDX-License-Identifier: Apache-2.0

// Package callbacks has C functions for the tests of a context's callbacks: tests themselves cannot have C code.
package callbacks

/*
#cgo pkg-config: indexcache
#include <indexcache.h>
#include <stdlib.h>

typedef struct {
  int64_t live;
  int64_t calls;
} counters;

static void *counting_alloc(void *user, size_t size) {
  ++((counters *)user)->live;
  return aligned_alloc(256, (size + 255) / 256 * 256);
}

static void counting_free(void *user, void *memory, size_t size) {
  (void)size;
  --((counters *)user)->live;
  free(memory);
}

static void one_by_one(void *user, int64_t count, ic_task_fn task, void *data) {
  ++((counters *)user)->calls;
  for (int64_t i = 0; i < count; ++i) {
    task(data, i);
  }
}

static void *alloc_function(void) { return (void *)counting_alloc; }
static void *free_function(void) { return (void *)counting_free; }
static void *parallel_for_function(void) { return (void *)one_by_one; }
*/
import "C"

import "unsafe"

// Counters count what is allocated and not given back, and calls of the thread pool; in C memory.
type Counters struct {
	counters *C.counters
}

// NewCounters makes counters of zero.
func NewCounters() Counters {
	return Counters{(*C.counters)(C.calloc(1, C.size_t(unsafe.Sizeof(C.counters{}))))}
}

// User is what the functions get back.
func (c Counters) User() unsafe.Pointer { return unsafe.Pointer(c.counters) }

// Live is the number of allocations that have not been given back.
func (c Counters) Live() int { return int(c.counters.live) }

// Calls is how often the thread pool was called.
func (c Counters) Calls() int { return int(c.counters.calls) }

// Free ends the counters.
func (c Counters) Free() { C.free(unsafe.Pointer(c.counters)) }

// Alloc is an ic_alloc_fn.
func Alloc() unsafe.Pointer { return C.alloc_function() }

// Free is the matching ic_free_fn.
func Free() unsafe.Pointer { return C.free_function() }

// ParallelFor is an ic_parallel_for_fn that runs one task after the other.
func ParallelFor() unsafe.Pointer { return C.parallel_for_function() }

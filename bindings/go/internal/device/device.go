// SPDX-License-Identifier: Apache-2.0

// Package device has the memory and streams of GPU 0 for the tests, from the driver, which is opened when it is first
// needed: tests themselves cannot have C code.
package device

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// The types of cuda.h, as far as they matter to calls.
typedef int result;
static result (*cu_init)(unsigned);
static result (*cu_device_get)(int *, int);
static result (*cu_primary_retain)(void **, int);
static result (*cu_set_current)(void *);
static result (*cu_stream_create)(void **, unsigned);
static result (*cu_stream_destroy)(void *);
static result (*cu_stream_synchronize)(void *);
static result (*cu_alloc)(uint64_t *, size_t);
static result (*cu_free)(uint64_t);
static result (*cu_to_device)(uint64_t, const void *, size_t, void *);
static result (*cu_to_host)(void *, uint64_t, size_t, void *);

static void *context;

static void must(const char *call, result code) {
  if (code != 0) {
    fprintf(stderr, "%s fails with CUDA error %d\n", call, code);
    abort();
  }
}

static void find(void *library, const char *name, void *function) {
  *(void **)function = dlsym(library, name);
  if (*(void **)function == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    abort();
  }
}

static void open_driver(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "no NVIDIA driver: %s\n", dlerror());
    abort();
  }
  find(library, "cuInit", &cu_init);
  find(library, "cuDeviceGet", &cu_device_get);
  find(library, "cuDevicePrimaryCtxRetain", &cu_primary_retain);
  find(library, "cuCtxSetCurrent", &cu_set_current);
  find(library, "cuStreamCreate", &cu_stream_create);
  find(library, "cuStreamDestroy_v2", &cu_stream_destroy);
  find(library, "cuStreamSynchronize", &cu_stream_synchronize);
  find(library, "cuMemAlloc_v2", &cu_alloc);
  find(library, "cuMemFree_v2", &cu_free);
  find(library, "cuMemcpyHtoDAsync_v2", &cu_to_device);
  find(library, "cuMemcpyDtoHAsync_v2", &cu_to_host);
  int device = 0;
  must("cuInit", cu_init(0));
  must("cuDeviceGet", cu_device_get(&device, 0));
  must("cuDevicePrimaryCtxRetain", cu_primary_retain(&context, device));
}

// A goroutine's thread may be another one in every call.
static void enter(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_driver);
  must("cuCtxSetCurrent", cu_set_current(context));
}

static uintptr_t new_stream(void) {
  void *stream = NULL;
  enter();
  must("cuStreamCreate", cu_stream_create(&stream, 1));  // not ordered with the legacy stream
  return (uintptr_t)stream;
}

static void end_stream(uintptr_t stream) {
  enter();
  must("cuStreamDestroy", cu_stream_destroy((void *)stream));
}

static void wait_for(uintptr_t stream) {
  enter();
  must("cuStreamSynchronize", cu_stream_synchronize((void *)stream));
}

static uint64_t allocate(size_t size) {
  uint64_t address = 0;
  enter();
  must("cuMemAlloc", cu_alloc(&address, size == 0 ? 1 : size));
  return address;
}

static void release(uint64_t address) {
  enter();
  must("cuMemFree", cu_free(address));
}

// Memory of the host comes as a number: cgo would look at all that lies around a Go pointer.
static void to_device(uint64_t to, uintptr_t from, size_t size, uintptr_t stream) {
  enter();
  must("cuMemcpyHtoDAsync", cu_to_device(to, (const void *)from, size, (void *)stream));
  must("cuStreamSynchronize", cu_stream_synchronize((void *)stream));
}

static void to_host(uintptr_t to, uint64_t from, size_t size, uintptr_t stream) {
  enter();
  must("cuMemcpyDtoHAsync", cu_to_host((void *)to, from, size, (void *)stream));
  must("cuStreamSynchronize", cu_stream_synchronize((void *)stream));
}
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// Stream is a cudaStream_t that is ordered with no other.
type Stream uintptr

// NewStream makes a stream.
func NewStream() Stream { return Stream(C.new_stream()) }

// Wait waits until the stream has run all that it has.
func (s Stream) Wait() { C.wait_for(C.uintptr_t(s)) }

// End destroys the stream.
func (s Stream) End() { C.end_stream(C.uintptr_t(s)) }

// Allocate is the address of size bytes of GPU memory.
func Allocate(size int) uintptr { return uintptr(C.allocate(C.size_t(size))) }

// Release frees what Allocate gave, when every stream is done with it.
func Release(address uintptr) { C.release(C.uint64_t(address)) }

// Write copies to the GPU behind what the stream has, and waits.
func (s Stream) Write(to uintptr, from []byte) {
	pin, address := pinned(from)
	defer pin.Unpin()
	C.to_device(C.uint64_t(to), address, C.size_t(len(from)), C.uintptr_t(s))
}

// Read copies from the GPU behind what the stream has, and waits.
func (s Stream) Read(to []byte, from uintptr) {
	pin, address := pinned(to)
	defer pin.Unpin()
	C.to_host(address, C.uint64_t(from), C.size_t(len(to)), C.uintptr_t(s))
}

func pinned(bytes []byte) (*runtime.Pinner, C.uintptr_t) {
	pin, first := new(runtime.Pinner), unsafe.SliceData(bytes)
	if len(bytes) > 0 {
		pin.Pin(first)
	}
	return pin, C.uintptr_t(uintptr(unsafe.Pointer(first)))
}

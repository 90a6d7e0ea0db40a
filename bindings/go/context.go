// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Context is where operations run: a backend, a device, its threads and memory. Any number of goroutines may use it.
type Context struct {
	handle
	host *host
}

// NewContext creates a context; Backend must be set. The CPU backend starts NumThreads - 1 threads; they sleep between
// operations and end with the context.
//
// Errors: [ErrInvalidArgument], [ErrUnsupported] (CPUISA is not on this machine), ErrCUDA*, [ErrOutOfMemory].
func NewContext(desc *ContextDesc) (*Context, error) {
	return newContext(desc, nil)
}

// NewContextWithLog is [NewContext] with a function that receives messages instead of stderr. It may be called by any
// thread, and must not call this package.
func NewContextWithLog(desc *ContextDesc, log func(level LogLevel, message string)) (*Context, error) {
	return newContext(desc, newLogSink(log))
}

func newContext(desc *ContextDesc, log *logSink) (*Context, error) {
	shared := &host{cuda: desc != nil && desc.Backend == BackendCUDA, log: log}
	shared.retain()
	a := newArena(false)
	defer a.end()
	c := desc.build(a)
	if c != nil && log != nil {
		log.install(c)
	}
	var out *C.ic_context
	if err := check(C.ic_go_context_create(c, &out)); err != nil {
		shared.release()
		return nil, err
	}
	context := &Context{host: shared}
	context.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_context_destroy((*C.ic_context)(pointer))
		shared.release()
	})
	return context, nil
}

// Close drops the hold on the context, which ends with its last handle. It always returns nil.
func (c *Context) Close() error {
	c.close()
	return nil
}

func (c *Context) shared() *host {
	if c == nil {
		return nil
	}
	return c.host
}

// IndexOverlap compares two sets of logical indices row by row; both ascending, as a cache publishes them, and with the
// same number of rows.
func (c *Context) IndexOverlap(a, b *IndexView, out *OverlapArgs, stream Stream) error {
	memory := c.shared().arena()
	defer memory.end()
	first, second, results := a.build(memory), b.build(memory), out.build(memory)
	if memory.err != nil {
		return memory.err
	}
	err := check(C.ic_go_index_overlap(c.raw(), first, second, results, C.uintptr_t(stream)))
	runtime.KeepAlive(c)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	return err
}

// DeviceCount is the number of devices of a backend that this build can use: 1 for the CPU.
//
// Errors: [ErrCUDANotBuilt], [ErrCUDANoDriver].
func DeviceCount(backend Backend) (int, error) {
	var count C.int32_t
	err := check(C.ic_go_device_count(C.int32_t(backend), &count))
	return int(count), err
}

// GetDeviceCaps says what a device can do.
func GetDeviceCaps(backend Backend, device int32) (caps DeviceCaps, err error) {
	c := newDeviceCaps()
	if err := check(C.ic_go_device_get_caps(C.int32_t(backend), C.int32_t(device), c)); err != nil {
		return caps, err
	}
	caps.read(c)
	return caps, nil
}

// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// handle is what all handles have in common: an address, and how it ends. Closed by Close, else by the collector.
type handle struct {
	pointer unsafe.Pointer
	destroy func(unsafe.Pointer)
	cleanup runtime.Cleanup
}

// open takes a new C handle. destroy must not refer to the Go handle, or that would never be collected.
func (h *handle) open(pointer unsafe.Pointer, destroy func(unsafe.Pointer)) {
	h.pointer, h.destroy = pointer, destroy
	h.cleanup = runtime.AddCleanup(h, destroy, pointer)
}

func (h *handle) address() unsafe.Pointer {
	return atomic.LoadPointer(&h.pointer)
}

func (h *handle) close() {
	if pointer := atomic.SwapPointer(&h.pointer, nil); pointer != nil {
		h.cleanup.Stop()
		h.destroy(pointer)
	}
}

// host is what all handles of one context share: Go's part of it ends with the last of them, as the C context does.
type host struct {
	cuda bool
	log  *logSink
	refs atomic.Int64
}

func (h *host) retain() *host {
	if h != nil {
		h.refs.Add(1)
	}
	return h
}

func (h *host) release() {
	if h != nil && h.refs.Add(-1) == 0 && h.log != nil {
		h.log.free()
	}
}

func (h *host) arena() *arena {
	return newArena(h != nil && h.cuda)
}

// textOf asks a text function twice: for the size, then for the text.
func textOf(call func(buffer *C.char, size *C.size_t) C.ic_go_result) (string, error) {
	var size C.size_t
	err := check(call(nil, &size))
	if failure, ok := err.(*Error); err == nil || ok && failure.Status != ErrBufferTooSmall {
		return "", err
	}
	buffer := make([]byte, size)
	if err := check(call((*C.char)(unsafe.Pointer(unsafe.SliceData(buffer))), &size)); err != nil {
		return "", err
	}
	return string(buffer[:size-1]), nil
}

// sizeOf asks for the size of a workspace or buffer.
func sizeOf(call func(size *C.size_t) C.ic_go_result) (int, error) {
	var size C.size_t
	err := check(call(&size))
	return int(size), err
}

// SPDX-License-Identifier: Apache-2.0

package indexcache

import (
	"runtime"
	"strings"
	"unsafe"
)

// Element is a number as arrays have it. Of bf16 and fp16 it is uint16, of e4m3 uint8.
type Element interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// DevicePtr is the address of an array of T in the memory of the context's device: a Go slice on the CPU ([Host]), GPU
// memory or C memory otherwise ([Device]). Its zero value is "not given".
type DevicePtr[T Element] struct {
	_       [0]T
	host    unsafe.Pointer // Go memory, or
	address uintptr        // any other
}

// Host is the memory of a slice; an empty one counts as given.
func Host[T Element](slice []T) DevicePtr[T] {
	return DevicePtr[T]{host: unsafe.Pointer(unsafe.SliceData(slice))}
}

// Device is memory that is not Go's: the address of GPU memory, or of C memory on the CPU. It must stay valid until the
// operation has run on its stream.
func Device[T Element](address uintptr) DevicePtr[T] {
	return DevicePtr[T]{address: address}
}

// Address is where the array lies, 0 when not given. Of a Go slice it is valid as long as the slice is referred to.
func (p DevicePtr[T]) Address() uintptr {
	if p.host != nil {
		return uintptr(p.host)
	}
	return p.address
}

// IsNil is true when no memory is given.
func (p DevicePtr[T]) IsNil() bool {
	return p.host == nil && p.address == 0
}

// DeviceMemory is a [DevicePtr] whose elements have the type that a handle was made for. Nothing checks that type, as
// nothing checks the length: uint16 given to an indexer of [DtypeF32] is read beyond its end.
type DeviceMemory interface {
	store(a *arena, field unsafe.Pointer)
}

func (p DevicePtr[T]) store(a *arena, field unsafe.Pointer) {
	a.store(field, p.host, p.address)
}

// Buffer is a piece of device memory with its size: a workspace, the memory of a cache, an exported block. Its zero
// value is "not given".
type Buffer struct {
	host    unsafe.Pointer
	address uintptr
	size    int
}

const bufferAlignment = 256

// NewBuffer makes a buffer in Go memory, aligned as a workspace must be.
func NewBuffer(size int) Buffer {
	bytes := make([]byte, size+bufferAlignment-1)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))) & (bufferAlignment - 1)
	return HostBuffer(bytes[skip : skip+size])
}

// HostBuffer is the memory of a slice.
func HostBuffer(bytes []byte) Buffer {
	return Buffer{host: unsafe.Pointer(unsafe.SliceData(bytes)), size: len(bytes)}
}

// DeviceBuffer is memory that is not Go's.
func DeviceBuffer(address uintptr, size int) Buffer {
	return Buffer{address: address, size: size}
}

// Bytes is the memory of a buffer of Go memory, nil of another.
func (b Buffer) Bytes() []byte {
	if b.host == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.host), b.size)
}

// Size in bytes.
func (b Buffer) Size() int {
	return b.size
}

func (b Buffer) store(a *arena, field unsafe.Pointer) {
	a.store(field, b.host, b.address)
}

// Stream is where an operation runs on CUDA: a cudaStream_t or CUstream as a number. The CPU backend has the default
// one only.
type Stream uintptr

// DefaultStream is the legacy default stream.
const DefaultStream Stream = 0

// arena is what one call gives to C: structs that point at each other and at arrays, all pinned, because the memory that
// C is given must not point at Go memory that is not.
type arena struct {
	pin  *runtime.Pinner
	cuda bool  // operations go on after the call: no Go memory
	err  error // what cannot be given to C
}

func newArena(cuda bool) *arena {
	return &arena{pin: new(runtime.Pinner), cuda: cuda}
}

func (a *arena) end() {
	a.pin.Unpin()
}

// store sets a pointer field of a C struct. A foreign address is written as a number: it is no pointer to Go.
func (a *arena) store(field, host unsafe.Pointer, address uintptr) {
	if host == nil {
		*(*uintptr)(field) = address
		return
	}
	if a.cuda {
		a.refuse("a Go slice is given to a CUDA context, whose operations go on after the call")
		return
	}
	a.array(field, host)
}

func (a *arena) memory(field unsafe.Pointer, memory DeviceMemory) {
	if memory != nil {
		memory.store(a, field)
	}
}

// array sets a pointer field to memory of the host that C reads, or copies, before it returns.
func (a *arena) array(field, host unsafe.Pointer) {
	if host != nil {
		a.pin.Pin(host)
		*(*unsafe.Pointer)(field) = host
	}
}

// text is a C string; NULL for an empty one.
func (a *arena) text(name, text string) unsafe.Pointer {
	if text == "" {
		return nil
	}
	if strings.IndexByte(text, 0) >= 0 {
		a.refuse(name + " has a zero byte, which would end it")
	}
	data := unsafe.Pointer(unsafe.SliceData(append([]byte(text), 0)))
	a.pin.Pin(data)
	return data
}

func (a *arena) refuse(message string) {
	if a.err == nil {
		a.err = &Error{Status: ErrInvalidArgument, Message: message}
	}
}

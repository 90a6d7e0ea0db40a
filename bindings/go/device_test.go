// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"os"
	"sync"
	"testing"
	"unsafe"

	. "libindexcache.invalid/go"
	"libindexcache.invalid/go/internal/device"
)

// onCUDA says where tests run: INDEXCACHE_TEST_BACKEND is cpu, which is the default, or cuda.
func onCUDA(t testing.TB) bool {
	t.Helper()
	switch backend := os.Getenv("INDEXCACHE_TEST_BACKEND"); backend {
	case "", "cpu":
		return false
	case "cuda":
		return true
	default:
		t.Fatalf("INDEXCACHE_TEST_BACKEND is %s, not cpu or cuda", backend)
		return false
	}
}

// here is a context on the backend that tests run on.
func here(t testing.TB) *Context {
	t.Helper()
	return withFlags(t, 0)
}

func withFlags(t testing.TB, flags ContextFlags) *Context {
	t.Helper()
	desc := &ContextDesc{Backend: BackendCPU, Flags: flags}
	if onCUDA(t) {
		desc.Backend = BackendCUDA
	}
	context, err := NewContext(desc)
	return closing(t, context, err)
}

// mirrors are the slices of one test that have been given to a GPU, and a stream of the test's own.
type mirrors struct {
	stream device.Stream
	lock   sync.Mutex
	all    []mirror
}

type mirror struct {
	bytes   []byte // the slice's memory
	address uintptr
}

var ofTests sync.Map // testing.TB to *mirrors

func mirrorsOf(t testing.TB) *mirrors {
	if found, ok := ofTests.Load(t); ok {
		return found.(*mirrors)
	}
	found, others := ofTests.LoadOrStore(t, &mirrors{stream: device.NewStream()})
	if !others {
		t.Cleanup(func() {
			ofTests.Delete(t)
			m := found.(*mirrors)
			m.stream.Wait()
			for _, one := range m.all {
				device.Release(one.address)
			}
			m.stream.End()
		})
	}
	return found.(*mirrors)
}

// stream is the test's.
func stream(t testing.TB) Stream {
	t.Helper()
	if !onCUDA(t) {
		return DefaultStream
	}
	return Stream(mirrorsOf(t).stream)
}

// on is a slice as the backend takes it: itself on the CPU, a copy on a GPU, where a part of what has been given is a part
// of that copy.
func on[T Element](t testing.TB, slice []T) DevicePtr[T] {
	t.Helper()
	if !onCUDA(t) {
		return Host(slice)
	}
	first := unsafe.SliceData(slice)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(first)), len(slice)*int(unsafe.Sizeof(*first)))
	return Device[T](mirrorsOf(t).give(bytes))
}

func (m *mirrors) give(bytes []byte) uintptr {
	m.lock.Lock()
	defer m.lock.Unlock()
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))
	for _, one := range m.all {
		first := uintptr(unsafe.Pointer(unsafe.SliceData(one.bytes)))
		if first <= begin && begin+uintptr(len(bytes)) <= first+uintptr(len(one.bytes)) {
			return one.address + begin - first
		}
	}
	one := mirror{bytes, device.Allocate(len(bytes))}
	m.stream.Write(one.address, bytes)
	m.all = append(m.all, one)
	return one.address
}

// upload gives a GPU what the host has written into slices since.
func upload(t testing.TB) {
	t.Helper()
	each(t, func(m *mirrors, one mirror) { m.stream.Write(one.address, one.bytes) })
}

// download waits for the test's stream and puts what a GPU has written into the slices.
func download(t testing.TB) {
	t.Helper()
	each(t, func(m *mirrors, one mirror) { m.stream.Read(one.bytes, one.address) })
}

func each(t testing.TB, do func(*mirrors, mirror)) {
	t.Helper()
	if onCUDA(t) {
		m := mirrorsOf(t)
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, one := range m.all {
			do(m, one)
		}
	}
}

// memory is a workspace.
func memory(t testing.TB, size int) Buffer {
	t.Helper()
	if !onCUDA(t) {
		return NewBuffer(size)
	}
	return DeviceBuffer(on(t, make([]byte, size)).Address(), size)
}

// part of a workspace.
func part(t testing.TB, space []byte, from, size int) Buffer {
	t.Helper()
	if !onCUDA(t) {
		return HostBuffer(space[from:][:size])
	}
	return DeviceBuffer(on(t, space).Address()+uintptr(from), size)
}

// row is IndexView.Row, wherever the view is.
func row(t testing.TB, view *IndexView, number int) []int32 {
	t.Helper()
	return deviceRow(t, view, view.Indices, number, (*IndexView).Row)
}

// rowScores is IndexView.RowScores, likewise.
func rowScores(t testing.TB, view *IndexView, number int) []float32 {
	t.Helper()
	return deviceRow(t, view, view.Scores, number, (*IndexView).RowScores)
}

func deviceRow[T Element](
	t testing.TB, view *IndexView, rows DevicePtr[T], number int, onHost func(*IndexView, int) []T,
) []T {
	t.Helper()
	if !onCUDA(t) {
		return onHost(view, number)
	}
	if number >= int(view.NumRows) {
		t.Fatalf("row %d of %d", number, view.NumRows)
	}
	if rows.IsNil() {
		return nil
	}
	s, length := mirrorsOf(t).stream, make([]byte, 4)
	s.Read(length, view.Lengths.Address()+uintptr(number)*4)
	values := make([]T, *(*int32)(unsafe.Pointer(unsafe.SliceData(length))))
	if len(values) > 0 {
		size := int(unsafe.Sizeof(values[0]))
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*size)
		s.Read(bytes, rows.Address()+uintptr(number)*uintptr(view.RowStride)*uintptr(size))
	}
	return values
}

// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Cache is the indices of one stream of forwards, with the bookkeeping that makes a stale or missing one an error. One
// per micro-batch and per draft model, one goroutine at a time: [ErrConcurrentUse] otherwise.
type Cache struct {
	handle
	host *host
	busy atomic.Bool
	pins *cachePins
	view *C.ic_index_view
}

// cachePins is the Go memory that C remembers between calls.
type cachePins struct {
	lifetime   *runtime.Pinner   // memory and epoch of the desc
	generation []*runtime.Pinner // arrays of the open batch, and of remap
}

// endGeneration unpins, and pins what the next one has.
func (p *cachePins) endGeneration(next ...*runtime.Pinner) {
	for _, pin := range p.generation {
		pin.Unpin()
	}
	p.generation = next
}

func (p *cachePins) release() {
	p.lifetime.Unpin()
	p.endGeneration()
}

// CacheMemorySize is the bytes of device memory that a cache with this desc needs; Memory is not looked at.
func CacheMemorySize(desc *CacheDesc) (int, error) {
	defer runtime.KeepAlive(desc)
	a := newArena(false)
	defer a.end()
	c := desc.build(a)
	return sizeOf(func(size *C.size_t) C.ic_go_result { return C.ic_go_cache_memory_size(c, size) })
}

// NewCache creates a cache.
//
// Errors: [ErrHandleMismatch], [ErrWorkspaceTooSmall] (Memory), [ErrOutOfMemory].
func NewCache(context *Context, desc *CacheDesc) (*Cache, error) {
	a := context.shared().arena()
	c := desc.build(a)
	if a.err != nil {
		a.end()
		return nil, a.err
	}
	var out *C.ic_cache
	err := check(C.ic_go_cache_create(context.raw(), c, &out))
	runtime.KeepAlive(context)
	runtime.KeepAlive(desc)
	if err != nil {
		a.end()
		return nil, err
	}
	shared, pins := context.host.retain(), &cachePins{lifetime: a.pin}
	cache := &Cache{host: shared, pins: pins, view: newIndexView()}
	cache.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_cache_destroy((*C.ic_cache)(pointer))
		pins.release()
		shared.release()
	})
	return cache, nil
}

// enter begins a call on the cache.
func (c *Cache) enter() error {
	if !c.busy.CompareAndSwap(false, true) {
		return ErrConcurrentUse
	}
	return nil
}

// leave ends it, and keeps the cache until then.
func (c *Cache) leave() {
	c.busy.Store(false)
}

// Close destroys the cache; its streams must be done with it.
func (c *Cache) Close() error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	c.close()
	return nil
}

// Begin opens a generation for the rows of batch: one forward through all layers. The previous one's publications are
// gone, unless [BatchKeep] carries them over. The arrays of the batch, those of the pages too, must stay as they are
// until the next Begin or Reset: change those that are used again, block tables for one, when the generation's last
// operation has run, directly before Begin. On failure the previous generation is still open.
//
// Errors: [ErrInvalidArgument], [ErrNullPointer], [ErrOutOfRange], [ErrUnsupported].
func (c *Cache) Begin(batch *Batch) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	a := c.host.arena()
	raw := batch.build(a)
	err := a.err
	if err == nil {
		err = check(C.ic_go_cache_begin(c.raw(), raw))
	}
	if err != nil {
		a.end()
		return err
	}
	c.pins.endGeneration(a.pin)
	return nil
}

// Reset forgets the generation, its batch and every publication.
func (c *Cache) Reset() error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	err := check(C.ic_go_cache_reset(c.raw()))
	if err == nil {
		c.pins.endGeneration()
	}
	return err
}

// Info is the state of the cache.
func (c *Cache) Info() (info CacheInfo, err error) {
	if err := c.enter(); err != nil {
		return info, err
	}
	defer c.leave()
	raw := newCacheInfo()
	if err := check(C.ic_go_cache_get_info(c.raw(), raw)); err != nil {
		return info, err
	}
	info.read(raw)
	return info, nil
}

// View is the publication of a source layer in the current generation, all rows. Of a Shared layer ask for its
// SourceLayer. Valid until the slot is written again.
//
// Errors: [ErrAnyStale], [ErrNoBatch].
func (c *Cache) View(sourceLayer int32) (view IndexView, err error) {
	if err := c.enter(); err != nil {
		return view, err
	}
	defer c.leave()
	return c.take(check(C.ic_go_cache_get_view(c.raw(), C.int32_t(sourceLayer), c.view)))
}

// take copies the view that a call has filled.
func (c *Cache) take(err error) (view IndexView, _ error) {
	if err != nil {
		return view, err
	}
	view.read(c.view)
	view.cache = c
	return view, nil
}

// Faults reads the sticky fault bits that operations of this cache have set, and clears them when clear is true. On CUDA
// it waits for the stream and must not be captured.
func (c *Cache) Faults(clear bool, stream Stream) (Faults, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.leave()
	var number C.int32_t
	if clear {
		number = 1
	}
	var faults C.uint32_t
	err := check(C.ic_go_cache_faults(c.raw(), number, &faults, C.uintptr_t(stream)))
	return Faults(faults), err
}

// ForwardWorkspaceSize is the bytes of workspace of any [Cache.Forward] with up to maxRows rows and keys up to
// maxKeyEnd.
func (c *Cache) ForwardWorkspaceSize(maxRows, maxKeyEnd int32) (int, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.leave()
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_forward_workspace_size(c.raw(), C.int32_t(maxRows), C.int32_t(maxKeyEnd), size)
	})
}

// Forward runs one layer, or one part of its rows. Full: writes NewKeys, scores, selects into the cache, publishes.
// Shared: writes NewKeys when given, finds the source's publication. Then attention when asked. The view has the part's
// indices, valid until the slot is written again.
//
// Errors: [ErrAnyStale], [ErrNoBatch], [ErrPartOverlap], [ErrInvalidArgument], [ErrNullPointer], [ErrMisaligned],
// [ErrWorkspaceTooSmall], [ErrHandleMismatch], [ErrScheduleInvalid], [ErrUnsupported], [ErrOutOfRange].
func (c *Cache) Forward(args *ForwardArgs, stream Stream) (view IndexView, err error) {
	if err := c.enter(); err != nil {
		return view, err
	}
	defer c.leave()
	a := c.host.arena()
	defer a.end()
	raw := args.build(a)
	if a.err != nil {
		return view, a.err
	}
	return c.take(check(C.ic_go_forward(c.raw(), raw, c.view, C.uintptr_t(stream))))
}

// ForwardLayer is [Cache.Forward] with arguments that were built before: nothing is pinned or allocated.
func (c *Cache) ForwardLayer(layer *Layer, stream Stream) (view IndexView, err error) {
	if err := c.enter(); err != nil {
		return view, err
	}
	defer c.leave()
	result := C.ic_go_forward(c.raw(), layer.raw(), c.view, C.uintptr_t(stream))
	runtime.KeepAlive(layer)
	return c.take(check(result))
}

// Remap maps logical indices to slots, once for a whole group of layers. The view, of kind [IndexSlot], is that of the
// arrays in args; leave them alone until the generation ends.
//
// Errors: [ErrAnyStale], [ErrInvalidArgument].
func (c *Cache) Remap(args *RemapArgs, stream Stream) (view IndexView, err error) {
	if err := c.enter(); err != nil {
		return view, err
	}
	defer c.leave()
	a := c.host.arena()
	raw := args.build(a)
	err = a.err
	if err == nil {
		view, err = c.take(check(C.ic_go_cache_remap(c.raw(), raw, c.view, C.uintptr_t(stream))))
	}
	if err != nil {
		a.end()
		return view, err
	}
	// Pinned as long as the generation: the library knows arrays that it has mapped by their addresses.
	c.pins.generation = append(c.pins.generation, a.pin)
	view.Indices, view.Lengths = args.Slots, args.Lengths
	return view, nil
}

// CompactWorkspaceSize is the bytes of workspace of [Cache.Compact].
func (c *Cache) CompactWorkspaceSize(maxRows int32) (int, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.leave()
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_cache_compact_workspace_size(c.raw(), C.int32_t(maxRows), size)
	})
}

// Compact keeps, in speculative decoding, the last accepted row of each request of those that a draft's step 0
// published.
//
// Errors: [ErrAnyStale], [ErrNoBatch], [ErrWorkspaceTooSmall], [ErrInvalidArgument], [ErrOutOfRange].
func (c *Cache) Compact(args *CompactArgs, stream Stream) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	a := c.host.arena()
	defer a.end()
	raw := args.build(a)
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_cache_compact(c.raw(), raw, C.uintptr_t(stream)))
}

// ExportSize is the bytes of an exported block of numRows rows.
func (c *Cache) ExportSize(numRows int32, flags ExportFlags) (int, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.leave()
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_cache_export_size(c.raw(), C.int32_t(numRows), C.uint32_t(flags), size)
	})
}

// Export writes the publication of a source layer as logical indices into buffer, aligned to 8: for another pipeline
// stage, prefill-decode transfer, or a recording. A Go slice is host memory; on CUDA the call then waits for the stream.
//
// Errors: [ErrAnyStale], [ErrBufferTooSmall], [ErrInvalidArgument].
func (c *Cache) Export(sourceLayer int32, flags ExportFlags, location Memory, buffer Buffer, stream Stream) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	a := newArena(c.host.cuda && location == MemoryDevice) // what is not pinned by CUDA is there when the call returns
	defer a.end()
	data := new(unsafe.Pointer)
	buffer.store(a, unsafe.Pointer(data))
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_cache_export(c.raw(), C.int32_t(sourceLayer), C.uint32_t(flags), C.int32_t(location), *data,
		C.size_t(buffer.size), C.uintptr_t(stream)))
}

// Import publishes an exported block, which lies in host memory aligned to 8, in this generation under publishLayer, or
// with -1 under its own source layer. The header is what the block says of itself.
//
// Errors: [ErrParse], [ErrScheduleHash], [ErrNumerics], [ErrHandleMismatch], [ErrInvalidArgument], [ErrOutOfRange].
func (c *Cache) Import(
	publishLayer int32, flags ImportFlags, buffer Buffer, stream Stream,
) (header ExportHeader, err error) {
	if err := c.enter(); err != nil {
		return header, err
	}
	defer c.leave()
	a := newArena(false) // host memory, which CUDA has taken over when the call returns unless it was pinned for it
	defer a.end()
	data := new(unsafe.Pointer)
	buffer.store(a, unsafe.Pointer(data))
	var raw C.ic_export_header
	err = check(C.ic_go_cache_import(c.raw(), C.int32_t(publishLayer), C.uint32_t(flags), *data,
		C.size_t(buffer.size), &raw, C.uintptr_t(stream)))
	if err == nil {
		header.read(&raw)
	}
	return header, err
}

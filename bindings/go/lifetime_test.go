// SPDX-License-Identifier: Apache-2.0

package indexcache

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// collected runs the collector until done is true.
func collected(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s is never released", what)
}

func TestMessagesArriveAndAPanicDoesNotLeave(t *testing.T) {
	var messages []string
	desc := &ContextDesc{Backend: BackendCPU, LogLevel: LogDebug}
	context, err := NewContextWithLog(desc, func(level LogLevel, message string) {
		if level == LogDebug {
			messages = append(messages, message)
		}
		panic("on purpose")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer context.Close()
	if len(messages) != 1 || !strings.Contains(messages[0], "backend") {
		t.Error(messages)
	}
}

// What is forgotten is released: the context's log function, last, after the handles that were made from it.
func TestHandlesAreCollected(t *testing.T) {
	var freed atomic.Bool
	func() {
		log := func(LogLevel, string) {}
		kept := new([64]byte)
		runtime.AddCleanup(kept, func(struct{}) { freed.Store(true) }, struct{}{})
		context, err := NewContextWithLog(&ContextDesc{Backend: BackendCPU}, func(level LogLevel, message string) {
			kept[0]++
			log(level, message)
		})
		if err != nil {
			t.Fatal(err)
		}
		topk, err := NewTopk(context, &TopkDesc{K: 8})
		if err != nil {
			t.Fatal(err)
		}
		if err := context.Close(); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.GC()
		if freed.Load() {
			t.Error("the log function ends before the last handle")
		}
		runtime.KeepAlive(topk)
	}()
	collected(t, "the log function", freed.Load)
}

// watched is an array that counts when it is collected.
func watched(freed *atomic.Int32) []int32 {
	kept := new([1024]int32)
	kept[0] = 1
	runtime.AddCleanup(kept, func(freed *atomic.Int32) { freed.Add(1) }, freed)
	return kept[:]
}

func notCollected(t *testing.T, what string, freed *atomic.Int32) {
	t.Helper()
	count := freed.Load()
	for range 3 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if freed.Load() != count {
		t.Fatalf("%s is collected though C has its address", what)
	}
}

// The arrays of an open batch, and of remap in it, stay until the generation ends; the memory of a cache until that ends.
func TestAnOpenBatchKeepsItsArrays(t *testing.T) {
	open := func(handle interface{ Close() error }, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { handle.Close() })
	}
	context, err := NewContext(&ContextDesc{Backend: BackendCPU})
	open(context, err)
	schedule, err := NewSchedule(&ScheduleDesc{Pattern: "F", NumLayers: 1})
	open(schedule, err)
	indexer, err := NewIndexer(context, &IndexerDesc{NumHeads: 1, HeadDim: 32, Dtype: DtypeF32})
	open(indexer, err)
	topk, err := NewTopk(context, &TopkDesc{K: 4})
	open(topk, err)
	var epoch, batches atomic.Int32
	word := (*uint32)(unsafe.Pointer(unsafe.SliceData(watched(&epoch))))
	cache, err := NewCache(context, &CacheDesc{
		Schedule: schedule, Indexer: indexer, Topk: topk, MaxRows: 1, Epoch: Host(unsafe.Slice(word, 1)),
	})
	open(cache, err)
	begin := func() error {
		return cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 1, KeyEnd: Host(watched(&batches))})
	}
	for generation := range int32(3) {
		if err := begin(); err != nil {
			t.Fatal(err)
		}
		collected(t, "the array of a batch that has ended", func() bool { return batches.Load() == generation })
		notCollected(t, "the array of the open batch", &batches)
	}
	if err := cache.Begin(&Batch{NumRows: 9}); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	notCollected(t, "the array of the batch that is still open", &batches)
	if err := cache.Reset(); err != nil {
		t.Fatal(err)
	}
	collected(t, "the array of a batch that was reset", func() bool { return batches.Load() == 3 })
	notCollected(t, "the epoch", &epoch)
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	cache.Close()
	collected(t, "what a closed cache had", func() bool { return batches.Load() == 4 && epoch.Load() == 1 })
}

// Arrays of a Layer stay as long as C has their addresses, and no longer.
func TestPinnedMemoryIsReleased(t *testing.T) {
	var freed atomic.Int32
	array := func() []int32 { return watched(&freed) }
	layer, err := NewLayer(nil, &ForwardArgs{Hint: Host(array())})
	if err != nil {
		t.Fatal(err)
	}
	notCollected(t, "the array of a Layer", &freed)
	layer.Close()
	collected(t, "the array of a closed Layer", func() bool { return freed.Load() == 1 })

	forgotten, err := NewLayer(nil, &ForwardArgs{Hint: Host(array())})
	if err != nil || forgotten.raw() == nil {
		t.Fatal(err)
	}
	collected(t, "the array of a forgotten Layer", func() bool { return freed.Load() == 2 })
}

// Slices are refused where operations go on after the call; addresses are not looked at.
func TestSlicesAreRefusedOnCUDA(t *testing.T) {
	a := newArena(true)
	defer a.end()
	queries := &Queries{Q: Device[uint16](0x7f0000000000), W: Device[float32](0x7f0000001000)}
	c := queries.build(a)
	if a.err != nil || *(*uintptr)(unsafe.Pointer(&c.q)) != 0x7f0000000000 {
		t.Error(a.err)
	}
	(&Queries{W: Host([]float32{1})}).build(a)
	if !errors.Is(a.err, ErrInvalidArgument) || !strings.Contains(a.err.Error(), "CUDA") {
		t.Error(a.err)
	}
	b := newArena(true)
	defer b.end()
	(&ForwardArgs{Workspace: NewBuffer(256)}).build(b)
	if !errors.Is(b.err, ErrInvalidArgument) {
		t.Error(b.err)
	}
	d := newArena(true) // arrays of the host are copied by the library: fine
	defer d.end()
	batch := (&Batch{BlockTables: []BlockTable{{Pages: Device[int32](8), NumBlocks: 1}}}).build(d)
	if d.err != nil || batch.num_block_tables != 1 {
		t.Error(d.err)
	}
}

func TestBuffersAreAligned(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 100000} {
		buffer := NewBuffer(size)
		if uintptr(buffer.host)%256 != 0 || len(buffer.Bytes()) != size {
			t.Error(size, buffer)
		}
	}
}

func TestViewsOfGPUMemoryAndClosedCachesAreNotRead(t *testing.T) {
	for word, view := range map[string]*IndexView{
		"GPU":           {NumRows: 1, cache: &Cache{host: &host{cuda: true}}},
		"closed":        {NumRows: 1, cache: &Cache{host: &host{}}},
		"does not have": {NumRows: 1},
	} {
		func() {
			defer func() {
				if said, _ := recover().(string); !strings.Contains(said, word) {
					t.Errorf("%q: %s", word, said)
				}
			}()
			view.Row(1)
		}()
	}
}

// Neighbours in memory do not lengthen a text.
func TestTextsEnd(t *testing.T) {
	a := newArena(false)
	defer a.end()
	text := strings.Repeat("F", 32)
	var texts [100]unsafe.Pointer
	for i := range texts {
		texts[i] = a.text("pattern", text)
	}
	for _, c := range texts {
		if end := *(*byte)(unsafe.Add(c, len(text))); end != 0 {
			t.Fatal(end)
		}
	}
	if a.text("pattern", "") != nil {
		t.Error("an empty text is not NULL")
	}
}

// Every call on a cache that another goroutine is in gives ErrConcurrentUse and does nothing.
func TestACacheInUse(t *testing.T) {
	cache := &Cache{host: &host{}, pins: &cachePins{lifetime: new(runtime.Pinner)}}
	calls := map[string]func() error{
		"Begin":                func() error { return cache.Begin(&Batch{}) },
		"Reset":                cache.Reset,
		"Info":                 func() error { _, err := cache.Info(); return err },
		"View":                 func() error { _, err := cache.View(0); return err },
		"Faults":               func() error { _, err := cache.Faults(false, 0); return err },
		"ForwardWorkspaceSize": func() error { _, err := cache.ForwardWorkspaceSize(1, 1); return err },
		"Forward":              func() error { _, err := cache.Forward(&ForwardArgs{}, 0); return err },
		"ForwardLayer":         func() error { _, err := cache.ForwardLayer(nil, 0); return err },
		"Remap":                func() error { _, err := cache.Remap(&RemapArgs{}, 0); return err },
		"CompactWorkspaceSize": func() error { _, err := cache.CompactWorkspaceSize(1); return err },
		"Compact":              func() error { return cache.Compact(&CompactArgs{}, 0) },
		"ExportSize":           func() error { _, err := cache.ExportSize(1, 0); return err },
		"Export":               func() error { return cache.Export(0, 0, MemoryHost, Buffer{}, 0) },
		"Import":               func() error { _, err := cache.Import(0, 0, Buffer{}, 0); return err },
		"Close":                cache.Close,
	}
	if methods := reflect.TypeOf(cache).NumMethod(); methods != len(calls) {
		t.Errorf("a Cache has %d methods, %d are tried", methods, len(calls))
	}
	if err := cache.enter(); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		if err := call(); err != ErrConcurrentUse {
			t.Errorf("%s: %v", name, err)
		}
	}
	cache.leave()
	for name, call := range calls {
		if err := call(); errors.Is(err, ErrConcurrentUse) {
			t.Errorf("%s does not end", name)
		}
	}
}

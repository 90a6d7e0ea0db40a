// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	. "libindexcache.invalid/go"
)

func TestStatusesAreErrors(t *testing.T) {
	err := fmt.Errorf("step 3: %w", &Error{Status: ErrStaleUnpublished, Message: "layer 2"})
	if !errors.Is(err, ErrStaleUnpublished) || !errors.Is(err, ErrAnyStale) {
		t.Error(err)
	}
	if errors.Is(err, ErrStale) || errors.Is(err, ErrNoBatch) || errors.Is(err, ErrConcurrentUse) {
		t.Error("found what is not there")
	}
	if errors.Is(&Error{Status: ErrPartOverlap}, ErrAnyStale) || StatusOK.IsStale() {
		t.Error("stale")
	}
	for status := range Status(100) {
		stale := status >= ErrStale && status < ErrNoBatch
		if status.IsStale() != stale || errors.Is(&Error{Status: status}, ErrAnyStale) != stale {
			t.Error(status)
		}
	}
	if text := ErrStale.Error(); !strings.HasPrefix(text, "IC_ERROR_STALE: ") {
		t.Error(text)
	}
}

func TestDescriptions(t *testing.T) {
	context := here(t)
	_, err := NewContext(&ContextDesc{})
	refused(t, err, ErrInvalidArgument, "backend", "0")
	_, err = NewContext(nil)
	refused(t, err, ErrNullPointer, "desc")
	_, err = NewTopk(context, &TopkDesc{K: 4097})
	refused(t, err, ErrInvalidArgument, "k", "4097", "4096")
	_, err = NewTopk(context, &TopkDesc{K: 8, ForceFirst: 1})
	refused(t, err, ErrUnsupported, "force_first")
	_, err = NewTopk(nil, &TopkDesc{K: 8})
	refused(t, err, ErrNullPointer, "context")
	_, err = NewIndexer(context, &IndexerDesc{NumHeads: 4, HeadDim: 48, Dtype: DtypeF32})
	refused(t, err, ErrInvalidArgument, "head_dim", "48")
	_, err = NewIndexer(context, &IndexerDesc{NumHeads: 4, HeadDim: 32, Dtype: DtypeFP4})
	refused(t, err, ErrUnsupported, "FP4")
	_, err = NewAttention(context, &AttentionDesc{NumHeads: 1, DLatent: 17})
	refused(t, err, ErrInvalidArgument, "d_latent", "17")
	_, err = NewCache(context, &CacheDesc{})
	refused(t, err, ErrNullPointer, "schedule")
	_, err = CacheMemorySize(&CacheDesc{})
	refused(t, err, ErrNullPointer, "schedule")
	_, err = NewSchedule(&ScheduleDesc{NumLayers: 4, IndexerLayers: []int32{0, 2}, Flags: 0x80})
	refused(t, err, ErrUnknownFlag, "0x80")
	_, err = NewSchedule(&ScheduleDesc{NumLayers: 2, Pattern: "FS\x00S"})
	refused(t, err, ErrInvalidArgument, "pattern", "zero byte")
}

func TestHandlesOfTwoContexts(t *testing.T) {
	one, other := all(t, here(t), "FS", 1), all(t, here(t), "FS", 1)
	_, err := NewCache(one.context, &CacheDesc{Schedule: one.schedule, Indexer: one.indexer, Topk: other.topk, MaxRows: 1})
	refused(t, err, ErrHandleMismatch, "topk")
}

func TestADeviceThatIsNotThere(t *testing.T) {
	_, err := NewContext(&ContextDesc{Backend: BackendCUDA, Device: 1000})
	if !errors.Is(err, ErrCUDANotBuilt) && !errors.Is(err, ErrCUDANoDriver) && !errors.Is(err, ErrCUDANoDevice) &&
		!errors.Is(err, ErrCUDAUnsupportedDevice) {
		t.Fatal(err)
	}
	if count := got(DeviceCount(BackendCPU))(t); count != 1 {
		t.Error(count)
	}
	_, err = DeviceCount(7)
	refused(t, err, ErrInvalidArgument, "backend", "7")
	_, err = GetDeviceCaps(BackendCPU, 3)
	refused(t, err, ErrInvalidArgument, "device", "3")
	caps := got(GetDeviceCaps(BackendCPU, 0))(t)
	if caps.Name == "" || caps.MemoryBytes == 0 || caps.MaxK != 4096 || caps.Backend != BackendCPU {
		t.Errorf("%+v", caps)
	}
}

func TestASharedLayerBeforeItsSource(t *testing.T) {
	h := all(t, here(t), "FSFS", 1)
	_, err := h.cache.View(0)
	refused(t, err, ErrNoBatch, "ic_cache_begin")
	ok(t, h.cache.Begin(oneRow(t, 8)))
	shared := &ForwardArgs{Layer: 1, RowCount: AllRows}
	_, err = h.cache.Forward(shared, stream(t))
	refused(t, err, ErrStaleUnpublished, "layer 0")
	size, err := h.cache.ForwardWorkspaceSize(1, 8)
	full := &ForwardArgs{
		RowCount: AllRows, Workspace: workspace(t, size, err),
		Queries: &Queries{Q: on(t, numbers(heads*dim, 1)), W: on(t, numbers(heads, 2))},
		Keys:    contiguous(t, numbers(8*dim, 3), dim),
	}
	if view := got(h.cache.Forward(full, stream(t)))(t); len(row(t, &view, 0)) != topK {
		t.Error(row(t, &view, 0))
	}
	if view := got(h.cache.Forward(shared, stream(t)))(t); view.SourceLayer != 0 {
		t.Error(view.SourceLayer)
	}
	_, err = h.cache.Forward(full, stream(t))
	refused(t, err, ErrPartOverlap, "layer 0")
	ok(t, h.cache.Begin(oneRow(t, 8)))
	_, err = h.cache.Forward(shared, stream(t))
	refused(t, err, ErrStale, "layer 0")
	if !errors.Is(err, ErrAnyStale) {
		t.Error(err)
	}
	_, err = h.cache.Forward(nil, stream(t))
	refused(t, err, ErrNullPointer, "args")
	ok(t, h.cache.Reset())
	if info := got(h.cache.Info())(t); info.NumRows != -1 {
		t.Errorf("%+v", info)
	}
}

func TestTheCPUHasOneStream(t *testing.T) {
	h := all(t, cpu(t), "FS", 1)
	ok(t, h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: Host([]int32{8})}))
	_, err := h.cache.Forward(&ForwardArgs{Layer: 1, RowCount: AllRows}, Stream(8))
	refused(t, err, ErrInvalidArgument, "stream")
}

func TestTheCPULooksAtValuesFirst(t *testing.T) {
	h, p := all(t, cpu(t), "FS", 1), newProblem(1, 4)
	batch := &Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: Host([]int32{9})}
	refused(t, h.cache.Begin(batch), ErrOutOfRange, "key_end", "9", "8")
	batch.KeyEnd = Host([]int32{8})
	ok(t, h.cache.Begin(batch))
	_, err := h.cache.Forward(&ForwardArgs{
		RowCount: AllRows, Workspace: NewBuffer(got(h.cache.ForwardWorkspaceSize(1, 8))(t)),
		Queries: &Queries{Q: Host(p.q), W: Host(p.w)},
		Keys:    &Pool{Data: Host(p.keys), Capacity: 4, Layout: LayoutContiguous},
	}, DefaultStream)
	refused(t, err, ErrOutOfRange, "keys")
}

// The CPU looks when the batch begins, a GPU when a layer runs.
func TestValuesInDeviceMemory(t *testing.T) {
	h, p := all(t, withFlags(t, ContextCheckValues), "FS", 1), newProblem(1, 8)
	err := h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: on(t, []int32{9})})
	if onCUDA(t) {
		ok(t, err)
		_, err = h.cache.Forward(p.full(t, 0, memory(t, got(h.cache.ForwardWorkspaceSize(1, 8))(t))), stream(t))
	}
	refused(t, err, ErrOutOfRange, "key_end")
	if _, err := h.cache.View(0); err == nil {
		t.Error("published")
	}
}

// Slices and rows of views are for the CPU: on a GPU operations go on after the call, and read GPU memory.
func TestSlicesAreMemoryOfTheCPU(t *testing.T) {
	h, p := all(t, here(t), "FS", 1), newProblem(1, 8)
	same := func(err error) {
		t.Helper()
		if onCUDA(t) {
			refused(t, err, ErrInvalidArgument, "Go slice", "CUDA")
		} else {
			ok(t, err)
		}
	}
	same(h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: Host([]int32{8})}))
	ok(t, h.cache.Begin(oneRow(t, 8)))
	full := p.full(t, 0, memory(t, got(h.cache.ForwardWorkspaceSize(1, 8))(t)))
	full.Queries.W = Host(p.w)
	_, err := h.cache.Forward(full, stream(t))
	same(err)
	ok(t, h.cache.Begin(oneRow(t, 8)))
	full.Queries.W = on(t, p.w)
	view := got(h.cache.Forward(full, stream(t)))(t)
	defer func() {
		if said, _ := recover().(string); strings.Contains(said, "GPU memory") != onCUDA(t) {
			t.Error(said)
		}
	}()
	sameIndices(t, view.Row(0), p.expected(0, 8))
}

func TestValuesAndMemory(t *testing.T) {
	h := all(t, here(t), "FS", 2)
	refused(t, h.cache.Begin(&Batch{NumRows: 3, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: on(t, []int32{8, 8, 8})}),
		ErrInvalidArgument, "num_rows", "3", "2")
	refused(t, h.cache.Begin(&Batch{Flags: BatchTreeDraft | BatchKeep}), ErrUnsupported, "TREE_DRAFT")
	refused(t, h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8}), ErrNullPointer, "key_end")
	ok(t, h.cache.Begin(oneRow(t, 8)))
	size := got(h.cache.ForwardWorkspaceSize(1, 8))(t)
	space := NewBuffer(size + 8).Bytes()
	args := func(workspace Buffer) *ForwardArgs {
		return &ForwardArgs{
			RowCount: AllRows, Workspace: workspace,
			Queries: &Queries{Q: on(t, numbers(heads*dim, 1)), W: on(t, numbers(heads, 2))},
			Keys:    contiguous(t, numbers(8*dim, 3), dim),
		}
	}
	_, err := h.cache.Forward(args(part(t, space, 0, size-1)), stream(t))
	refused(t, err, ErrWorkspaceTooSmall, strconv.Itoa(size-1), strconv.Itoa(size))
	_, err = h.cache.Forward(args(part(t, space, 8, size)), stream(t))
	refused(t, err, ErrMisaligned, "256")
	_, err = h.cache.Forward(args(DeviceBuffer(0, size)), stream(t))
	refused(t, err, ErrNullPointer, "workspace")
}

func TestSizesOfWorkspaces(t *testing.T) {
	h := all(t, here(t), "FS", 2)
	for word, sizes := range map[string][]func(int32, int32) (int, error){
		"max_rows": {
			h.indexer.ScoresWorkspaceSize, h.topk.SelectWorkspaceSize, h.topk.MergeWorkspaceSize,
			h.attention.WorkspaceSize, h.cache.ForwardWorkspaceSize,
			func(rows, _ int32) (int, error) { return h.cache.CompactWorkspaceSize(rows) },
		},
		"num_rows": {func(rows, _ int32) (int, error) { return h.cache.ExportSize(rows, 0) }},
	} {
		for _, size := range sizes {
			_, err := size(-1, 8)
			refused(t, err, ErrInvalidArgument, word, "-1")
		}
	}
	_, err := h.indexer.ScoresWorkspaceSize(8, -1)
	refused(t, err, ErrInvalidArgument, "max_key_end", "-1")
	_, err = h.topk.SelectWorkspaceSize(8, -1)
	refused(t, err, ErrInvalidArgument, "max_end", "-1")
	_, err = h.topk.MergeWorkspaceSize(8, -1)
	refused(t, err, ErrInvalidArgument, "max_parts", "-1")
	_, err = h.attention.WorkspaceSize(8, -1)
	refused(t, err, ErrInvalidArgument, "max_k", "-1")
}

func TestClosedHandles(t *testing.T) {
	h := all(t, here(t), "FS", 1)
	ok(t, h.cache.Begin(oneRow(t, 4)))
	layer := got(NewLayer(h.context, &ForwardArgs{Layer: 1, RowCount: AllRows}))(t)
	ok(t, layer.Close())
	ok(t, layer.Close())
	_, err := h.cache.ForwardLayer(layer, stream(t))
	refused(t, err, ErrNullPointer, "args")
	ok(t, h.schedule.Close())
	_, err = h.schedule.Pattern()
	refused(t, err, ErrNullPointer, "schedule")
	_, err = h.cache.Info() // keeps what it was made from
	ok(t, err)
	ok(t, h.cache.Close())
	_, err = h.cache.Info()
	refused(t, err, ErrNullPointer, "cache")
	ok(t, h.cache.Close())
}

func TestTheLibraryIsTheOneOfTheHeader(t *testing.T) {
	if major, minor, _ := Version(); major != VersionMajor || minor != VersionMinor {
		t.Error(major, minor)
	}
	if !strings.Contains(BuildInfo(), `"version"`) {
		t.Error(BuildInfo())
	}
}

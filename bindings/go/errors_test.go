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
	context := cpu(t)
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
	one, other := all(t, cpu(t), "FS", 1), all(t, cpu(t), "FS", 1)
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
	h := all(t, cpu(t), "FSFS", 1)
	_, err := h.cache.View(0)
	refused(t, err, ErrNoBatch, "ic_cache_begin")
	ok(t, h.cache.Begin(oneRow(8)))
	shared := &ForwardArgs{Layer: 1, RowCount: AllRows}
	_, err = h.cache.Forward(shared, DefaultStream)
	refused(t, err, ErrStaleUnpublished, "layer 0")
	size, err := h.cache.ForwardWorkspaceSize(1, 8)
	full := &ForwardArgs{
		RowCount: AllRows, Workspace: workspace(t, size, err),
		Queries: &Queries{Q: Host(numbers(heads*dim, 1)), W: Host(numbers(heads, 2))},
		Keys:    contiguous(numbers(8*dim, 3), dim),
	}
	if view := got(h.cache.Forward(full, DefaultStream))(t); len(view.Row(0)) != topK {
		t.Error(view.Row(0))
	}
	if view := got(h.cache.Forward(shared, DefaultStream))(t); view.SourceLayer != 0 {
		t.Error(view.SourceLayer)
	}
	_, err = h.cache.Forward(full, DefaultStream)
	refused(t, err, ErrPartOverlap, "layer 0")
	ok(t, h.cache.Begin(oneRow(8)))
	_, err = h.cache.Forward(shared, DefaultStream)
	refused(t, err, ErrStale, "layer 0")
	if !errors.Is(err, ErrAnyStale) {
		t.Error(err)
	}
	_, err = h.cache.Forward(full, Stream(8)) // the CPU has one stream only
	refused(t, err, ErrInvalidArgument, "stream")
	_, err = h.cache.Forward(nil, DefaultStream)
	refused(t, err, ErrNullPointer, "args")
	ok(t, h.cache.Reset())
	if info := got(h.cache.Info())(t); info.NumRows != -1 {
		t.Errorf("%+v", info)
	}
}

func TestValuesAndMemory(t *testing.T) {
	h := all(t, cpu(t), "FS", 2)
	refused(t, h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: Host([]int32{9})}),
		ErrOutOfRange, "key_end", "9", "8")
	refused(t, h.cache.Begin(&Batch{NumRows: 3, NumSeqs: 1, MaxKeyEnd: 8, KeyEnd: Host([]int32{8, 8, 8})}),
		ErrInvalidArgument, "num_rows", "3", "2")
	refused(t, h.cache.Begin(&Batch{Flags: BatchTreeDraft | BatchKeep}), ErrUnsupported, "TREE_DRAFT")
	refused(t, h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 8}), ErrNullPointer, "key_end")
	ok(t, h.cache.Begin(oneRow(8)))
	size := got(h.cache.ForwardWorkspaceSize(1, 8))(t)
	memory := NewBuffer(size + 8)
	args := func(workspace Buffer) *ForwardArgs {
		return &ForwardArgs{
			RowCount: AllRows, Workspace: workspace,
			Queries: &Queries{Q: Host(numbers(heads*dim, 1)), W: Host(numbers(heads, 2))},
			Keys:    contiguous(numbers(8*dim, 3), dim),
		}
	}
	_, err := h.cache.Forward(args(HostBuffer(memory.Bytes()[:256])), DefaultStream)
	refused(t, err, ErrWorkspaceTooSmall, "256", strconv.Itoa(size))
	_, err = h.cache.Forward(args(HostBuffer(memory.Bytes()[8:])), DefaultStream)
	refused(t, err, ErrMisaligned, "256")
	_, err = h.cache.Forward(args(DeviceBuffer(0, size)), DefaultStream)
	refused(t, err, ErrNullPointer, "workspace")
	outside := args(memory)
	outside.Keys = contiguous(numbers(4*dim, 3), dim)
	_, err = h.cache.Forward(outside, DefaultStream)
	refused(t, err, ErrOutOfRange, "keys")
	if memory.Size() != size+8 {
		t.Error(memory.Size())
	}
}

func TestSizesOfWorkspaces(t *testing.T) {
	h := all(t, cpu(t), "FS", 2)
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
	h := all(t, cpu(t), "FS", 1)
	ok(t, h.cache.Begin(oneRow(4)))
	layer := got(NewLayer(h.context, &ForwardArgs{Layer: 1, RowCount: AllRows}))(t)
	ok(t, layer.Close())
	ok(t, layer.Close())
	_, err := h.cache.ForwardLayer(layer, DefaultStream)
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

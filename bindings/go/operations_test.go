// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"testing"

	. "libindexcache.invalid/go"
	"libindexcache.invalid/go/internal/callbacks"
)

// Each operation once, against plain arithmetic: that every argument arrives where it belongs.
type problem struct {
	q, w, keys []float32
}

func newProblem(rows, count int) problem {
	return problem{numbers(rows*heads*dim, 0.3), numbers(rows*heads, 1.1), numbers(count*dim, 0.7)}
}

func (p problem) expected(row int, keyEnd int32) []int32 {
	return best(p.q[row*heads*dim:], p.w[row*heads:], p.keys, int(keyEnd))
}

func (p problem) full(layer int32, scratch Buffer) *ForwardArgs {
	return &ForwardArgs{
		Layer: layer, RowCount: AllRows, Workspace: scratch,
		Queries: &Queries{Q: Host(p.q), W: Host(p.w)}, Keys: contiguous(p.keys, dim),
	}
}

// attended is what attention gives for one row, in double precision.
func attended(q, kv []float32, indices []int32) []float64 {
	const width = latent + rope
	result, sum := make([]float64, latent), 0.0
	for _, s := range indices {
		dot := 0.0
		for d := range width {
			dot += float64(q[d]) * float64(kv[int(s)*width+d])
		}
		weight := math.Exp(float64(float32(0.2)) * dot)
		sum += weight
		for d := range latent {
			result[d] += weight * float64(kv[int(s)*width+d])
		}
	}
	for d := range result {
		result[d] /= sum
	}
	return result
}

func expectClose(t *testing.T, values []float32, expected []float64) {
	t.Helper()
	for i, value := range values {
		if len(values) != len(expected) || math.Abs(float64(value)-expected[i]) > 1e-5 {
			t.Fatalf("%v instead of %v", values, expected)
		}
	}
}

func TestForwardPagedWithNewKeysAndAttention(t *testing.T) {
	const page = 16
	h, p := all(t, cpu(t), "FS", 2), newProblem(2, manyKeys)
	pages := []int32{2, 0, 1}
	slots := make([]int64, manyKeys)
	for position := range slots {
		slots[position] = int64(pages[position/page])*page + int64(position%page)
	}
	pool, kv := make([]float32, 3*page*dim), numbers(manyKeys*(latent+rope), 2)
	attentionQ, out, lse := numbers(2*(latent+rope), 4), make([]float32, 2*latent), make([]float32, 2)
	keyEnd := []int32{manyKeys, topK - 1} // the second row sees less than it may select
	ok(t, h.cache.Begin(&Batch{
		NumRows: 2, NumSeqs: 1, MaxKeyEnd: manyKeys, RowSeq: Host([]int32{0, 0}), KeyEnd: Host(keyEnd),
		BlockTables: []BlockTable{{Pages: Host(pages), NumBlocks: 3, PageTokens: page}},
	}))
	runtime.GC() // the arrays of the batch are only pinned now
	size, err := h.cache.ForwardWorkspaceSize(2, manyKeys)
	scratch := workspace(t, size, err)
	full := p.full(0, scratch)
	full.Keys = &Pool{Data: Host(pool), Capacity: 3, Layout: LayoutPaged}
	full.NewKeys = &NewKeys{Keys: Host(p.keys), Slots: Host(slots), Count: manyKeys}
	view := got(h.cache.Forward(full, DefaultStream))(t)
	if view.NumRows != 2 || view.K != topK || view.Kind != IndexLogical || view.Generation != 1 {
		t.Fatalf("%+v", view)
	}
	for row, end := range keyEnd {
		sameIndices(t, view.Row(row), p.expected(row, end))
		if scores := view.RowScores(row); len(scores) != int(min(end, topK)) {
			t.Error(scores)
		}
	}
	_, err = h.cache.Forward(&ForwardArgs{
		Layer: 1, RowCount: AllRows, Workspace: scratch,
		Attention: &AttentionArgs{
			Q: Host(attentionQ), KV: contiguous(kv, latent+rope), Out: Host(out), LSE: Host(lse),
		},
	}, DefaultStream)
	ok(t, err)
	for row := range 2 {
		expected := attended(attentionQ[row*(latent+rope):], kv, p.expected(row, keyEnd[row]))
		expectClose(t, out[row*latent:][:latent], expected)
		if lse[row] == 0 {
			t.Error("no LSE")
		}
	}
	if faults := got(h.cache.Faults(true, DefaultStream))(t); faults != 0 {
		t.Error(faults)
	}
	at := int(slots[39]) * dim
	equal(t, pool[at:at+dim], p.keys[39*dim:][:dim], func(a, b float32) bool { return a == b })
}

func TestPartsAndForcedMode(t *testing.T) {
	h, p := all(t, cpu(t), "FS", 2), newProblem(2, manyKeys)
	keyEnd := []int32{30, 40}
	ok(t, h.cache.Begin(&Batch{NumRows: 2, NumSeqs: 1, MaxKeyEnd: 40, KeyEnd: Host(keyEnd)}))
	size, err := h.cache.ForwardWorkspaceSize(2, 40)
	scratch := workspace(t, size, err)
	for _, row := range []int{1, 0} {
		view := got(h.cache.Forward(&ForwardArgs{
			Layer: 1, Mode: LayerFull, RowBegin: int32(row), RowCount: 1, Workspace: scratch, Keys: contiguous(p.keys, dim),
			Queries: &Queries{Q: Host(p.q[row*heads*dim:]), W: Host(p.w[row*heads:])},
		}, DefaultStream))(t)
		sameIndices(t, view.Row(0), p.expected(row, keyEnd[row]))
	}
	view := got(h.cache.View(1))(t)
	sameIndices(t, view.Row(0), p.expected(0, 30))
	sameIndices(t, view.Row(1), p.expected(1, 40))
}

func TestScoresThenSelectThenMerge(t *testing.T) {
	h, p := all(t, cpu(t), "F", 1), newProblem(1, manyKeys)
	scores := make([]float32, manyKeys)
	size, err := h.indexer.ScoresWorkspaceSize(1, manyKeys)
	ok(t, h.indexer.Scores(oneRow(manyKeys), &ScoresArgs{
		RowCount: AllRows, Queries: &Queries{Q: Host(p.q), W: Host(p.w)}, Keys: contiguous(p.keys, dim),
		Scores: Host(scores), Workspace: workspace(t, size, err),
	}, DefaultStream))

	// Two halves, each selected on its own, merged: what all keys at once give.
	width := int(KPadded(topK))
	indices, lengths, selected := make([]int32, 2*width), make([]int32, 2), make([]float32, 2*width)
	size, err = h.topk.SelectWorkspaceSize(1, manyKeys)
	scratch := workspace(t, size, err)
	for half := range 2 {
		ok(t, h.topk.Select(&SelectArgs{
			Scores: Host(scores), Begin: Host([]int32{int32(half) * 20}), End: Host([]int32{int32(half)*20 + 20}),
			NumRows: 1, MaxEnd: manyKeys, Indices: Host(indices[half*width:]), Lengths: Host(lengths[half:]),
			SelectedScores: Host(selected[half*width:]), Workspace: scratch,
		}, DefaultStream))
	}
	sameIndices(t, lengths, []int32{topK, topK})
	merged, length := make([]int32, width), make([]int32, 1)
	size, err = h.topk.MergeWorkspaceSize(1, 2)
	ok(t, h.topk.Merge(&MergeArgs{
		InIndices: Host(indices), InScores: Host(selected), InLengths: Host(lengths), NumParts: 2, NumRows: 1,
		Indices: Host(merged), Lengths: Host(length), Workspace: workspace(t, size, err),
	}, DefaultStream))
	sameIndices(t, length, []int32{topK})
	sameIndices(t, merged[:topK], p.expected(0, manyKeys))
	if merged[topK] != -1 {
		t.Error(merged)
	}
}

func TestExportImportRemapAttentionAloneAndOverlap(t *testing.T) {
	sender, receiver := all(t, cpu(t), "FSFS", 1), all(t, cpu(t), "FSFS", 1)
	p := newProblem(1, manyKeys)
	expected := p.expected(0, manyKeys)
	size, err := sender.cache.ForwardWorkspaceSize(1, manyKeys)
	scratch := workspace(t, size, err)
	ok(t, sender.cache.Begin(oneRow(manyKeys)))
	_, err = sender.cache.Forward(p.full(0, scratch), DefaultStream)
	ok(t, err)
	size = got(sender.cache.ExportSize(1, ExportScores))(t)
	if plain := got(sender.cache.ExportSize(1, 0))(t); size != plain+4*topK {
		t.Error(size, plain)
	}
	block := NewBuffer(size)
	ok(t, sender.cache.Export(0, ExportScores, MemoryHost, block, DefaultStream))
	refused(t, sender.cache.Export(0, 0, 9, NewBuffer(size), DefaultStream), ErrInvalidArgument, "location", "9")
	refused(t, sender.cache.Export(0, 0, MemoryHost, HostBuffer(block.Bytes()[:8]), DefaultStream), ErrBufferTooSmall)

	ok(t, receiver.cache.Begin(oneRow(manyKeys)))
	header := got(receiver.cache.Import(2, 0, block, DefaultStream))(t)
	hash, id := got(receiver.schedule.Info())(t).Hash, got(receiver.indexer.Info())(t).NumericsID
	if header.SourceLayer != 0 || header.NumRows != 1 || header.K != topK || header.ScheduleHash != hash ||
		header.NumericsID != id || header.Flags != ExportScores {
		t.Errorf("%+v", header)
	}
	_, err = receiver.cache.Import(-1, 0, HostBuffer(block.Bytes()[:16]), DefaultStream)
	refused(t, err, ErrParse)
	shared := got(receiver.cache.Forward(&ForwardArgs{Layer: 3, RowCount: AllRows}, DefaultStream))(t)
	sameIndices(t, shared.Row(0), expected)

	view := got(receiver.cache.Remap(&RemapArgs{
		SourceLayer: 2, Layout: LayoutContiguous,
		Slots: Host(make([]int32, KPadded(topK))), Lengths: Host(make([]int32, 1)),
	}, DefaultStream))(t)
	runtime.GC() // the view keeps its arrays
	sameIndices(t, view.Row(0), expected)
	if view.Kind != IndexSlot {
		t.Error(view.Kind)
	}
	kv, attentionQ, out := numbers(manyKeys*(latent+rope), 2), numbers(latent+rope, 4), make([]float32, latent)
	size, err = receiver.attention.WorkspaceSize(1, topK)
	ok(t, receiver.attention.Run(nil, 0, &view, &AttentionArgs{
		Q: Host(attentionQ), KV: contiguous(kv, latent+rope), Out: Host(out),
	}, workspace(t, size, err), DefaultStream))
	expectClose(t, out, attended(attentionQ, kv, expected))

	a, b := got(sender.cache.View(0))(t), got(receiver.cache.View(2))(t)
	if a.NumericsID != b.NumericsID || a.Generation != 1 || a.Scores.IsNil() || a.Indices.Address() == 0 {
		t.Errorf("%+v", a)
	}
	common, recall, jaccard := make([]int32, 1), make([]float32, 1), make([]float32, 1)
	results := &OverlapArgs{Intersection: Host(common), Recall: Host(recall), Jaccard: Host(jaccard)}
	ok(t, sender.context.IndexOverlap(&a, &b, results, DefaultStream))
	if common[0] != topK || recall[0] != 1 || jaccard[0] != 1 {
		t.Error(common, recall, jaccard)
	}

	// A set of the caller's: one key of the selection, and one that is not in it.
	other := int32(0)
	for slices.Contains(expected, other) {
		other++
	}
	pair := make([]int32, KPadded(topK))
	pair[0], pair[1] = min(expected[0], other), max(expected[0], other)
	mine := &IndexView{
		Indices: Host(pair), Lengths: Host([]int32{2}), RowStride: int64(len(pair)), NumRows: 1, K: topK,
		Kind: IndexLogical, SourceLayer: -1,
	}
	sameIndices(t, mine.Row(0), pair[:2])
	if mine.RowScores(0) != nil {
		t.Error("scores")
	}
	ok(t, sender.context.IndexOverlap(mine, &b, results, DefaultStream))
	if common[0] != 1 || recall[0] != 0.5 {
		t.Error(common, recall)
	}

	// Arrays that were mapped to are the view's, also when nothing else refers to them.
	ok(t, receiver.cache.Reset())
	runtime.GC()
	runtime.GC()
	garbage := make([][]int32, 1000)
	for i := range garbage {
		garbage[i] = slices.Repeat([]int32{7}, len(pair))
	}
	sameIndices(t, view.Row(0), expected)
	runtime.KeepAlive(garbage)
}

func TestDraftRowsAreCompacted(t *testing.T) {
	h, p := all(t, cpu(t), "F", 3), newProblem(3, manyKeys)
	size, err := h.cache.ForwardWorkspaceSize(3, 40)
	ok(t, h.cache.Begin(&Batch{NumRows: 3, NumSeqs: 1, MaxKeyEnd: 40, KeyEnd: Host([]int32{20, 30, 40})}))
	_, err = h.cache.Forward(p.full(0, workspace(t, size, err)), DefaultStream)
	ok(t, err)
	ok(t, h.cache.Begin(&Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: 40, KeyEnd: Host([]int32{31}), Flags: BatchKeep}))
	_, err = h.cache.View(0)
	refused(t, err, ErrStaleRows)
	size, err = h.cache.CompactWorkspaceSize(3)
	ok(t, h.cache.Compact(&CompactArgs{Rows: Host([]int32{1}), NumRows: 1, Workspace: workspace(t, size, err)}, 0))
	view := got(h.cache.View(0))(t)
	sameIndices(t, view.Row(0), p.expected(1, 30))
}

func TestPreparedKeysAndQueries(t *testing.T) {
	h := all(t, cpu(t), "F", 1)
	x, data := numbers(dim, 1), make([]float32, 3*dim)
	ok(t, h.indexer.PrepareKeys(&PrepareArgs{
		X: Host(x), Count: 1, XDtype: DtypeF32, Flags: PrepareRopeInterleaved, Positions: Host([]int32{1}),
		CosTable: Host([]float32{1, 0}), SinTable: Host([]float32{0, 1}), NumPositions: 2, RopeDim: 2, // a quarter turn
		Pool: contiguous(data, dim), Slots: Host([]int64{2}),
	}, DefaultStream))
	expected := append(make([]float32, 2*dim), -x[1], x[0])
	same := func(a, b float32) bool { return a == b }
	equal(t, data, append(expected, x[2:]...), same)

	q, out := numbers(heads*dim, 2), make([]float32, heads*dim)
	ok(t, h.indexer.PrepareQueries(&PrepareArgs{X: Host(q), Count: 1, XDtype: DtypeF32, QOut: Host(out)}, 0))
	equal(t, out, q, same)
}

func TestArraysOfNarrowElements(t *testing.T) {
	indexer, err := NewIndexer(cpu(t), &IndexerDesc{NumHeads: 1, HeadDim: 32, Dtype: DtypeBF16})
	closing(t, indexer, err)
	if info := got(indexer.Info())(t); info.KeyBytes != 64 || info.NumericsID == 0 {
		t.Errorf("%+v", info)
	}
	ones, scores := make([]uint16, 32), make([]float32, 2)
	for i := range ones {
		ones[i] = 0x3f80 // 1.0
	}
	size, err := indexer.ScoresWorkspaceSize(1, 2)
	ok(t, indexer.Scores(oneRow(2), &ScoresArgs{
		RowCount: 1, Queries: &Queries{Q: Host(ones), W: Host([]float32{0.5})},
		Keys:   &Pool{Data: Host(append(ones, ones...)), Capacity: 2, Layout: LayoutContiguous},
		Scores: Host(scores), Workspace: workspace(t, size, err),
	}, DefaultStream))
	if scores[0] != 16 || scores[1] != 16 {
		t.Error(scores)
	}
}

func TestAnEpochThatChangesIsAFaultUntilItIsCleared(t *testing.T) {
	h, p, epoch := all(t, cpu(t), "FS", 1), newProblem(1, manyKeys), []uint32{1}
	desc := &CacheDesc{Schedule: h.schedule, Indexer: h.indexer, Topk: h.topk, MaxRows: 1, Epoch: Host(epoch)}
	desc.Memory = NewBuffer(got(CacheMemorySize(desc))(t))
	cache, err := NewCache(h.context, desc)
	closing(t, cache, err)
	runtime.GC() // memory and epoch stay
	ok(t, cache.Begin(oneRow(manyKeys)))
	size, err := cache.ForwardWorkspaceSize(1, manyKeys)
	_, err = cache.Forward(p.full(0, workspace(t, size, err)), DefaultStream)
	ok(t, err)
	epoch[0] = 2
	view := got(cache.Remap(&RemapArgs{
		Layout: LayoutContiguous, Slots: Host(make([]int32, KPadded(topK))), Lengths: Host(make([]int32, 1)),
	}, DefaultStream))(t)
	if len(view.Row(0)) != 0 {
		t.Error(view.Row(0))
	}
	for _, step := range []struct {
		clear bool
		Faults
	}{{false, FaultEpoch}, {true, FaultEpoch}, {true, 0}} {
		if faults := got(cache.Faults(step.clear, DefaultStream))(t); faults != step.Faults {
			t.Error(faults, step)
		}
	}
}

// The allocator and the thread pool of the host program, which outlive the context's handle.
func TestCallbacksOfC(t *testing.T) {
	const count = 20000 // worth more than one thread
	counters := callbacks.NewCounters()
	defer counters.Free()
	context := got(NewContext(&ContextDesc{
		Backend: BackendCPU, NumThreads: 2, Alloc: callbacks.Alloc(), Free: callbacks.Free(), AllocUser: counters.User(),
		ParallelFor: callbacks.ParallelFor(), ParallelUser: counters.User(),
	}))(t)
	h, p := all(t, context, "FS", 2), newProblem(2, count)
	for _, handle := range []io.Closer{h.attention, h.topk, context, h.schedule, h.indexer} { // any order
		ok(t, handle.Close())
	}
	if counters.Live() != 1 {
		t.Error(counters.Live())
	}
	ok(t, h.cache.Begin(&Batch{NumRows: 2, NumSeqs: 1, MaxKeyEnd: count, KeyEnd: Host([]int32{30, count})}))
	size, err := h.cache.ForwardWorkspaceSize(2, count)
	view := got(h.cache.Forward(p.full(0, workspace(t, size, err)), DefaultStream))(t)
	sameIndices(t, view.Row(1), p.expected(1, count))
	ok(t, h.cache.Close())
	if counters.Live() != 0 || counters.Calls() == 0 {
		t.Error(counters.Live(), counters.Calls())
	}
}

func TestALayerIsBuiltOnce(t *testing.T) {
	h, p := all(t, cpu(t), "FS", 1), newProblem(1, manyKeys)
	size, err := h.cache.ForwardWorkspaceSize(1, manyKeys)
	full := got(NewLayer(h.context, p.full(0, workspace(t, size, err))))(t)
	defer full.Close()
	shared := got(NewLayer(h.context, &ForwardArgs{Layer: 1, RowCount: AllRows}))(t)
	defer shared.Close()
	for end := int32(10); end <= manyKeys; end += 10 {
		runtime.GC()
		copy(p.q, numbers(len(p.q), float64(end))) // the layer reads the same arrays
		ok(t, h.cache.Begin(oneRow(end)))
		_, err := h.cache.ForwardLayer(full, DefaultStream)
		ok(t, err)
		view := got(h.cache.ForwardLayer(shared, DefaultStream))(t)
		sameIndices(t, view.Row(0), p.expected(0, end))
	}
	allocations := testing.AllocsPerRun(100, func() { _, err = h.cache.ForwardLayer(shared, DefaultStream) })
	if err != nil || allocations != 0 {
		t.Errorf("%v; %v allocations", err, allocations)
	}
	_, err = NewLayer(h.context, &ForwardArgs{})
	ok(t, err) // left to the collector
	if !errors.Is(h.cache.Begin(nil), ErrNullPointer) {
		t.Error("a batch that is not given")
	}
}

func BenchmarkSharedLayer(b *testing.B) {
	context := cpu(b)
	h, p := all(b, context, "FS", 1), newProblem(1, manyKeys)
	size, err := h.cache.ForwardWorkspaceSize(1, manyKeys)
	ok(b, h.cache.Begin(oneRow(manyKeys)))
	_, err = h.cache.Forward(p.full(0, workspace(b, size, err)), DefaultStream)
	ok(b, err)
	shared := got(NewLayer(context, &ForwardArgs{Layer: 1, RowCount: AllRows}))(b)
	defer shared.Close()
	for b.Loop() {
		if _, err := h.cache.ForwardLayer(shared, DefaultStream); err != nil {
			b.Fatal(err)
		}
	}
}

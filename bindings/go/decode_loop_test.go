// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	. "libindexcache.invalid/go"
)

// An engine in small: requests of different lengths decode together, over pools of pages that go from the request that
// ends to those that grow.
const (
	loopPattern = "FSSFSS"
	loopTokens  = 16 // of a page
	loopPages   = 5
	loopBlocks  = 3 // pages of the longest request
	loopRows    = 3 // one per request
	kvWidth     = latent + rope
)

// loopLayer has the pools of a layer, and the arrays that the model writes anew in every step.
type loopLayer struct {
	keys, kv      []float32 // pools
	q, w, newKeys []float32 // of the indexer; only a Full layer has them
	query, out    []float32 // of attention
	arguments     *Layer
}

// loopTable says where each request's tokens lie.
type loopTable struct {
	pages [loopRows * loopBlocks]int32
	free  []int32
}

// slot of a token, on a new page when it has none yet.
func (b *loopTable) slot(t *testing.T, row, position int) int {
	t.Helper()
	page := &b.pages[row*loopBlocks+position/loopTokens]
	if *page < 0 {
		if len(b.free) == 0 {
			t.Fatal("no page is free")
		}
		*page, b.free = b.free[0], b.free[1:]
	}
	return int(*page)*loopTokens + position%loopTokens
}

// release gives the pages of a request back. -1 is a page that is not there.
func (b *loopTable) release(row int) {
	for i, page := range b.pages[row*loopBlocks:][:loopBlocks] {
		if page >= 0 {
			b.free = append(b.free, page)
		}
		b.pages[row*loopBlocks+i] = -1
	}
}

// gather is the vectors of a request's tokens, one behind the other.
func (b *loopTable) gather(t *testing.T, pool []float32, width, row, count int) (vectors []float32) {
	t.Helper()
	for position := range count {
		vectors = append(vectors, pool[b.slot(t, row, position)*width:][:width]...)
	}
	return vectors
}

func newLoopLayer(t *testing.T, h *handles, id int, slots []int64, scratch Buffer) *loopLayer {
	t.Helper()
	l := &loopLayer{
		kv:    make([]float32, loopPages*loopTokens*kvWidth),
		query: make([]float32, loopRows*kvWidth), out: make([]float32, loopRows*latent),
	}
	args := &ForwardArgs{
		Layer: int32(id), RowCount: AllRows, Workspace: scratch,
		Attention: &AttentionArgs{
			Q: on(t, l.query), KV: &Pool{Data: on(t, l.kv), Capacity: loopPages, Layout: LayoutPaged}, Out: on(t, l.out),
		},
	}
	if got(h.schedule.Layer(int32(id)))(t).Mode == LayerFull {
		l.keys, l.newKeys = make([]float32, loopPages*loopTokens*dim), make([]float32, loopRows*dim)
		l.q, l.w = make([]float32, loopRows*heads*dim), make([]float32, loopRows*heads)
		args.Queries = &Queries{Q: on(t, l.q), W: on(t, l.w)}
		args.Keys = &Pool{Data: on(t, l.keys), Capacity: loopPages, Layout: LayoutPaged}
		args.NewKeys = &NewKeys{Keys: on(t, l.newKeys), Slots: on(t, slots), Count: loopRows}
	}
	var err error
	l.arguments, err = NewLayer(h.context, args)
	closing(t, l.arguments, err)
	return l
}

func TestDecodeOfSeveralRequestsOverPages(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(arrays ...[]float32) {
		for _, array := range arrays {
			for i := range array {
				array[i] = float32(random.NormFloat64())
			}
		}
	}
	h := all(t, here(t), loopPattern, loopRows)
	size, err := h.cache.ForwardWorkspaceSize(loopRows, loopBlocks*loopTokens)
	scratch := workspace(t, size, err)
	slots := make([]int64, loopRows)
	layers := make([]*loopLayer, len(loopPattern))
	for id := range layers {
		layers[id] = newLoopLayer(t, h, id, slots, scratch)
		fill(layers[id].keys, layers[id].kv) // the prompts, wherever they lie
	}
	table := &loopTable{free: []int32{3, 0, 4, 1, 2}}
	for i := range table.pages {
		table.pages[i] = -1
	}
	length, end := [loopRows]int{14, 30, 17}, [loopRows]int{22, 32, 25}
	for row := range loopRows {
		table.gather(t, layers[0].kv, kvWidth, row, length[row]) // takes all five pages
	}

	rowSeq, keyEnd, stale := []int32{0, 1, 2}, make([]int32, loopRows), 0
	for step := range 8 {
		// A request that has ended leaves a padded row: it sees no key, and its new key is skipped.
		if step == 2 {
			table.release(1) // request 0 is about to need a second page
		}
		for row := range loopRows {
			slots[row], keyEnd[row] = -1, 0
			if length[row] == end[row] {
				continue
			}
			slot := table.slot(t, row, length[row])
			length[row]++
			slots[row], keyEnd[row] = int64(slot), int32(length[row])
			for _, l := range layers {
				fill(l.kv[slot*kvWidth:][:kvWidth])
			}
		}
		ok(t, h.cache.Begin(&Batch{
			NumRows: loopRows, NumSeqs: loopRows, MaxKeyEnd: loopBlocks * loopTokens,
			RowSeq: on(t, rowSeq), KeyEnd: on(t, keyEnd),
			BlockTables: []BlockTable{{Pages: on(t, table.pages[:]), NumBlocks: loopBlocks, PageTokens: loopTokens}},
		}))
		for id, l := range layers {
			if step == 3 && id == 3 {
				continue // forgotten: layer 4 has to notice
			}
			fill(l.q, l.w, l.newKeys, l.query)
			upload(t)
			view, err := h.cache.ForwardLayer(l.arguments, stream(t))
			if errors.Is(err, ErrAnyStale) { // run the source now, and once more
				stale++
				source := layers[got(h.schedule.Layer(int32(id)))(t).SourceLayer]
				fill(source.q, source.w, source.newKeys, source.query)
				upload(t)
				got(h.cache.ForwardLayer(source.arguments, stream(t)))(t)
				view, err = h.cache.ForwardLayer(l.arguments, stream(t))
			}
			ok(t, err)
			download(t)
			source := layers[view.SourceLayer]
			for number, count := range keyEnd {
				keys := table.gather(t, source.keys, dim, number, int(count))
				want := best(source.q[number*heads*dim:], source.w[number*heads:], keys, int(count))
				if chosen := row(t, &view, number); !slices.Equal(chosen, want) {
					t.Errorf("step %d, layer %d, row %d: %v instead of %v", step, id, number, chosen, want)
				}
				kv := table.gather(t, l.kv, kvWidth, number, int(count))
				for d, value := range attended(l.query[number*kvWidth:], kv, want) {
					if math.Abs(value-float64(l.out[number*latent+d])) > 1e-5 {
						t.Errorf("step %d, layer %d, row %d: out[%d] is %g", step, id, number, d, l.out[number*latent+d])
					}
				}
			}
		}
	}
	if faults := got(h.cache.Faults(true, stream(t)))(t); stale != 1 || faults != 0 || length != end {
		t.Errorf("%d stale calls, faults %#x, lengths %v", stale, faults, length)
	}
}

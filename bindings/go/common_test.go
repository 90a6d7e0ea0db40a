// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "libindexcache.invalid/go"
)

// A small problem with all handles.
const (
	heads          = 2
	dim            = 32
	topK           = 4
	attentionHeads = 1
	latent         = 16
	rope           = 16
	manyKeys       = 40
)

type handles struct {
	context   *Context
	schedule  *Schedule
	indexer   *Indexer
	topk      *Topk
	attention *Attention
	cache     *Cache
}

func must[T any](t testing.TB, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// got is must for calls that stand alone as an argument.
func got[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		return must(t, value, err)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// closing registers a handle to be closed at the end of the test.
func closing[T io.Closer](t testing.TB, handle T, err error) T {
	t.Helper()
	ok(t, err)
	t.Cleanup(func() { ok(t, handle.Close()) })
	return handle
}

func cpu(t testing.TB) *Context {
	t.Helper()
	context, err := NewContext(&ContextDesc{Backend: BackendCPU})
	return closing(t, context, err)
}

func all(t testing.TB, context *Context, pattern string, maxRows int32) *handles {
	t.Helper()
	h := &handles{context: context}
	var err error
	h.schedule, err = NewSchedule(&ScheduleDesc{Pattern: pattern, NumLayers: int32(len(pattern))})
	closing(t, h.schedule, err)
	h.indexer, err = NewIndexer(context, &IndexerDesc{NumHeads: heads, HeadDim: dim, Dtype: DtypeF32})
	closing(t, h.indexer, err)
	h.topk, err = NewTopk(context, &TopkDesc{K: topK})
	closing(t, h.topk, err)
	h.attention, err = NewAttention(context, &AttentionDesc{
		NumHeads: attentionHeads, DLatent: latent, DRope: rope, KVDtype: DtypeF32, QDtype: DtypeF32, SoftmaxScale: 0.2,
	})
	closing(t, h.attention, err)
	h.cache, err = NewCache(context, &CacheDesc{
		Schedule: h.schedule, Indexer: h.indexer, Topk: h.topk, Attention: h.attention,
		MaxRows: maxRows, NumSlots: 2, Flags: CacheScores,
	})
	closing(t, h.cache, err)
	return h
}

// numbers that no two of are equal.
func numbers(count int, seed float64) []float32 {
	result := make([]float32, count)
	for i := range result {
		result[i] = float32(math.Sin(float64(i)*0.37 + seed))
	}
	return result
}

// best is the k best keys of one row, by score, then position; ascending.
func best(q, w, keys []float32, count int) []int32 {
	scores, order := make([]float64, count), make([]int32, count)
	for s := range count {
		for h := range heads {
			dot := 0.0
			for d := range dim {
				dot += float64(q[h*dim+d]) * float64(keys[s*dim+d])
			}
			scores[s] += float64(w[h]) * max(dot, 0)
		}
		order[s] = int32(s)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	order = order[:min(topK, count)]
	slices.Sort(order)
	return order
}

// workspace for whatever a size function says.
func workspace(t testing.TB, size int, err error) Buffer {
	t.Helper()
	return memory(t, must(t, size, err))
}

func contiguous(t testing.TB, keys []float32, width int) *Pool {
	t.Helper()
	return &Pool{Data: on(t, keys), Capacity: int64(len(keys) / width), Layout: LayoutContiguous}
}

func oneRow(t testing.TB, keyEnd int32) *Batch {
	t.Helper()
	return &Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: keyEnd, KeyEnd: on(t, []int32{keyEnd})}
}

func equal[T any](t testing.TB, value, expected []T, same func(a, b T) bool) {
	t.Helper()
	if !slices.EqualFunc(value, expected, same) {
		t.Fatalf("%v instead of %v", value, expected)
	}
}

func sameIndices(t testing.TB, value, expected []int32) {
	t.Helper()
	equal(t, value, expected, func(a, b int32) bool { return a == b })
}

// refused expects an error with this status whose message has these words.
func refused(t testing.TB, err error, status Status, words ...string) {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v instead of %v", err, status)
	}
	if failure.Status != status || !errors.Is(err, status) {
		t.Fatalf("not %v: %v", status, err)
	}
	for _, word := range words {
		if !strings.Contains(failure.Message, word) {
			t.Fatalf("the message does not name %q: %v", word, err)
		}
	}
	if !strings.HasPrefix(err.Error(), status.String()+": ") {
		t.Fatalf("%v", err)
	}
}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	return must(t, data, err)
}

func parse[T any](t testing.TB, text []byte) (value T) {
	t.Helper()
	ok(t, json.Unmarshal(text, &value))
	return value
}

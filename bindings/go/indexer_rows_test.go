// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	. "libindexcache.invalid/go"
)

type tensors struct {
	header map[string]struct {
		Dtype       string
		Shape       []int
		DataOffsets [2]int `json:"data_offsets"`
	}
	data []byte
}

func readTensors(t *testing.T) (file tensors) {
	data := vector(t, "indexer/tiny_lm.safetensors")
	end := 8 + binary.LittleEndian.Uint64(data)
	file.data = data[end:]
	ok(t, json.Unmarshal(data[8:end], &file.header))
	return file
}

func tensor[T float32 | int32](t *testing.T, file tensors, name string, shape ...int) []T {
	t.Helper()
	entry := file.header[name]
	var zero T
	dtype := map[any]string{float32(0): "F32", int32(0): "I32"}[zero]
	if entry.Dtype != dtype || !slices.Equal(entry.Shape, shape) {
		t.Fatalf("%s: %+v", name, entry)
	}
	count := 1
	for _, size := range shape {
		count *= size
	}
	values := make([]T, count)
	used, err := binary.Decode(file.data[entry.DataOffsets[0]:entry.DataOffsets[1]], binary.LittleEndian, values)
	if err != nil || used != 4*count {
		t.Fatalf("%s: %v", name, err)
	}
	return values
}

// Rows of a trained model select what transformers selected: tests/vectors/indexer.
func TestIndexerRows(t *testing.T) {
	selectsWhatTransformersSelected(t, here(t))
}

func TestIndexerRowsOfThePortableLevel(t *testing.T) {
	context, err := NewContext(&ContextDesc{Backend: BackendCPU, CPUISA: CPUISAPortable, NumThreads: 1})
	selectsWhatTransformersSelected(t, closing(t, context, err))
}

func selectsWhatTransformersSelected(t *testing.T, context *Context) {
	const rows, count, k = 32, 2048, 64
	file := readTensors(t)
	keyEnd := tensor[int32](t, file, "key_end", rows)
	expected, gap := tensor[int32](t, file, "indices", rows, k), tensor[float32](t, file, "gap", rows)

	schedule, err := NewSchedule(&ScheduleDesc{Pattern: "FS", NumLayers: 2})
	closing(t, schedule, err)
	indexer, err := NewIndexer(context, &IndexerDesc{NumHeads: 4, HeadDim: 32, Dtype: DtypeF32})
	closing(t, indexer, err)
	topk, err := NewTopk(context, &TopkDesc{K: k})
	closing(t, topk, err)
	cache, err := NewCache(context, &CacheDesc{Schedule: schedule, Indexer: indexer, Topk: topk, MaxRows: rows})
	closing(t, cache, err)
	size, err := cache.ForwardWorkspaceSize(rows, count)
	ok(t, cache.Begin(&Batch{NumRows: rows, NumSeqs: 1, MaxKeyEnd: count, KeyEnd: on(t, keyEnd)}))
	_, err = cache.Forward(&ForwardArgs{
		Layer: 0, RowCount: AllRows, Workspace: workspace(t, size, err),
		Queries: &Queries{
			Q: on(t, tensor[float32](t, file, "q", rows, 4, 32)), W: on(t, tensor[float32](t, file, "w", rows, 4)),
		},
		Keys: contiguous(t, tensor[float32](t, file, "keys", count, 32), 32),
	}, stream(t))
	ok(t, err)
	view := got(cache.Forward(&ForwardArgs{Layer: 1, RowCount: AllRows}, stream(t)))(t) // Shared
	if view.SourceLayer != 0 || view.NumRows != rows {
		t.Fatalf("%+v", view)
	}
	compared := 0
	for number := range rows {
		if gap[number] > 1e-4 {
			sameIndices(t, row(t, &view, number), expected[number*k:][:k])
			compared++
		}
	}
	if compared < 26 {
		t.Fatalf("%d of %d rows can be compared", compared, rows)
	}
}

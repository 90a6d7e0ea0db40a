// SPDX-License-Identifier: Apache-2.0

// Command decode is a decode loop over a model of four layers: 0 and 2 are Full (they score and select), 1 and 3 are
// Shared (they reuse the selection of the layer before). All attend to the selected keys only.
package main

import (
	"errors"
	"fmt"
	"log"
	"math"

	indexcache "libindexcache.invalid/go"
)

const (
	prompt         = 1000 // keys that are there before the first step
	steps          = 3
	capacity       = prompt + steps
	heads          = 4 // of the indexer
	dim            = 32
	topK           = 64
	attentionHeads = 2
	latent         = 32
	rope           = 16
)

func main() {
	if err := decode(); err != nil {
		log.Fatal(err)
	}
}

// someNumbers stands for a model's projections: any numbers do.
func someNumbers(count int) []float32 {
	numbers := make([]float32, count)
	for i := range numbers {
		numbers[i] = float32(math.Sin(float64(i) * 0.37))
	}
	return numbers
}

func decode() error {
	// Once per process: where to run, and what the model looks like.
	context, err := indexcache.NewContext(&indexcache.ContextDesc{Backend: indexcache.BackendCPU})
	if err != nil {
		return err
	}
	defer context.Close()
	schedule, err := indexcache.NewSchedule(&indexcache.ScheduleDesc{Pattern: "FSFS", NumLayers: 4})
	if err != nil {
		return err
	}
	defer schedule.Close()
	indexer, err := indexcache.NewIndexer(context, &indexcache.IndexerDesc{
		NumHeads: heads, HeadDim: dim, Dtype: indexcache.DtypeF32,
	})
	if err != nil {
		return err
	}
	defer indexer.Close()
	topk, err := indexcache.NewTopk(context, &indexcache.TopkDesc{K: topK})
	if err != nil {
		return err
	}
	defer topk.Close()
	attention, err := indexcache.NewAttention(context, &indexcache.AttentionDesc{
		NumHeads: attentionHeads, DLatent: latent, DRope: rope,
		KVDtype: indexcache.DtypeF32, QDtype: indexcache.DtypeF32,
		SoftmaxScale: float32(math.Pow(latent+rope, -0.5)),
	})
	if err != nil {
		return err
	}
	defer attention.Close()

	// Once per micro-batch: the cache of indices, and a workspace for the largest step.
	cache, err := indexcache.NewCache(context, &indexcache.CacheDesc{
		Schedule: schedule, Indexer: indexer, Topk: topk, Attention: attention, MaxRows: 1,
	})
	if err != nil {
		return err
	}
	defer cache.Close()
	size, err := cache.ForwardWorkspaceSize(1, capacity)
	if err != nil {
		return err
	}
	workspace := indexcache.NewBuffer(size)

	// Once per layer: its pools, and arrays for the model's own work of one step. The arguments point at them, so they
	// are built once; every step writes new numbers into the same arrays.
	slot := make([]int64, 1) // where the new token's keys go
	layers := make([]*indexcache.Layer, 4)
	for id := range layers {
		layers[id], err = indexcache.NewLayer(context, &indexcache.ForwardArgs{
			Layer:    int32(id),
			RowCount: indexcache.AllRows,
			Queries: &indexcache.Queries{ // read when the layer is Full
				Q: indexcache.Host(someNumbers(heads * dim)),
				W: indexcache.Host(someNumbers(heads)),
			},
			Keys: &indexcache.Pool{
				Data: indexcache.Host(someNumbers(capacity * dim)), Capacity: capacity,
				Layout: indexcache.LayoutContiguous,
			},
			NewKeys: &indexcache.NewKeys{
				Keys: indexcache.Host(someNumbers(dim)), Slots: indexcache.Host(slot), Count: 1,
			},
			Attention: &indexcache.AttentionArgs{
				Q: indexcache.Host(someNumbers(attentionHeads * (latent + rope))),
				KV: &indexcache.Pool{
					Data: indexcache.Host(someNumbers(capacity * (latent + rope))), Capacity: capacity,
					Layout: indexcache.LayoutContiguous,
				},
				Out: indexcache.Host(make([]float32, attentionHeads*latent)),
			},
			Workspace: workspace,
		})
		if err != nil {
			return err
		}
		defer layers[id].Close()
	}

	for position := range steps {
		// Once per step: one row, which sees all keys of sequence 0 up to its own; then one call per layer.
		position += prompt
		keyEnd := []int32{int32(position) + 1}
		err := cache.Begin(&indexcache.Batch{
			NumRows: 1, NumSeqs: 1, MaxKeyEnd: capacity, KeyEnd: indexcache.Host(keyEnd),
		})
		if err != nil {
			return err
		}
		slot[0] = int64(position)
		for id, layer := range layers {
			view, err := cache.ForwardLayer(layer, indexcache.DefaultStream)
			if err != nil {
				return err
			}
			fmt.Printf("position %d: layer %d attends to %d keys selected by layer %d\n",
				position, id, len(view.Row(0)), view.SourceLayer)
		}
	}

	// What cannot be right is an error, not silent garbage: layer 3 needs what layer 2 has not selected yet.
	err = cache.Begin(&indexcache.Batch{
		NumRows: 1, NumSeqs: 1, MaxKeyEnd: capacity, KeyEnd: indexcache.Host([]int32{capacity}),
	})
	if err != nil {
		return err
	}
	_, err = cache.Forward(&indexcache.ForwardArgs{Layer: 3, RowCount: indexcache.AllRows}, indexcache.DefaultStream)
	if errors.Is(err, indexcache.ErrAnyStale) {
		fmt.Println("run the source layer first:", err)
		return nil
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"math"
	"testing"

	. "libindexcache.invalid/go"
)

// massesOf is the mean over the heads of each index's softmax weight, in double precision.
func massesOf(q, kv []float32, width int, indices []int32) []float64 {
	masses, heads := make([]float64, len(indices)), len(q)/width
	for h := range heads {
		weights, sum := make([]float64, len(indices)), 0.0
		for i, s := range indices {
			dot := 0.0
			for d := range width {
				dot += float64(q[h*width+d]) * float64(kv[int(s)*width+d])
			}
			weights[i] = math.Exp(float64(float32(0.2)) * dot)
			sum += weights[i]
		}
		for i := range masses {
			masses[i] += weights[i] / sum / float64(heads)
		}
	}
	return masses
}

func TestAttentionMassAndWhatAnotherSetHoldsOfIt(t *testing.T) {
	const numHeads, width, keys = 2, 32, 12
	context := cpu(t)
	made, err := NewAttention(context, &AttentionDesc{
		NumHeads: numHeads, DLatent: 16, DRope: 16, KVDtype: DtypeF32, QDtype: DtypeF32, SoftmaxScale: 0.2,
	})
	attention := closing(t, made, err)
	q, kv := numbers(numHeads*width, 4), numbers(keys*width, 2)
	list := func(indices []int32, length int32) *IndexView {
		return &IndexView{
			Indices: Host(indices), Lengths: Host([]int32{length}), RowStride: int64(len(indices)), NumRows: 1,
			K: int32(len(indices)), Kind: IndexLogical, SourceLayer: -1,
		}
	}
	indices := []int32{1, 4, 7, 9, -1, -1}
	batch := &Batch{NumRows: 1, NumSeqs: 1, MaxKeyEnd: keys, KeyEnd: Host([]int32{keys})}
	mass := []float32{-1, -1, -1, -1, -1, -1}
	args := &MassArgs{
		Q: Host(q), KV: &Pool{Data: Host(kv), Capacity: keys, Layout: LayoutContiguous}, Mass: Host(mass),
	}
	size, err := attention.MassWorkspaceSize(1, 6)
	ok(t, err)
	workspace := NewBuffer(size)
	ok(t, attention.Mass(batch, 0, list(indices, 4), args, workspace, DefaultStream))
	expected := massesOf(q, kv, width, indices[:4])
	for i, value := range expected {
		if math.Abs(float64(mass[i])-value) > 1e-6 {
			t.Errorf("entry %d: %v is %v", i, mass[i], value)
		}
	}
	if mass[4] != 0 || mass[5] != 0 {
		t.Error(mass)
	}
	refused(t, attention.Mass(nil, 0, list(indices, 4), args, workspace, DefaultStream), ErrNullPointer, "batch")

	kept, other := make([]float32, 1), list([]int32{4, 9}, 2)
	results := &OverlapArgs{Mass: Host(mass), MassRecall: Host(kept)}
	ok(t, context.IndexOverlap(list(indices, 4), other, results, DefaultStream))
	if math.Abs(float64(kept[0])-expected[1]-expected[3]) > 1e-6 {
		t.Errorf("%v of %v", kept, expected)
	}
	results.Mass = DevicePtr[float32]{}
	refused(t, context.IndexOverlap(list(indices, 4), other, results, DefaultStream), ErrNullPointer, "mass_recall")
}

// SPDX-License-Identifier: Apache-2.0

package indexcache

import (
	"slices"
	"unsafe"
)

// Row is a copy of the indices of one row, without the -1 behind them. Host memory only: of a CUDA cache's view it
// panics, and so it does after the cache is closed.
func (v *IndexView) Row(row int) []int32 {
	return slices.Clone(readable(v, v.Indices.host, v.Indices.address, row, int32(0)))
}

// RowScores is a copy of the scores of one row's indices; nil when the view has none. As [IndexView.Row].
func (v *IndexView) RowScores(row int) []float32 {
	if v.Scores.IsNil() {
		return nil
	}
	return slices.Clone(readable(v, v.Scores.host, v.Scores.address, row, float32(0)))
}

func readable[T Element](v *IndexView, memory unsafe.Pointer, address uintptr, row int, _ T) []T {
	if v.cache != nil && v.cache.host.cuda {
		panic("indexcache: a row of a view is read that lies in GPU memory")
	}
	if v.cache != nil && v.cache.address() == nil {
		panic("indexcache: a view is read whose cache is closed")
	}
	if row < 0 || row >= int(v.NumRows) {
		panic("indexcache: a row is read that the view does not have")
	}
	at := func(memory unsafe.Pointer, address uintptr) unsafe.Pointer {
		if memory == nil {
			memory = *(*unsafe.Pointer)(unsafe.Pointer(&address))
		}
		return memory
	}
	length := *(*int32)(unsafe.Add(at(v.Lengths.host, v.Lengths.address), row*4))
	first := unsafe.Add(at(memory, address), row*int(v.RowStride)*4)
	return unsafe.Slice((*T)(first), length)
}

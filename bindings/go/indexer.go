// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Indexer is one indexer geometry on one context: the scores. Immutable; holds no weights. The C header has the formula
// and its numerics.
type Indexer struct {
	handle
	host *host
}

// NewIndexer creates an indexer.
//
// Errors: [ErrInvalidArgument], [ErrUnsupported].
func NewIndexer(context *Context, desc *IndexerDesc) (*Indexer, error) {
	a := context.shared().arena()
	defer a.end()
	var out *C.ic_indexer
	err := check(C.ic_go_indexer_create(context.raw(), desc.build(a), &out))
	runtime.KeepAlive(context)
	if err != nil {
		return nil, err
	}
	shared := context.host.retain()
	indexer := &Indexer{host: shared}
	indexer.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_indexer_destroy((*C.ic_indexer)(pointer))
		shared.release()
	})
	return indexer, nil
}

// Close drops the hold on the indexer. It always returns nil.
func (i *Indexer) Close() error {
	i.close()
	return nil
}

// Info has identity and sizes.
func (i *Indexer) Info() (info IndexerInfo, err error) {
	defer runtime.KeepAlive(i)
	c := newIndexerInfo()
	if err := check(C.ic_go_indexer_get_info(i.raw(), c)); err != nil {
		return info, err
	}
	info.read(c)
	return info, nil
}

// ScoresWorkspaceSize is the bytes of workspace of [Indexer.Scores] with up to maxRows rows and keys up to maxKeyEnd.
func (i *Indexer) ScoresWorkspaceSize(maxRows, maxKeyEnd int32) (int, error) {
	defer runtime.KeepAlive(i)
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_indexer_scores_workspace_size(i.raw(), C.int32_t(maxRows), C.int32_t(maxKeyEnd), size)
	})
}

// Scores writes the scores of every visible key in the window: the same bits that a Full layer selects from.
func (i *Indexer) Scores(batch *Batch, args *ScoresArgs, stream Stream) error {
	defer runtime.KeepAlive(i)
	a := i.host.arena()
	defer a.end()
	rows, c := batch.build(a), args.build(a)
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_indexer_scores(i.raw(), rows, c, C.uintptr_t(stream)))
}

// PrepareQueries makes indexer queries of projected ones (Full layers need them); the fields of keys must be unset.
func (i *Indexer) PrepareQueries(args *PrepareArgs, stream Stream) error {
	defer runtime.KeepAlive(i)
	a := i.host.arena()
	defer a.end()
	c := args.build(a)
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_indexer_prepare_queries(i.raw(), c, C.uintptr_t(stream)))
}

// PrepareKeys writes projected keys into an index-key pool; the fields of queries must be unset.
func (i *Indexer) PrepareKeys(args *PrepareArgs, stream Stream) error {
	defer runtime.KeepAlive(i)
	a := i.host.arena()
	defer a.end()
	c := args.build(a)
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_indexer_prepare_keys(i.raw(), c, C.uintptr_t(stream)))
}

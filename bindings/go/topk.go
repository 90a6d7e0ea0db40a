// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Topk is one exact selection rule on one context: the k best of each row by (score descending, position ascending).
// Immutable.
type Topk struct {
	handle
	host *host
}

// NewTopk creates a selection.
//
// Errors: [ErrInvalidArgument], [ErrUnsupported].
func NewTopk(context *Context, desc *TopkDesc) (*Topk, error) {
	a := context.shared().arena()
	defer a.end()
	var out *C.ic_topk
	err := check(C.ic_go_topk_create(context.raw(), desc.build(a), &out))
	runtime.KeepAlive(context)
	if err != nil {
		return nil, err
	}
	shared := context.host.retain()
	topk := &Topk{host: shared}
	topk.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_topk_destroy((*C.ic_topk)(pointer))
		shared.release()
	})
	return topk, nil
}

// Close drops the hold on the selection. It always returns nil.
func (t *Topk) Close() error {
	t.close()
	return nil
}

// SelectWorkspaceSize is the bytes of workspace of [Topk.Select].
func (t *Topk) SelectWorkspaceSize(maxRows, maxEnd int32) (int, error) {
	defer runtime.KeepAlive(t)
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_topk_select_workspace_size(t.raw(), C.int32_t(maxRows), C.int32_t(maxEnd), size)
	})
}

// Select selects from a score matrix.
func (t *Topk) Select(args *SelectArgs, stream Stream) error {
	defer runtime.KeepAlive(t)
	a := t.host.arena()
	defer a.end()
	c := args.build(a)
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_topk_select(t.raw(), c, C.uintptr_t(stream)))
}

// MergeWorkspaceSize is the bytes of workspace of [Topk.Merge].
func (t *Topk) MergeWorkspaceSize(maxRows, maxParts int32) (int, error) {
	defer runtime.KeepAlive(t)
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_topk_merge_workspace_size(t.raw(), C.int32_t(maxRows), C.int32_t(maxParts), size)
	})
}

// Merge makes one selection of several of the same rows over disjoint keys, exactly.
func (t *Topk) Merge(args *MergeArgs, stream Stream) error {
	defer runtime.KeepAlive(t)
	a := t.host.arena()
	defer a.end()
	c := args.build(a)
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_topk_merge(t.raw(), c, C.uintptr_t(stream)))
}

// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Attention is one geometry of multi-head latent attention in its absorbed form on one context. Immutable.
type Attention struct {
	handle
	host *host
}

// NewAttention creates an attention.
//
// Errors: [ErrInvalidArgument], [ErrUnsupported].
func NewAttention(context *Context, desc *AttentionDesc) (*Attention, error) {
	a := context.shared().arena()
	defer a.end()
	var out *C.ic_attention
	err := check(C.ic_go_attention_create(context.raw(), desc.build(a), &out))
	runtime.KeepAlive(context)
	if err != nil {
		return nil, err
	}
	shared := context.host.retain()
	attention := &Attention{host: shared}
	attention.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_attention_destroy((*C.ic_attention)(pointer))
		shared.release()
	})
	return attention, nil
}

// Close drops the hold on the attention. It always returns nil.
func (t *Attention) Close() error {
	t.close()
	return nil
}

// WorkspaceSize is the bytes of workspace of [Attention.Run] with up to maxRows rows of up to maxK indices.
func (t *Attention) WorkspaceSize(maxRows, maxK int32) (int, error) {
	defer runtime.KeepAlive(t)
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_attention_workspace_size(t.raw(), C.int32_t(maxRows), C.int32_t(maxK), size)
	})
}

// MassWorkspaceSize is the bytes of workspace of [Attention.Mass] with up to maxRows rows of up to maxK indices.
func (t *Attention) MassWorkspaceSize(maxRows, maxK int32) (int, error) {
	defer runtime.KeepAlive(t)
	return sizeOf(func(size *C.size_t) C.ic_go_result {
		return C.ic_go_attention_mass_workspace_size(t.raw(), C.int32_t(maxRows), C.int32_t(maxK), size)
	})
}

// Run is attention alone, over any set of indices. Row r of indices and of args is row rowBegin + r of the batch, which
// may be nil for slot indices and a contiguous pool.
func (t *Attention) Run(
	batch *Batch, rowBegin int32, indices *IndexView, args *AttentionArgs, workspace Buffer, stream Stream,
) error {
	defer runtime.KeepAlive(t)
	defer runtime.KeepAlive(indices)
	a := t.host.arena()
	defer a.end()
	rows, view, c := batch.build(a), indices.build(a), args.build(a)
	scratch := new(unsafe.Pointer)
	workspace.store(a, unsafe.Pointer(scratch))
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_attention_run(t.raw(), rows, C.int32_t(rowBegin), view, c, *scratch,
		C.size_t(workspace.size), C.uintptr_t(stream)))
}

// Mass says how much of its attention a row gives to every entry of its list: the mean over the heads of the softmax
// weight, 0 for what is skipped. Rows and batch are those of [Attention.Run].
func (t *Attention) Mass(
	batch *Batch, rowBegin int32, indices *IndexView, args *MassArgs, workspace Buffer, stream Stream,
) error {
	defer runtime.KeepAlive(t)
	defer runtime.KeepAlive(indices)
	a := t.host.arena()
	defer a.end()
	rows, view, c := batch.build(a), indices.build(a), args.build(a)
	scratch := new(unsafe.Pointer)
	workspace.store(a, unsafe.Pointer(scratch))
	if a.err != nil {
		return a.err
	}
	return check(C.ic_go_attention_mass(t.raw(), rows, C.int32_t(rowBegin), view, c, *scratch,
		C.size_t(workspace.size), C.uintptr_t(stream)))
}

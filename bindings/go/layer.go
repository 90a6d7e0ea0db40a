// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import "unsafe"

// Layer is a [ForwardArgs] in the form that C reads, made once and used in every step by [Cache.ForwardLayer]: a Shared
// layer then costs one C call.
//
// The C structs point at each other and at the arrays. All of it stays pinned until Close, since C may be given only
// memory that points at nothing of Go's that is not pinned, and since the collector does not see what C structs refer to
// by number. The arrays may be written between steps; other arrays need another Layer.
//
// Numbers are as fixed as arrays, that of NewKeys too. When requests come and go, keep the rows: one that is not in use
// has KeyEnd 0 in the [Batch] and -1 in Slots.
type Layer struct {
	handle
}

// NewLayer builds the arguments of one layer for caches of context.
func NewLayer(context *Context, args *ForwardArgs) (*Layer, error) {
	a := context.shared().arena()
	raw := args.build(a)
	if a.err != nil {
		a.end()
		return nil, a.err
	}
	pin := a.pin
	layer := new(Layer)
	if raw != nil {
		layer.open(unsafe.Pointer(raw), func(unsafe.Pointer) { pin.Unpin() })
	}
	return layer, nil
}

// Close ends the pinning of the arrays; no call may be running. It always returns nil.
func (l *Layer) Close() error {
	l.close()
	return nil
}

func (l *Layer) raw() *C.ic_forward_args {
	if l == nil {
		return nil
	}
	return (*C.ic_forward_args)(l.address())
}

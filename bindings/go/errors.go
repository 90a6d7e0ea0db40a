// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"unsafe"
)

// Error is what a call of the library returns when it fails. Branch on it with [errors.Is] and one of the statuses, or
// with [ErrAnyStale].
type Error struct {
	// What went wrong
	Status Status

	// The library's message: the argument, its value and what is allowed
	Message string
}

func (e *Error) Error() string {
	return e.Status.Error() + ": " + e.Message
}

// Is makes [errors.Is] find the status, and ErrAnyStale in every stale one.
func (e *Error) Is(target error) bool {
	return target == error(e.Status) || target == ErrAnyStale && e.Status.IsStale()
}

// ErrAnyStale stands for every status that says "these indices are not there": run or import the source layer first.
// [ErrStale] itself is one of them: the source layer published in an earlier generation.
var ErrAnyStale = errors.New("the indices of the source layer are not there")

// ErrConcurrentUse says that another goroutine is inside a call on the same cache. Nothing has been done.
var ErrConcurrentUse = errors.New("indexcache: the cache is in use by another goroutine")

// Error is the library's own text, for example "IC_ERROR_STALE: the source layer published in an earlier generation".
func (s Status) Error() string {
	return C.GoString(C.ic_status_string(C.ic_status(s)))
}

// String is the same text.
func (s Status) String() string {
	return s.Error()
}

// IsStale is true for every status that says "these indices are not there".
func (s Status) IsStale() bool {
	return s >= 20 && s <= 29
}

// check makes an error of what a shim returned, and takes its message.
func check(result C.ic_go_result) error {
	if result.status == 0 {
		return nil
	}
	message := C.GoString(result.message)
	C.free(unsafe.Pointer(result.message))
	return &Error{Status: Status(result.status), Message: message}
}

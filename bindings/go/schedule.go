// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Schedule says which layers compute indices and which reuse whose. Immutable; needs no context.
type Schedule struct {
	handle
}

// NewSchedule resolves a schedule.
//
// Errors: [ErrParse], [ErrInvalidArgument], [ErrScheduleConflict] (two fields of one input disagree),
// [ErrScheduleInvalid] (first layer Shared; Full where there is no indexer), [ErrModelUnsupported].
func NewSchedule(desc *ScheduleDesc) (*Schedule, error) {
	a := newArena(false)
	defer a.end()
	c := desc.build(a)
	if a.err != nil {
		return nil, a.err
	}
	var out *C.ic_schedule
	if err := check(C.ic_go_schedule_create(c, &out)); err != nil {
		return nil, err
	}
	schedule := new(Schedule)
	schedule.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_schedule_destroy((*C.ic_schedule)(pointer))
	})
	return schedule, nil
}

// Close drops the hold on the schedule. It always returns nil.
func (s *Schedule) Close() error {
	s.close()
	return nil
}

// Info has counts and identity.
func (s *Schedule) Info() (info ScheduleInfo, err error) {
	defer runtime.KeepAlive(s)
	c := newScheduleInfo()
	if err := check(C.ic_go_schedule_get_info(s.raw(), c)); err != nil {
		return info, err
	}
	info.read(c)
	return info, nil
}

// Layer says what one layer does; -1 stands for "none" in every field.
func (s *Schedule) Layer(layer int32) (info LayerInfo, err error) {
	defer runtime.KeepAlive(s)
	c := newLayerInfo()
	if err := check(C.ic_go_schedule_get_layer(s.raw(), C.int32_t(layer), c)); err != nil {
		return info, err
	}
	info.read(c)
	return info, nil
}

// Cut is the source layer whose indices must be handed over at a pipeline cut in front of firstLayer, or -1 when nothing
// must.
func (s *Schedule) Cut(firstLayer int32) (sourceLayer int32, err error) {
	defer runtime.KeepAlive(s)
	var source C.int32_t
	err = check(C.ic_go_schedule_get_cut(s.raw(), C.int32_t(firstLayer), &source))
	return int32(source), err
}

// CacheSlot is which of numSlots slots of a cache a Full or MTP layer writes.
func (s *Schedule) CacheSlot(layer, numSlots int32) (slot int32, err error) {
	defer runtime.KeepAlive(s)
	var found C.int32_t
	err = check(C.ic_go_schedule_get_cache_slot(s.raw(), C.int32_t(layer), C.int32_t(numSlots), &found))
	return int32(found), err
}

// Pattern is the F/S string, one letter per sparse layer of the stack.
func (s *Schedule) Pattern() (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_schedule_pattern(s.raw(), buffer, size)
	})
}

// Explain is text for people: every layer with its mode and source, where each came from, every disagreement between
// fields, and warnings.
func (s *Schedule) Explain() (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_schedule_explain(s.raw(), buffer, size)
	})
}

// Export is what an engine takes to run this schedule.
//
// Errors: [ErrUnsupported] when that engine cannot express it (the message says why).
func (s *Schedule) Export(engine Engine) (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_schedule_export(s.raw(), C.int32_t(engine), buffer, size)
	})
}

// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Search searches for the layers that can share: it says which pattern to evaluate next and is told the loss. Needs no
// context and runs no model. One goroutine at a time may use it; evaluations may run anywhere and be told in any order.
type Search struct {
	handle
}

// NewSearch starts a search, or resumes one from its journal.
//
// Errors: [ErrInvalidArgument], [ErrOutOfRange] (a layer of KeepFull, an entry of Similarity), [ErrParse] (a letter of
// Start; the journal, with the number of its line), [ErrScheduleInvalid] (Start makes the first layer Shared),
// [ErrJournal] (the journal belongs to another search), [ErrUnsupported] (a journal of a later format).
func NewSearch(desc *SearchDesc) (*Search, error) {
	a := newArena(false)
	defer a.end()
	c := desc.build(a)
	if a.err != nil {
		return nil, a.err
	}
	var out *C.ic_search
	if err := check(C.ic_go_search_create(c, &out)); err != nil {
		return nil, err
	}
	search := new(Search)
	search.open(unsafe.Pointer(out), func(pointer unsafe.Pointer) {
		C.ic_search_destroy((*C.ic_search)(pointer))
	})
	return search, nil
}

// Close ends the search. It always returns nil.
func (s *Search) Close() error {
	s.close()
	return nil
}

// Next hands out a pattern that can be evaluated now. An ID of -1: the search has ended, or waits for answers to what is
// handed out; [Search.Info] says which.
func (s *Search) Next() (candidate SearchCandidate, err error) {
	defer runtime.KeepAlive(s)
	c := newSearchCandidate()
	if err := check(C.ic_go_search_next(s.raw(), c)); err != nil {
		return candidate, err
	}
	candidate.read(c)
	return candidate, nil
}

// CandidatePattern is the F/S string of a candidate, open or decided.
func (s *Search) CandidatePattern(id int64) (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_candidate_pattern(s.raw(), C.int64_t(id), buffer, size)
	})
}

// Tell is the loss of a candidate. The same loss again changes nothing.
//
// Errors: [ErrInvalidArgument] (not finite; no such candidate yet), [ErrAlreadyTold].
func (s *Search) Tell(id int64, loss float64) error {
	defer runtime.KeepAlive(s)
	return check(C.ic_go_search_tell(s.raw(), C.int64_t(id), C.double(loss)))
}

// Reject says that a candidate cannot be evaluated: it competes no longer.
//
// Errors: [ErrInvalidArgument] (no such candidate yet), [ErrAlreadyTold] (a loss).
func (s *Search) Reject(id int64) error {
	defer runtime.KeepAlive(s)
	return check(C.ic_go_search_reject(s.raw(), C.int64_t(id)))
}

// Release gives a candidate back unanswered: [Search.Next] hands it out again.
//
// Errors: [ErrInvalidArgument] (no such candidate yet), [ErrAlreadyTold].
func (s *Search) Release(id int64) error {
	defer runtime.KeepAlive(s)
	return check(C.ic_go_search_release(s.raw(), C.int64_t(id)))
}

// Info has state, losses and counts.
func (s *Search) Info() (info SearchInfo, err error) {
	defer runtime.KeepAlive(s)
	c := newSearchInfo()
	if err := check(C.ic_go_search_get_info(s.raw(), c)); err != nil {
		return info, err
	}
	info.read(c)
	return info, nil
}

// Accepted is the accepted pattern: of the last step, or the start's. Not greedy: the start's until the search has
// ended.
func (s *Search) Accepted() (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_accepted(s.raw(), buffer, size)
	})
}

// Step is what a step accepted, 0 to NumSteps - 1 of [SearchInfo]: together the whole trajectory.
func (s *Search) Step(step int32) (info SearchStep, err error) {
	defer runtime.KeepAlive(s)
	c := newSearchStep()
	if err := check(C.ic_go_search_get_step(s.raw(), C.int32_t(step), c)); err != nil {
		return info, err
	}
	info.read(c)
	return info, nil
}

// StepPattern is the F/S string after a step.
func (s *Search) StepPattern(step int32) (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_step_pattern(s.raw(), C.int32_t(step), buffer, size)
	})
}

// Journal is the journal from a byte on, to be appended to a file after each answer; the file's content resumes the
// search: Journal of [SearchDesc].
func (s *Search) Journal(fromByte int64) (string, error) {
	defer runtime.KeepAlive(s)
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_journal(s.raw(), C.int64_t(fromByte), buffer, size)
	})
}

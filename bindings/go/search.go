// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"unsafe"
)

// Search searches for the layers that can share: it says which pattern to evaluate next and is told the loss. Needs no
// context and runs no model. Any number of goroutines may use it, one behind the other: each can ask for a candidate,
// evaluate it and tell its loss.
type Search struct {
	handle
	lock sync.Mutex
}

// call runs one call on the search, alone.
func (s *Search) call(run func(raw *C.ic_search) C.ic_go_result) error {
	if s != nil {
		s.lock.Lock()
		defer s.lock.Unlock()
		defer runtime.KeepAlive(s)
	}
	return check(run(s.raw()))
}

// text runs both calls of a text function, with no other in between.
func (s *Search) text(run func(raw *C.ic_search, buffer *C.char, size *C.size_t) C.ic_go_result) (string, error) {
	if s != nil {
		s.lock.Lock()
		defer s.lock.Unlock()
		defer runtime.KeepAlive(s)
	}
	return textOf(func(buffer *C.char, size *C.size_t) C.ic_go_result {
		return run(s.raw(), buffer, size)
	})
}

// NewSearch starts a search, or resumes one from its journal.
//
// Errors: [ErrInvalidArgument], [ErrParse] (a letter of Start; the journal, with the number of its line),
// [ErrScheduleInvalid] (Start makes the first layer Shared), [ErrJournal] (the journal belongs to another search),
// [ErrUnsupported] (a journal of a later format).
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
	s.lock.Lock()
	defer s.lock.Unlock()
	s.close()
	return nil
}

// Next hands out a pattern that can be evaluated now. An ID of -1: the search has ended, or waits for answers to what
// is handed out; [Search.Info] says which.
func (s *Search) Next() (candidate SearchCandidate, err error) {
	c := newSearchCandidate()
	if err = s.call(func(raw *C.ic_search) C.ic_go_result { return C.ic_go_search_next(raw, c) }); err == nil {
		candidate.read(c)
	}
	return candidate, err
}

// CandidatePattern is the F/S string of a candidate, open or decided.
func (s *Search) CandidatePattern(id int64) (string, error) {
	return s.text(func(raw *C.ic_search, buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_candidate_pattern(raw, C.int64_t(id), buffer, size)
	})
}

// Tell is the loss of a candidate. The same loss again changes nothing.
//
// Errors: [ErrInvalidArgument] (not finite; no such candidate yet), [ErrAlreadyTold].
func (s *Search) Tell(id int64, loss float64) error {
	return s.call(func(raw *C.ic_search) C.ic_go_result {
		return C.ic_go_search_tell(raw, C.int64_t(id), C.double(loss))
	})
}

// Reject says that a candidate cannot be evaluated: it competes no longer.
//
// Errors: [ErrInvalidArgument] (no such candidate yet), [ErrAlreadyTold] (a loss).
func (s *Search) Reject(id int64) error {
	return s.call(func(raw *C.ic_search) C.ic_go_result { return C.ic_go_search_reject(raw, C.int64_t(id)) })
}

// Release gives a candidate back unanswered: [Search.Next] hands it out again.
//
// Errors: [ErrInvalidArgument] (no such candidate yet), [ErrAlreadyTold].
func (s *Search) Release(id int64) error {
	return s.call(func(raw *C.ic_search) C.ic_go_result { return C.ic_go_search_release(raw, C.int64_t(id)) })
}

// Info has state, losses and counts.
func (s *Search) Info() (info SearchInfo, err error) {
	c := newSearchInfo()
	if err = s.call(func(raw *C.ic_search) C.ic_go_result { return C.ic_go_search_get_info(raw, c) }); err == nil {
		info.read(c)
	}
	return info, err
}

// Accepted is the accepted pattern: of the last step, or the start's. Not greedy: the start's until the search has
// ended.
func (s *Search) Accepted() (string, error) {
	return s.text(func(raw *C.ic_search, buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_accepted(raw, buffer, size)
	})
}

// Step is what a step accepted, 0 to NumSteps - 1 of [SearchInfo]: together the whole trajectory.
func (s *Search) Step(step int32) (info SearchStep, err error) {
	c := newSearchStep()
	err = s.call(func(raw *C.ic_search) C.ic_go_result { return C.ic_go_search_get_step(raw, C.int32_t(step), c) })
	if err == nil {
		info.read(c)
	}
	return info, err
}

// StepPattern is the F/S string after a step.
func (s *Search) StepPattern(step int32) (string, error) {
	return s.text(func(raw *C.ic_search, buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_step_pattern(raw, C.int32_t(step), buffer, size)
	})
}

// Journal is the journal from a byte on, to be appended to a file after each answer; the file's content resumes the
// search: Journal of [SearchDesc].
func (s *Search) Journal(fromByte int64) (string, error) {
	return s.text(func(raw *C.ic_search, buffer *C.char, size *C.size_t) C.ic_go_result {
		return C.ic_go_search_journal(raw, C.int64_t(fromByte), buffer, size)
	})
}

// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"

	. "libindexcache.invalid/go"
)

// A case of tests/vectors/search/cases.json: candidates and losses by id, and what must be found.
type searchCase struct {
	About    string
	Desc     map[string]json.RawMessage
	Patterns []string
	Losses   []*float64
	State    string
	Steps    []struct {
		Layer   int32
		Loss    float64
		NumFull int32 `json:"num_full"`
		Pattern string
	}
	Status  string
	Message string
}

func searchCases(t *testing.T, group string, atLeast int) []searchCase {
	t.Helper()
	groups := parse[map[string]json.RawMessage](t, vector(t, "search/cases.json"))
	found := parse[[]searchCase](t, groups[group])
	if len(found) < atLeast {
		t.Fatalf("%s has %d cases", group, len(found))
	}
	return found
}

var strategies = map[string]SearchStrategy{
	"IC_STRATEGY_GREEDY": StrategyGreedy, "IC_STRATEGY_GREEDY_BLOCKS": StrategyGreedyBlocks,
	"IC_STRATEGY_UNIFORM": StrategyUniform, "IC_STRATEGY_SIMILARITY_DP": StrategySimilarityDP,
	"IC_STRATEGY_RANDOM": StrategyRandom,
}

var ends = map[string]SearchState{
	"IC_SEARCH_DONE": SearchDone, "IC_SEARCH_BUDGET": SearchBudget, "IC_SEARCH_EXHAUSTED": SearchExhausted,
}

// searchOf has the fields of ic_search_desc that a case names.
func searchOf(t *testing.T, fields map[string]json.RawMessage, journal string) (*Search, error) {
	t.Helper()
	var strategy, given string
	desc := &SearchDesc{Journal: []byte(journal)}
	known := map[string]any{
		"num_layers": &desc.NumLayers, "strategy": &strategy, "start": &desc.Start, "keep_full": &desc.KeepFull,
		"num_full": &desc.NumFull, "max_full": &desc.MaxFull, "num_blocks": &desc.NumBlocks,
		"loss_budget": &desc.LossBudget, "similarity": &desc.Similarity, "num_samples": &desc.NumSamples,
		"seed": &desc.Seed, "journal": &given,
	}
	for name, value := range fields {
		if known[name] == nil {
			t.Fatalf("cases.json has the field %s", name)
		}
		ok(t, json.Unmarshal(value, known[name]))
	}
	desc.Strategy = strategies[strategy]
	if given != "" {
		desc.Journal = []byte(given)
	}
	return NewSearch(desc)
}

// runSearch answers by id until the end.
func runSearch(t *testing.T, search *Search, c searchCase) {
	t.Helper()
	for {
		candidate := got(search.Next())(t)
		if candidate.ID < 0 {
			return
		}
		if pattern := got(search.CandidatePattern(candidate.ID))(t); pattern != c.Patterns[candidate.ID] {
			t.Fatalf("%s: candidate %d is %s", c.About, candidate.ID, pattern)
		}
		if loss := c.Losses[candidate.ID]; loss != nil {
			ok(t, search.Tell(candidate.ID, *loss))
		} else {
			ok(t, search.Reject(candidate.ID))
		}
	}
}

func expectEnd(t *testing.T, search *Search, c searchCase) {
	t.Helper()
	info := got(search.Info())(t)
	if info.State != ends[c.State] || int(info.NumSteps) != len(c.Steps) || info.BaselineLoss != *c.Losses[0] {
		t.Fatalf("%s: %+v", c.About, info)
	}
	accepted := c.Patterns[0]
	for i, wanted := range c.Steps {
		step := got(search.Step(int32(i)))(t)
		accepted = got(search.StepPattern(int32(i)))(t)
		if step.Layer != wanted.Layer || step.Loss != wanted.Loss || step.NumFull != wanted.NumFull ||
			accepted != wanted.Pattern {
			t.Errorf("%s: step %d is %+v, %s", c.About, i, step, accepted)
		}
	}
	if found := got(search.Accepted())(t); found != accepted {
		t.Errorf("%s: accepted %s", c.About, found)
	}
}

func TestSearchesWithKnownEndsWholeAndResumed(t *testing.T) {
	for _, c := range searchCases(t, "searches", 12) {
		whole, err := searchOf(t, c.Desc, "")
		closing(t, whole, err)
		runSearch(t, whole, c)
		expectEnd(t, whole, c)
		journal := got(whole.Journal(0))(t)
		for _, cut := range []int{len(journal) / 3, len(journal) / 2, len(journal)} {
			resumed, err := searchOf(t, c.Desc, journal[:cut])
			closing(t, resumed, err)
			kept := got(resumed.Info())(t).JournalResumed
			runSearch(t, resumed, c)
			expectEnd(t, resumed, c)
			if file := journal[:kept] + got(resumed.Journal(kept))(t); file != journal {
				t.Errorf("%s: cut at %d the journal is %s", c.About, cut, file)
			}
		}
	}
}

func TestRefusedSearches(t *testing.T) {
	for _, c := range searchCases(t, "refused", 8) {
		_, err := searchOf(t, c.Desc, "")
		if !errors.Is(err, status(t, c.Status)) || !strings.Contains(err.Error(), c.Message) {
			t.Errorf("%s: %v", c.Desc, err)
		}
	}
}

func TestSearchAnswers(t *testing.T) {
	search, err := NewSearch(&SearchDesc{NumLayers: 4, Strategy: StrategyGreedy})
	closing(t, search, err)
	if baseline := got(search.Next())(t); baseline != (SearchCandidate{ID: 0, Step: -1, Layer: -1, NumFull: 4}) {
		t.Errorf("the baseline is %+v", baseline)
	}
	if none := got(search.Next())(t); none.ID != -1 {
		t.Errorf("the baseline does not come alone: %+v", none)
	}
	ok(t, search.Tell(0, 1.5))
	ok(t, search.Tell(0, 1.5))
	if err := search.Tell(0, 2.5); !errors.Is(err, ErrAlreadyTold) {
		t.Error(err)
	}
	if err := search.Tell(1, math.NaN()); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	first := got(search.Next())(t)
	if first != (SearchCandidate{ID: 1, Step: 0, Layer: 1, FirstLayer: 1, NumFull: 3}) {
		t.Errorf("the first candidate is %+v", first)
	}
	ok(t, search.Release(first.ID))
	if again := got(search.Next())(t); again != first {
		t.Errorf("released, and then %+v", again)
	}
	journal := got(search.Journal(0))(t)
	_, err = NewSearch(&SearchDesc{NumLayers: 5, Strategy: StrategyGreedy, Journal: []byte(journal)})
	if !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), "num_layers 4; the desc has 5") {
		t.Error(err)
	}
}

func TestAClosedSearch(t *testing.T) {
	search := got(NewSearch(&SearchDesc{NumLayers: 4, Strategy: StrategyGreedy}))(t)
	ok(t, search.Close())
	ok(t, search.Close())
	if _, err := search.Next(); !errors.Is(err, ErrNullPointer) {
		t.Error(err)
	}
	if err := search.Tell(0, 1); !errors.Is(err, ErrNullPointer) {
		t.Error(err)
	}
}

func TestSearchByGoroutines(t *testing.T) {
	desc := &SearchDesc{NumLayers: 12, Strategy: StrategyGreedy, NumFull: 3}
	loss := func(pattern string) float64 { return float64(strings.LastIndex(pattern, "F")) }
	search, err := NewSearch(desc)
	closing(t, search, err)
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				info, err := search.Info()
				if err != nil || info.State != SearchRunning {
					return
				}
				candidate, err := search.Next()
				if err != nil || candidate.ID < 0 {
					runtime.Gosched() // the others have what is left of this step
					continue
				}
				pattern, err := search.CandidatePattern(candidate.ID)
				if err == nil {
					err = search.Tell(candidate.ID, loss(pattern))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	workers.Wait()
	if accepted := got(search.Accepted())(t); accepted != "FFFSSSSSSSSS" {
		t.Error(accepted)
	}
}

// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	. "libindexcache.invalid/go"
)

func TestOneIndexerManyGoroutinesACacheEach(t *testing.T) {
	h := all(t, here(t), "FS", 1)
	var wait sync.WaitGroup
	for seed := range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			cache, err := NewCache(h.context, &CacheDesc{
				Schedule: h.schedule, Indexer: h.indexer, Topk: h.topk, MaxRows: 1,
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer cache.Close()
			size, err := cache.ForwardWorkspaceSize(1, 100)
			if err != nil {
				t.Error(err)
				return
			}
			s := float64(seed)
			p := problem{numbers(heads*dim, s), numbers(heads, 1+s), numbers(100*dim, 2+s)}
			full := p.full(t, 0, memory(t, size))
			for end := int32(50); end < 100; end++ {
				if err := cache.Begin(oneRow(t, end)); err != nil {
					t.Error(err)
					return
				}
				view, err := cache.Forward(full, stream(t))
				if err != nil {
					t.Error(err)
					return
				}
				if chosen := row(t, &view, 0); !slices.Equal(chosen, p.expected(0, end)) {
					t.Errorf("%v at %d", chosen, end)
				}
			}
		}()
	}
	wait.Wait()
}

// Goroutines change their OS thread; every error still has its own message.
func TestMessagesBelongToTheirCalls(t *testing.T) {
	context := here(t)
	var wait sync.WaitGroup
	for goroutine := range 16 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for turn := range 100 {
				k := int32(5000 + goroutine*100 + turn)
				_, err := NewTopk(context, &TopkDesc{K: k})
				if err == nil || !strings.Contains(err.Error(), strconv.Itoa(int(k))) {
					t.Errorf("k = %d: %v", k, err)
				}
			}
		}()
	}
	wait.Wait()
}

// A cache behind the caller's lock, as the header's table of threads wants it.
func TestACacheBehindALock(t *testing.T) {
	h := all(t, here(t), "FS", 1)
	var lock sync.Mutex
	var wait sync.WaitGroup
	for range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 50 {
				lock.Lock()
				if err := h.cache.Begin(oneRow(t, 4)); err != nil {
					t.Error(err)
				}
				if err := h.cache.Reset(); err != nil {
					t.Error(err)
				}
				lock.Unlock()
			}
		}()
	}
	wait.Wait()
}

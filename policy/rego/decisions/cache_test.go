package decisions

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func entry(rule string) Entry { return Entry{Decision: policy.Decision{Rule: rule}} }

func has(c *Cache, repository, key string) bool {
	_, ok := c.Get(repository, []byte(key), noon)
	return ok
}

// putTwice adds an entry also where others have to be dropped for it.
func putTwice(c *Cache, repository, key string) {
	c.Put(repository, []byte(key), entry("x"))
	c.Put(repository, []byte(key), entry("x"))
}

// TestEntries: a decision is found under its repository and its key, in its time.
func TestEntries(t *testing.T) {
	var n Counts
	c := New(1<<20, &n)
	c.Put("a", []byte("k"), entry("one"))
	if d, ok := c.Get("a", []byte("k"), noon); !ok || d.Rule != "one" {
		t.Errorf("%+v, %v", d, ok)
	}
	if has(c, "b", "k") || has(c, "a", "l") {
		t.Error("a decision is found under another key")
	}
	c.Put("a", []byte("k"), entry("two"))
	if d, _ := c.Get("a", []byte("k"), noon); d.Rule != "two" {
		t.Errorf("after a replacement: %+v", d)
	}
	for _, e := range []struct {
		from, to time.Duration
		want     bool
	}{{-1, 1, true}, {0, 1, true}, {1, 2, false}, {-1, 0, false}} {
		c.Put("a", []byte("k"), Entry{From: noon.Add(e.from), To: noon.Add(e.to)})
		if has(c, "a", "k") != e.want {
			t.Errorf("from %d to %d: want %v", e.from, e.to, e.want)
		}
	}
	if bytes, entries := c.Used(); entries != 1 || bytes != sizeOf("a", []byte("k"), &policy.Decision{})+shareBytes {
		t.Errorf("%d bytes, %d entries", bytes, entries)
	}
}

// TestLargeDecisions: a decision over the bound is not kept.
func TestLargeDecisions(t *testing.T) {
	var n Counts
	c := New(1<<20, &n)
	c.Put("a", []byte("k"), entry(strings.Repeat("x", maxEntry)))
	if bytes, entries := c.Used(); bytes != 0 || entries != 0 || n.TooLarge.Load() != 1 {
		t.Errorf("%d bytes, %d entries, %d too large", bytes, entries, n.TooLarge.Load())
	}
	small := New(entryBytes, &n)
	small.Put("a", []byte("k"), entry("x"))
	if _, entries := small.Used(); entries != 0 {
		t.Errorf("%d entries in a cache that holds none", entries)
	}
}

// TestEqualParts: a repository with many entries takes none from those with few, and the
// bytes stay below the limit.
func TestEqualParts(t *testing.T) {
	var n Counts
	const limit = 1 << 20
	c := New(limit, &n)
	for i := range 50 {
		for k := range 5 {
			c.Put(fmt.Sprint("quiet", i), fmt.Appendf(nil, "k%d", k), entry("x"))
		}
	}
	for i := range 20_000 {
		putTwice(c, fmt.Sprint("busy", i%8), fmt.Sprint("unique-", i))
		if bytes, _ := c.Used(); bytes > limit {
			t.Fatalf("%d bytes", bytes)
		}
	}
	for i := range 50 {
		for k := range 5 {
			if !has(c, fmt.Sprint("quiet", i), fmt.Sprint("k", k)) {
				t.Fatalf("quiet%d lost k%d", i, k)
			}
		}
	}
	if n.Evictions.Load() == 0 || !has(c, "busy7", "unique-19999") {
		t.Errorf("%d evictions: the test shows nothing", n.Evictions.Load())
	}
}

// TestOnePart: a repository alone has at most its part, and loses the least recently used
// entries.
func TestOnePart(t *testing.T) {
	var n Counts
	c := New(1<<20, &n)
	for i := range 5_000 {
		putTwice(c, "a", strconv.Itoa(i))
		if !has(c, "a", "0") {
			t.Fatalf("the entry that is used each time was lost at %d", i)
		}
	}
	if bytes, entries := c.Used(); bytes > (1<<20)/shareOfRepository || entries < 100 || has(c, "a", "1") {
		t.Errorf("%d bytes, %d entries", bytes, entries)
	}
}

// TestUniqueKeys: keys that do not recur drop no entry, and are not kept once that would be
// necessary.
func TestUniqueKeys(t *testing.T) {
	var n Counts
	c := New(1<<20, &n)
	c.Put("a", []byte("old"), entry("x"))
	for i := range 50_000 {
		c.Put("a", fmt.Appendf(nil, "unique-%d", i), entry("x"))
	}
	if !has(c, "a", "old") || n.Evictions.Load() != 0 {
		t.Errorf("%d evictions", n.Evictions.Load())
	}
	putTwice(c, "a", "again")
	if !has(c, "a", "again") || n.Evictions.Load() == 0 {
		t.Errorf("a key that recurs is not kept")
	}
}

// TestManyRepositories: repositories without entries do not fill the cache.
func TestManyRepositories(t *testing.T) {
	var n Counts
	const limit = 1 << 18
	c := New(limit, &n)
	for i := range 10_000 {
		putTwice(c, fmt.Sprint(i), "k")
		if !has(c, fmt.Sprint(i), "k") {
			t.Fatalf("the entry of %d was not kept", i)
		}
	}
	if bytes, entries := c.Used(); bytes > limit || entries < 100 || len(c.shares) > 1000 {
		t.Errorf("%d bytes, %d entries, %d repositories", bytes, entries, len(c.shares))
	}
}

// TestBound: a full cache is within its bound after each request, also while each request is
// the first of another repository.
func TestBound(t *testing.T) {
	var n Counts
	const limit = 1 << 18
	c := New(limit, &n)
	for i := range 10_000 {
		c.Put(fmt.Sprint(i), []byte("k"), entry("x"))
		if bytes, _ := c.Used(); bytes > limit {
			t.Fatalf("%d bytes after %d repositories", bytes, i+1)
		}
	}
}

// TestConcurrently uses a cache from many goroutines; the race detector decides.
func TestConcurrently(t *testing.T) {
	var n Counts
	c := New(1<<16, &n)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 2_000 {
				repository, key := fmt.Sprint(i%5), fmt.Sprint((i*g)%97)
				if d, ok := c.Get(repository, []byte(key), noon); ok && d.Rule != repository+key {
					t.Errorf("%s %s has %s", repository, key, d.Rule)
				}
				c.Put(repository, []byte(key), entry(repository+key))
			}
		})
	}
	group.Wait()
	if bytes, _ := c.Used(); bytes > 1<<16 {
		t.Errorf("%d bytes", bytes)
	}
}

package bitbucket

import (
	"sync"
)

const shardCount = 16

// cache holds verified tokens by their SHA-256, so that a token itself is never
// kept. It holds at most as many as it was made for: each shard has two
// generations, and when the younger is full the older is dropped whole, so that
// what is in use survives and no list has to be kept in order. It is safe for
// concurrent use.
type cache struct {
	shards [shardCount]shard
	limit  int // of one generation of one shard
}

type shard struct {
	mu         sync.RWMutex
	young, old map[digest]*verified
	_          [64]byte // its own cache line
}

func newCache(entries int) *cache {
	c := &cache{limit: max(1, entries/(2*shardCount))}
	for i := range c.shards {
		c.shards[i].young = map[digest]*verified{}
	}
	return c
}

// get returns what is remembered of a token, or nil.
func (c *cache) get(d *digest) *verified {
	s := &c.shards[d[0]%shardCount]
	s.mu.RLock()
	v, young := s.young[*d]
	if !young {
		v = s.old[*d]
	}
	s.mu.RUnlock()
	if v != nil && !young {
		c.put(v)
	}
	return v
}

// put remembers a token.
func (c *cache) put(v *verified) {
	s := &c.shards[v.digest[0]%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= c.limit {
		s.old, s.young = s.young, make(map[digest]*verified, c.limit)
	}
	s.young[v.digest] = v
}

// drop forgets a token.
func (c *cache) drop(v *verified) {
	s := &c.shards[v.digest[0]%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, generation := range []map[digest]*verified{s.young, s.old} {
		if generation[v.digest] == v {
			delete(generation, v.digest)
		}
	}
}

func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.young)
		for d := range s.old {
			if _, both := s.young[d]; !both {
				n++
			}
		}
		s.mu.RUnlock()
	}
	return n
}

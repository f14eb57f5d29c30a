package postgres

import (
	"crypto/sha256"
	"sync"
)

const maxRecent = 32_768 // of one generation

type digest = [sha256.Size]byte

// recent remembers digests that are written down, in bounded number: when the
// younger generation is full the older is dropped whole, so that what is in use
// survives. Who is forgotten is only written down again. The zero value is
// empty; it is safe for concurrent use.
type recent struct {
	mu         sync.RWMutex
	young, old map[digest]struct{}
}

func (r *recent) has(d digest) bool {
	r.mu.RLock()
	_, young := r.young[d]
	_, old := r.old[d]
	r.mu.RUnlock()
	if old && !young {
		r.put(d)
	}
	return young || old
}

func (r *recent) put(d digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= maxRecent {
		r.old, r.young = r.young, make(map[digest]struct{})
	}
	r.young[d] = struct{}{}
}

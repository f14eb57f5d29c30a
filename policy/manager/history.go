package manager

import (
	"sync"
	"time"
)

// policyHistory remembers the revisions that were active, so that a return to one is
// recorded. It holds the latest thousand of this process.
type policyHistory struct {
	mu    sync.Mutex
	since map[string]time.Time
	order []string
}

func newPolicyHistory() *policyHistory { return &policyHistory{since: map[string]time.Time{}} }

// activatedAt returns when a revision became active before.
func (h *policyHistory) activatedAt(digest string) (at time.Time, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, again = h.since[digest]
	return at, again
}

// add records that a revision becomes active.
func (h *policyHistory) add(digest string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, again := h.since[digest]; !again {
		h.order = append(h.order, digest)
		if len(h.order) > 1000 {
			delete(h.since, h.order[0])
			h.order = h.order[1:]
		}
	}
	h.since[digest] = at
}

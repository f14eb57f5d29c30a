package bitbucket

import (
	"sync"
	"time"
)

const (
	// unadmittedFor is how long a token that was not admitted is not asked for
	// again. It becomes one only where an instance has admitted it before its end
	// and not yet written it down.
	unadmittedFor = 5 * time.Second
	maxUnadmitted = 4096
)

// unadmitted remembers, in bounded memory, tokens that have ended and were not
// admitted, so that a step that continues using one costs the store little. The
// zero value is empty. It is safe for concurrent use.
type unadmitted struct {
	mu    sync.Mutex
	until map[digest]time.Time
}

func (u *unadmitted) has(d digest, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Before(u.until[d])
}

func (u *unadmitted) add(d digest, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.until == nil || len(u.until) >= maxUnadmitted {
		u.until = map[digest]time.Time{}
	}
	u.until[d] = now.Add(unadmittedFor)
}

package dispatch

import (
	"math/rand/v2"
	"time"
)

// timing has the durations that a dispatcher waits. Tests shorten them.
type timing struct {
	backoffBase, backoffMax time.Duration // between the attempts of one task
	maxRetryAfter           time.Duration // the longest Retry-After that counts
	openBase, openMax       time.Duration // of an open circuit
	poll                    time.Duration // a claim is attempted at least this often
	storeBase, storeMax     time.Duration // between calls of a store that fails
}

var defaultTiming = timing{
	backoffBase: time.Second, backoffMax: 5 * time.Minute, maxRetryAfter: 15 * time.Minute,
	openBase: 2 * time.Second, openMax: time.Minute,
	poll: 5 * time.Second, storeBase: 100 * time.Millisecond, storeMax: 5 * time.Second,
}

// exponential returns base doubled n times, at most limit.
func exponential(base, limit time.Duration, n int) time.Duration {
	for range n {
		if base >= limit {
			break
		}
		base *= 2
	}
	return min(base, limit)
}

// backoff returns the pause before the next attempt, after so many attempts: exponential
// with full jitter, so that tasks that failed together are not repeated together (Brooker,
// Exponential Backoff And Jitter, 2015).
func (t timing) backoff(attempts int) time.Duration {
	return rand.N(exponential(t.backoffBase, t.backoffMax, attempts-1)) + 1
}

// jitter returns a random duration of at least half of d and less than d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

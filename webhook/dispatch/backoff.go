package dispatch

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// Timing has the durations that a [Dispatcher] waits. A zero field means its default.
type Timing struct {
	BackoffBase, BackoffMax time.Duration // between the attempts of one delivery; 1 s, 5 min
	MaxRetryAfter           time.Duration // the longest Retry-After that counts; 15 min
	OpenBase, OpenMax       time.Duration // of an open circuit; 2 s, 1 min
	Poll                    time.Duration // a claim is attempted at least this often; 5 s
	StoreBase, StoreMax     time.Duration // between calls of a store that fails; 100 ms, 5 s
}

func (t *Timing) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.BackoffBase, time.Second}, {&t.BackoffMax, 5 * time.Minute}, {&t.MaxRetryAfter, 15 * time.Minute},
		{&t.OpenBase, 2 * time.Second}, {&t.OpenMax, time.Minute},
		{&t.Poll, 5 * time.Second}, {&t.StoreBase, 100 * time.Millisecond}, {&t.StoreMax, 5 * time.Second},
	} {
		*d.field = cmp.Or(*d.field, d.value)
	}
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
func (t *Timing) backoff(attempts int) time.Duration {
	return rand.N(exponential(t.BackoffBase, t.BackoffMax, attempts-1)) + 1
}

// jitter returns a random duration of at least half of d and less than d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

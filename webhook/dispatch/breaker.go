package dispatch

import "time"

// failuresToOpen is how many attempts in succession have to fail for a circuit to open.
const failuresToOpen = 5

// Circuit is the state of an endpoint's circuit breaker. The zero value is closed.
type Circuit uint8

// The states.
const (
	Closed   Circuit = iota // deliveries are sent
	Open                    // the endpoint failed: nothing is sent for a while
	HalfOpen                // one delivery is sent as a probe
)

var circuitNames = [...]string{Closed: "closed", Open: "open", HalfOpen: "half_open"}

// String returns the state as metrics and logs name it.
func (c Circuit) String() string { return circuitNames[c] }

// breaker is a circuit breaker. Its user has a lock.
type breaker struct {
	timing   *Timing
	failures int // in succession
	opened   int // times in succession that the circuit opened
	until    time.Time
	tripped  bool
}

// state returns the state at a time.
func (b *breaker) state(now time.Time) Circuit {
	switch {
	case !b.tripped:
		return Closed
	case now.Before(b.until):
		return Open
	default:
		return HalfOpen
	}
}

// succeeded closes the circuit: the endpoint responds.
func (b *breaker) succeeded() { *b = breaker{timing: b.timing} }

// failed counts a failure, and opens the circuit after failuresToOpen of them, or after a
// failed probe. A requested pause opens it at once.
func (b *breaker) failed(now time.Time, retryAfter time.Duration) {
	b.failures++
	probe := b.state(now) == HalfOpen
	switch {
	case retryAfter > 0:
		b.open(now.Add(min(retryAfter, b.timing.MaxRetryAfter)))
	case probe || !b.tripped && b.failures >= failuresToOpen:
		b.open(now.Add(jitter(exponential(b.timing.OpenBase, b.timing.OpenMax, b.opened))))
		b.opened++
	}
}

func (b *breaker) open(until time.Time) {
	b.tripped = true
	if until.After(b.until) {
		b.until = until
	}
}

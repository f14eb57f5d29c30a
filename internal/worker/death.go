package worker

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Cause is why a worker process ended while it executed a call.
type Cause string

// The causes. Crashed is every end that the others do not describe.
const (
	OutOfTime   Cause = "time"
	OutOfMemory Cause = "memory"
	OutOfStack  Cause = "stack"
	BadReply    Cause = "reply" // the reply was too long, or not a reply
	Crashed     Cause = "crash"
)

// Causes lists all causes.
var Causes = []Cause{OutOfTime, OutOfMemory, OutOfStack, BadReply, Crashed}

// Death reports that a call ended its worker process, which executed no other call
// at that time.
type Death struct {
	Cause Cause
	Limit string // the limit that was exceeded, such as "256 MiB"; may be empty
	// Mark is the last value that the worker passed to [SetMark] during the call; 0
	// where it passed none.
	Mark uint64
}

// Retryable reports whether a loaded machine may be the cause, so that the same call
// may succeed later.
func (d *Death) Retryable() bool {
	return d.Cause == OutOfTime || d.Cause == OutOfMemory || d.Cause == Crashed
}

func (d *Death) Error() string {
	switch d.Cause {
	case OutOfTime:
		return "exceeded the time limit of " + d.Limit
	case OutOfMemory:
		return "exceeded the memory limit of " + d.Limit
	case OutOfStack:
		return "exceeded the stack limit of " + d.Limit + ": something is nested too deeply"
	case BadReply:
		return "exceeded the result limit of " + d.Limit
	}
	return "ended its worker process"
}

// Quarantined reports that a call was refused because calls with the same blame
// key have ended worker processes before.
type Quarantined struct {
	Death *Death    // the latest
	Until time.Time // when the next call is executed
}

func (q *Quarantined) Error() string {
	return fmt.Sprintf("%v; not executed again before %s", q.Death, q.Until.UTC().Format(time.RFC3339))
}

func (q *Quarantined) Unwrap() error { return q.Death }

// The reasons for which a call is not executed.
var (
	// ErrQueueFull reports that the queue of the call's share is full.
	ErrQueueFull = errors.New("too many calls of the same share wait for a worker")
	// ErrQueueTimeout reports that a call waited for [Config.QueueTimeout].
	ErrQueueTimeout = errors.New("no worker had time for the call")
	// ErrClosed reports that the pool is closed.
	ErrClosed = errors.New("the pool of workers is closed")
)

// causeOf classifies the end of a process by what the Go runtime wrote to standard
// error. The policy that was executed cannot write there.
func causeOf(stderr string) Cause {
	switch {
	case strings.Contains(stderr, "stack overflow"), strings.Contains(stderr, "goroutine stack exceeds"):
		return OutOfStack
	case strings.Contains(stderr, "out of memory"), strings.Contains(stderr, "cannot allocate memory"),
		strings.Contains(stderr, "cannot map pages in arena address space"),
		strings.Contains(stderr, "ThreadSanitizer failed to allocate"): // a build with the race detector
		return OutOfMemory
	}
	return Crashed
}

// Package fair shares the resources of an instance among repositories and their
// steps: slots, bytes and a rate.
//
// Every limit has three levels: one step, the steps of one repository, and all steps.
// A [Limiter] can queue acquisitions over a limit, within bounds, instead of refusing
// them. Free slots go to the waiting repositories in turn (round robin), and inside a
// repository to its waiting steps in turn. A repository with a thousand waiting requests
// therefore delays the first request of another by one turn.
package fair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Subject is the owner of an acquisition: a verified step of a repository, under its
// issuer. All callers with an empty Subject have one share.
type Subject struct{ Issuer, Repository, Step string }

// Limit bounds one level. A zero Slots, Bytes or Rate is not a limit; a zero Waiting
// lets no caller wait.
type Limit struct {
	Slots   int   // held at once
	Bytes   int64 // held at once
	Rate    int   // acquisitions per second
	Burst   int   // acquisitions at once under a Rate; 0: as many as Rate
	Waiting int   // acquisitions that may wait at once
}

// Config configures a [Limiter]. The zero Config has no limits.
type Config struct {
	Step, Repository, Total Limit
	// Wait bounds how long an acquisition may wait; 0: not at all.
	Wait time.Duration
	// WaitForSlots lets an acquisition wait for a slot, and not only for its rate.
	// A repository then holds at most as many slots as are free, so that slots
	// remain for other repositories (dynamic thresholds, Choudhury and Hahne 1998).
	WaitForSlots bool
	// Width is how many acquisitions of all repositories may be unsettled at once while
	// more than one repository acquires; 0: any number. Acquisitions over it wait, and
	// repositories take turns. A repository without an unsettled acquisition is exempt. See
	// [Slot.Settle].
	Width int
	// Narrow replaces Width while a sparse repository acquires too: one whose acquisitions
	// come one after the other. Each of them is delayed by the unsettled acquisitions of the
	// other repositories. 0: Width.
	Narrow int
	// SettleWithin bounds how long an acquisition counts as unsettled: longer ones wait for
	// something other than a processor, and must not keep one idle. Required with Width.
	SettleWithin time.Duration
}

// Validate returns an error if a limit is negative, or exceeds the limit of the same kind of
// an outer level.
func (c Config) Validate() error {
	var errs []error
	for _, pair := range [...]struct {
		inner, outer         Limit
		innerName, outerName Level
	}{{c.Step, c.Repository, Step, Repository}, {c.Step, c.Total, Step, Total}, {c.Repository, c.Total, Repository, Total}} {
		for _, n := range [...]struct {
			what         Kind
			inner, outer int64
		}{
			{Slots, int64(pair.inner.Slots), int64(pair.outer.Slots)},
			{Bytes, pair.inner.Bytes, pair.outer.Bytes},
			{Rate, int64(pair.inner.Rate), int64(pair.outer.Rate)},
		} {
			if n.outer > 0 && n.inner > n.outer {
				errs = append(errs, fmt.Errorf("fair: %s of one %s (%d) exceed those of %s (%d): lower the first or raise the second", n.what, pair.innerName, n.inner, pair.outerName, n.outer))
			}
		}
	}
	for _, l := range [...]Limit{c.Step, c.Repository, c.Total} {
		if l.Slots < 0 || l.Bytes < 0 || l.Rate < 0 || l.Burst < 0 || l.Waiting < 0 {
			errs = append(errs, errors.New("fair: a limit is negative: write 0 for no limit"))
		}
	}
	errs = append(errs, c.validateWidth())
	return errors.Join(errs...)
}

// Level is the level of a limit.
type Level int

// The levels.
const (
	Step Level = iota
	Repository
	Total
)

func (l Level) String() string { return [...]string{"step", "repository", "all"}[l] }

// Kind is the field of a [Limit] that is reached.
type Kind int

// The kinds.
const (
	Slots Kind = iota
	Bytes
	Rate
	Width // of [Config]
)

func (k Kind) String() string {
	return [...]string{"slots", "bytes", "requests per second", "unsettled requests"}[k]
}

// OverError is the limit that an acquisition would exceed.
type OverError struct {
	Level Level
	Kind  Kind
	Limit int64
}

// Error names the limit. The text is safe to show to clients.
func (e *OverError) Error() string {
	return fmt.Sprintf("the limit of %d %s of %s is reached", e.Limit, e.Kind, e.Level)
}

// Limiter counts acquisitions and queues those over a limit. It is safe for
// concurrent use and needs no Close. It keeps a subject only while the subject holds
// a slot or waits, and for some seconds longer if there is a rate.
type Limiter struct {
	config Config

	mu           sync.Mutex
	repositories map[repositoryKey]*repository
	total        bucket
	queue        ring[*repository] // those with waiting steps
	wake         *time.Timer       // at the next token that a caller waits for
	wakeAt       time.Time
	sweeping     bool
	unsettled    ring[unsettled]
	sparseAt     time.Time   // of the latest acquisition of a sparse repository
	latest       [2]acquired // of different repositories, the latest first
}

type repositoryKey struct{ issuer, repository string }

// bucket is the usage of one level by one subject.
type bucket struct {
	held    int
	bytes   int64
	tokens  float64   // of the token bucket, one for each acquisition
	at      time.Time // of the last refill; zero: never
	waiting int
}

type repository struct {
	bucket
	key       repositoryKey
	steps     map[string]*step
	queue     ring[*step] // steps with waiters
	queued    *element[*repository]
	unsettled int       // of its acquisitions
	busyAt    time.Time // of its latest acquisition beside another one of its own
}

type step struct {
	bucket
	name       string
	repository *repository
	waiters    ring[*waiter]
	queued     *element[*step]
}

// waiter is one acquisition in the queue.
type waiter struct {
	step    *step
	bytes   int64
	granted chan struct{} // closed with the lock held
	slot    Slot          // set before granted is closed
	queued  *element[*waiter]
}

// New returns a limiter. The configuration must pass [Config.Validate].
func New(c Config) *Limiter {
	return &Limiter{config: c, repositories: make(map[repositoryKey]*repository)}
}

// Slot is a granted acquisition. The zero Slot holds nothing. It is not
// safe for concurrent use.
type Slot struct {
	limiter   *Limiter
	step      *step
	bytes     int64
	unsettled *element[unsettled] // nil: settled
}

// Acquire acquires a slot and the given bytes for a subject. If a limit is reached and the
// configuration allows a wait, it waits for at most [Config.Wait], or until ctx ends. The
// error is an *[OverError] for the limit that is reached, or ctx.Err(). A refused
// acquisition does not count towards any limit. The caller must call [Slot.Release].
func (l *Limiter) Acquire(ctx context.Context, s Subject, bytes int64) (Slot, error) {
	slot, w, over := l.begin(s, bytes, true)
	switch {
	case over == nil:
		return slot, nil
	case w == nil:
		return Slot{}, over
	}
	return l.wait(ctx, w, over)
}

// TryAcquire is [Limiter.Acquire] without a wait.
func (l *Limiter) TryAcquire(s Subject, bytes int64) (Slot, error) {
	slot, _, over := l.begin(s, bytes, false)
	if over != nil {
		return Slot{}, over
	}
	return slot, nil
}

// begin grants an acquisition within all limits. Otherwise it returns the limit that
// is reached, and a queued waiter if the acquisition may wait.
func (l *Limiter) begin(s Subject, bytes int64, mayWait bool) (Slot, *waiter, *OverError) {
	if l.config == (Config{}) {
		return Slot{}, nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	st := l.find(s)
	l.dispatch(now) // earlier acquisitions first
	over := l.over(st, bytes, now)
	if over == nil && st.waiters.len == 0 {
		return l.grant(st, bytes, now), nil, nil
	}
	if over == nil {
		over = &OverError{Step, Rate, int64(l.config.Step.Rate)} // earlier acquisitions of its step wait
	}
	if !mayWait || !l.mayWait(st, over) {
		l.forget(st)
		return Slot{}, nil, over
	}
	w := l.enqueue(st, bytes)
	l.schedule(now)
	return Slot{}, w, over
}

// wait blocks until a waiter is granted, its time is over, or ctx ends.
func (l *Limiter) wait(ctx context.Context, w *waiter, over *OverError) (Slot, error) {
	timer := time.NewTimer(l.config.Wait)
	defer timer.Stop()
	var err error
	select {
	case <-w.granted:
		return w.slot, nil
	case <-timer.C:
		err = over
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.granted: // since the first select
		if ctx.Err() == nil {
			return w.slot, nil
		}
		w.slot.settle()
		l.release(w.step, w.bytes)
		return Slot{}, ctx.Err()
	default:
	}
	l.dequeue(w)
	l.forget(w.step)
	return Slot{}, err
}

// Release releases the slot and the bytes. Further calls do nothing.
func (l *Slot) Release() {
	if l.limiter == nil {
		return
	}
	l.limiter.mu.Lock()
	defer l.limiter.mu.Unlock()
	l.settle()
	l.limiter.release(l.step, l.bytes)
	l.limiter = nil
}

// ReleaseBytes releases the bytes and keeps the slot.
func (l *Slot) ReleaseBytes() {
	if l.limiter == nil || l.bytes == 0 {
		return
	}
	l.limiter.mu.Lock()
	defer l.limiter.mu.Unlock()
	for _, b := range l.limiter.levels(l.step) {
		b.bytes -= l.bytes
	}
	l.bytes = 0
	l.limiter.dispatch(time.Now())
}

// Held returns the number of slots that are held in total.
func (l *Limiter) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total.held
}

// Waiting returns the number of waiting acquisitions.
func (l *Limiter) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total.waiting
}

// Subjects returns the number of steps and repositories in memory.
func (l *Limiter) Subjects() (steps, repositories int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.repositories {
		steps += len(r.steps)
	}
	return steps, len(l.repositories)
}

// Package fair shares what an instance has once among the steps and
// repositories that use it: slots, bytes and a rate.
//
// Every limit has three levels: one step, the steps of one repository, and all.
// A [Limiter] queues what is over a limit where a wait is better than a refusal,
// within bounds. Free slots go to the waiting repositories in turn (round robin),
// and inside a repository to its waiting steps in turn, so that a repository with
// a thousand waiting requests delays another's first by one turn.
package fair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Subject is who acquires: a verified step of a repository, under its issuer.
// Callers that know no step leave it empty; those share one share.
type Subject struct{ Issuer, Repository, Step string }

// Limit bounds one level. A zero Slots, Bytes or Rate is no limit; a zero Waiting
// lets nobody wait.
type Limit struct {
	Slots   int   // held at once
	Bytes   int64 // held at once
	Rate    int   // acquisitions per second; as many may come at once
	Waiting int   // that wait at once
}

// Config is how a [Limiter] shares. The zero Config limits nothing.
type Config struct {
	Step, Repository, Total Limit
	// Wait bounds how long an acquisition waits for its turn; 0: it does not wait.
	Wait time.Duration
	// WaitForSlots lets an acquisition wait for a slot, and not only for its rate.
	// A repository then holds at most as many slots as are free, so that there is
	// one for another repository however many hold slots (dynamic thresholds,
	// Choudhury and Hahne 1998).
	WaitForSlots bool
}

// Validate reports a share that is above the share that contains it, and a
// negative number.
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
				errs = append(errs, fmt.Errorf("fair: %s of one %s (%d) are more than of %s (%d): lower the one or raise the other", n.what, pair.innerName, n.inner, pair.outerName, n.outer))
			}
		}
	}
	for _, l := range [...]Limit{c.Step, c.Repository, c.Total} {
		if l.Slots < 0 || l.Bytes < 0 || l.Rate < 0 || l.Waiting < 0 {
			errs = append(errs, errors.New("fair: a limit is negative: write 0 for no limit"))
		}
	}
	return errors.Join(errs...)
}

// Level is whose limit it is.
type Level int

// The levels.
const (
	Step Level = iota
	Repository
	Total
)

func (l Level) String() string { return [...]string{"step", "repository", "all"}[l] }

// Kind is which of a [Limit]'s numbers is reached.
type Kind int

// The kinds.
const (
	Slots Kind = iota
	Bytes
	Rate
)

func (k Kind) String() string { return [...]string{"slots", "bytes", "requests per second"}[k] }

// OverError is the limit that an acquisition would go over.
type OverError struct {
	Level Level
	Kind  Kind
	Limit int64
}

// Error names the limit. It may be shown to anybody.
func (e *OverError) Error() string {
	return fmt.Sprintf("the limit of %d %s of %s is reached", e.Limit, e.Kind, e.Level)
}

// Limiter counts what is held and queues what is over a limit. It is safe for
// concurrent use and needs no closing. It remembers subjects only while they hold
// or wait, and for some seconds afterwards where they have a rate.
type Limiter struct {
	config Config

	mu           sync.Mutex
	repositories map[repositoryKey]*repository
	total        usage
	queue        ring[*repository] // those with waiting steps
	wake         *time.Timer       // at the next token that somebody waits for
	wakeAt       time.Time
	sweeping     bool
}

type repositoryKey struct{ issuer, repository string }

// usage is what one level holds.
type usage struct {
	held    int
	bytes   int64
	tokens  float64 // acquisitions that it may make at once
	at      time.Time
	waiting int
}

type repository struct {
	usage
	key    repositoryKey
	steps  map[string]*step
	queue  ring[*step] // those with waiters
	queued *element[*repository]
}

type step struct {
	usage
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
	queued  *element[*waiter]
}

// New returns a limiter. An invalid configuration is the caller's mistake: see
// [Config.Validate].
func New(c Config) *Limiter {
	return &Limiter{config: c, repositories: make(map[repositoryKey]*repository)}
}

// Lease is what an acquisition holds. The zero Lease holds nothing. It is not
// safe for concurrent use.
type Lease struct {
	limiter *Limiter
	step    *step
	bytes   int64
}

// Acquire takes a slot, and so many bytes, for a subject. It waits where the
// configuration lets it, until ctx ends. It returns an *[OverError] for the
// limit that is reached, or ctx's error. A refused acquisition costs nothing: a
// step over its own limit costs its repository and the others none of theirs.
func (l *Limiter) Acquire(ctx context.Context, s Subject, bytes int64) (Lease, error) {
	lease, w, over := l.begin(s, bytes, true)
	switch {
	case over == nil:
		return lease, nil
	case w == nil:
		return Lease{}, over
	}
	return l.wait(ctx, w, over)
}

// TryAcquire is Acquire without a wait.
func (l *Limiter) TryAcquire(s Subject, bytes int64) (Lease, error) {
	lease, _, over := l.begin(s, bytes, false)
	if over != nil {
		return Lease{}, over
	}
	return lease, nil
}

// begin grants what there is room for. Otherwise it returns the limit that is
// reached, and a place in the queue if the acquisition may wait.
func (l *Limiter) begin(s Subject, bytes int64, mayWait bool) (Lease, *waiter, *OverError) {
	if l.config == (Config{}) {
		return Lease{}, nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	st := l.find(s)
	l.dispatch(now) // those that came before
	over := l.over(st, bytes, now)
	if over == nil && st.waiters.len == 0 {
		l.grant(st, bytes)
		return Lease{l, st, bytes}, nil, nil
	}
	if over == nil {
		over = &OverError{Step, Rate, int64(l.config.Step.Rate)} // behind others of its step
	}
	if !mayWait || !l.mayWait(st, over) {
		l.forget(st)
		return Lease{}, nil, over
	}
	w := l.enqueue(st, bytes)
	l.schedule(now)
	return Lease{}, w, over
}

// wait waits for a waiter's turn.
func (l *Limiter) wait(ctx context.Context, w *waiter, over *OverError) (Lease, error) {
	timer := time.NewTimer(l.config.Wait)
	defer timer.Stop()
	var err error
	select {
	case <-w.granted:
		return Lease{l, w.step, w.bytes}, nil
	case <-timer.C:
		err = over
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.granted: // at the same moment
		if ctx.Err() == nil {
			return Lease{l, w.step, w.bytes}, nil
		}
		l.release(w.step, w.bytes)
		return Lease{}, ctx.Err()
	default:
	}
	l.dequeue(w)
	l.forget(w.step)
	return Lease{}, err
}

// Release gives everything back. Further calls do nothing.
func (l *Lease) Release() {
	if l.limiter == nil {
		return
	}
	l.limiter.mu.Lock()
	defer l.limiter.mu.Unlock()
	l.limiter.release(l.step, l.bytes)
	l.limiter = nil
}

// ReleaseBytes gives the bytes back and keeps the slot.
func (l *Lease) ReleaseBytes() {
	if l.limiter == nil || l.bytes == 0 {
		return
	}
	l.limiter.mu.Lock()
	defer l.limiter.mu.Unlock()
	for _, u := range l.limiter.levels(l.step) {
		u.bytes -= l.bytes
	}
	l.bytes = 0
	l.limiter.dispatch(time.Now())
}

// Held is how many slots are held by all.
func (l *Limiter) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total.held
}

// Waiting is how many acquisitions wait.
func (l *Limiter) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total.waiting
}

// Subjects is how many steps and repositories are remembered.
func (l *Limiter) Subjects() (steps, repositories int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.repositories {
		steps += len(r.steps)
	}
	return steps, len(l.repositories)
}

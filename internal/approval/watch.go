package approval

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// Watcher asks about activations. Run is called once; the other methods by anybody.
type Watcher struct {
	config Config
	wake   chan struct{}
	tries  map[string]*try // by commit; Run's alone

	mu     sync.Mutex
	status Status
}

// try is what was tried for one commit.
type try struct {
	next   time.Time
	pause  time.Duration
	latest error
}

// New makes a watcher.
func New(c Config) *Watcher {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watcher{config: c, wake: make(chan struct{}, 1), tries: map[string]*try{}, status: Status{Recorded: map[Outcome]int64{}}}
}

// Activated adds a commit that this instance activated. It never waits.
func (w *Watcher) Activated() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Status returns the state without a query.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	s.Recorded = maps.Clone(s.Recorded)
	s.Requests = w.config.API.Requests()
	return s
}

// Run reads and records pending approvals until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	wait := w.stagger()
	for {
		if !w.pause(ctx, wait) {
			return
		}
		next, err := w.round(ctx)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		fresh := err != nil && (w.status.Err == nil || w.status.Err.Error() != err.Error())
		w.status.Err, w.status.Read = err, err == nil
		w.mu.Unlock()
		if fresh {
			w.config.Logger.WarnContext(ctx, "approvals of the policy's pull requests not read", "error", err)
		}
		wait = max(min(w.config.Interval, next.Sub(w.config.Now())), 10*time.Millisecond)
	}
}

// pause waits, or until this instance activates something; false: ctx ended.
func (w *Watcher) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	case <-w.wake:
	}
	t.Reset(w.stagger())
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (w *Watcher) stagger() time.Duration {
	return time.Duration(rand.Int64N(int64(w.config.Stagger) + 1))
}

// round asks about each commit that is due, and returns when the next one is.
func (w *Watcher) round(ctx context.Context) (next time.Time, err error) {
	now := w.config.Now()
	next = now.Add(w.config.Interval)
	open, err := w.config.Log.Unapproved(ctx, now.Add(-Lookback))
	if err != nil {
		return next, err
	}
	known := map[string]bool{}
	left, oldest := 0, time.Time{}
	for _, a := range open {
		known[a.Commit] = true
		t := w.tries[a.Commit]
		if t == nil {
			t = &try{pause: minRetry}
			w.tries[a.Commit] = t
		}
		done := false
		if !t.next.After(now) {
			done, t.latest = w.check(ctx, a)
			if ctx.Err() != nil {
				return next, ctx.Err()
			}
			t.next = w.config.Now().Add(t.pause)
			t.pause = min(2*t.pause, maxRetry)
		}
		if done {
			continue
		}
		err = errors.Join(err, t.latest)
		if left++; oldest.IsZero() || a.At.Before(oldest) {
			oldest = a.At
		}
		if t.next.Before(next) {
			next = t.next
		}
	}
	maps.DeleteFunc(w.tries, func(commit string, _ *try) bool { return !known[commit] })
	w.mu.Lock()
	w.status.Open, w.status.Oldest = left, oldest
	w.mu.Unlock()
	return next, err
}

// ask asks about one activation, and records what is found where that is final.
func (w *Watcher) check(ctx context.Context, a Activation) (done bool, err error) {
	c := &w.config
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	age := c.Now().Sub(a.At)
	f, err := c.evaluate(bounded, a)
	if err != nil {
		err = fmt.Errorf("commit %.12s: %w", a.Commit, explained(err))
		if age < c.Deadline {
			return false, err
		}
		f = &finding{outcome: Unknown, cause: explained(err).Error()}
	}
	if f.outcome == NoPullRequest && age < c.Settle {
		return false, nil // the link may come
	}
	// Another instance may have recorded it meanwhile.
	open, err := c.Log.Unapproved(ctx, a.At.Add(-time.Second))
	if err != nil {
		return false, err
	}
	mine := false
	for _, o := range open {
		mine = mine || o.Commit == a.Commit
	}
	if !mine {
		return true, nil
	}
	if err := c.Log.Record(ctx, c.event(a, f)); err != nil {
		return false, err
	}
	c.Logger.InfoContext(ctx, "approval of the policy recorded", "commit", a.Commit, "outcome", string(f.outcome), "cause", f.cause)
	w.mu.Lock()
	w.status.Recorded[f.outcome]++
	w.mu.Unlock()
	return true, nil
}

// explained adds what to do about a response.
func explained(err error) error {
	switch {
	case errors.Is(err, identity.ErrForbidden):
		return fmt.Errorf("%w: give the access token the scope pullrequest", err)
	case errors.Is(err, identity.ErrAbsent):
		return fmt.Errorf("%w: check policy.approvals.repository, and that the access token is of its workspace", err)
	}
	return err
}

package manager

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// gatedSource offers one state. Each offer announces itself and ends when the test lets it.
type gatedSource struct {
	snapshot *policy.Snapshot
	begun    chan time.Time
	release  chan struct{}
}

func (*gatedSource) String() string { return "a gated source" }

func (g *gatedSource) Offer(ctx context.Context, _ policy.Revision) (*policy.Snapshot, error) {
	select {
	case g.begun <- time.Now():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-g.release:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return g.snapshot, nil
}

// newGated returns a manager that polls once an hour, and its source. A worker process would
// stop the clock of a synctest bubble: there are no repositories.
func newGated(set *rego.Set, directory string) (*Manager, *gatedSource) {
	g := &gatedSource{snapshot: set.Snapshot(), begun: make(chan time.Time), release: make(chan struct{})}
	p := &Manager{
		engine: new(rego.Engine), source: g, poll: time.Hour, kept: source.NewKept(directory), log: slog.New(slog.DiscardHandler),
		lastGood: set, current: set.Revision().Digest, offered: set.Revision(), confirmedOnDisk: time.Now().Add(24 * time.Hour),
		requests: make(chan struct{}, 1),
	}
	p.checks = p.newChecks()
	return p, g
}

// TestRequestedRefresh: a flood of requests makes one poll at a time, with one more after it
// and a pause between them; a request during a poll is followed by another poll; and without
// requests there is none before the poll interval.
func TestRequestedRefresh(t *testing.T) {
	t.Parallel()
	directory, set := t.TempDir(), treeOf(t, rego.Options{}, nil)
	synctest.Test(t, func(t *testing.T) {
		p, g := newGated(set, directory)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.Follow(ctx, nil)
		}()
		defer func() {
			cancel()
			<-ended
			p.checks.Close()
		}()
		flood := func() {
			for range 1000 {
				p.RequestRefresh()
			}
		}
		asked := time.Now()
		flood()
		if at := <-g.begun; at != asked {
			t.Errorf("the first poll began %v after the request", at.Sub(asked))
		}
		time.Sleep(10 * time.Second) // of the bubble: the source is slow
		flood()
		g.release <- struct{}{}
		released := time.Now()
		at := <-g.begun
		if pause := at.Sub(released); pause != requestPauseMax {
			t.Errorf("after a slow poll the next one began after %v, want %v", pause, requestPauseMax)
		}
		g.release <- struct{}{}
		synctest.Wait()
		p.RequestRefresh()
		released = time.Now()
		if pause := (<-g.begun).Sub(released); pause != requestPauseMin {
			t.Errorf("after a quick poll the next one began after %v, want %v", pause, requestPauseMin)
		}
		g.release <- struct{}{}
		released = time.Now()
		if pause := (<-g.begun).Sub(released); pause < 59*time.Minute {
			t.Errorf("without a request a poll began after %v", pause)
		}
		g.release <- struct{}{}
	})
}

// TestRequestedRefreshOfTheCandidate: the candidate's source is polled too, once for a flood
// of requests, and again for one that comes during a poll.
func TestRequestedRefreshOfTheCandidate(t *testing.T) {
	t.Parallel()
	directory, set := t.TempDir(), treeOf(t, rego.Options{}, nil)
	synctest.Test(t, func(t *testing.T) {
		p, _ := newGated(set, directory)
		g := &gatedSource{snapshot: set.Snapshot(), begun: make(chan time.Time), release: make(chan struct{})}
		p.candidate = &candidate{source: g, poll: time.Hour, log: p.log, manager: p, offered: set.Revision().Digest, requests: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.candidate.run(ctx)
		}()
		defer func() {
			cancel()
			<-ended
			p.checks.Close()
		}()
		<-g.begun // of the start
		for range 100 {
			p.RequestRefresh()
		}
		g.release <- struct{}{}
		released := time.Now()
		if wait := (<-g.begun).Sub(released); wait != requestPauseMin {
			t.Errorf("the requested poll began after %v", wait)
		}
		g.release <- struct{}{}
		released = time.Now()
		if wait := (<-g.begun).Sub(released); wait != time.Hour {
			t.Errorf("the next poll began after %v", wait)
		}
		g.release <- struct{}{}
	})
}

// TestRequestPauseKeepsThePromise: a refresh begins within a second of its delivery.
func TestRequestPauseKeepsThePromise(t *testing.T) {
	t.Parallel()
	for _, took := range []time.Duration{0, time.Millisecond, 500 * time.Millisecond, time.Hour} {
		if pause := requestPause(took); pause < requestPauseMin || pause >= time.Second {
			t.Errorf("after %v the pause is %v", took, pause)
		}
	}
}

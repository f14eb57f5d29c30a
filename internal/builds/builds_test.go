package builds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// log is a log with decisions about pipelines, and Bitbucket's API behind it.
type log struct {
	pipelines []identity.PipelineID // in the log, the latest first
	saved     map[string]identity.Pipeline
	since     []time.Time // of each query
	fetched   []string
	fail      string // the pipeline that cannot be fetched
}

func (l *log) UnknownPipelines(_ context.Context, since time.Time, limit int) (list []identity.PipelineID, err error) {
	l.since = append(l.since, since)
	for _, id := range l.pipelines {
		if _, known := l.saved[id.PipelineUUID]; !known && len(list) < limit {
			list = append(list, id)
		}
	}
	return list, nil
}

func (l *log) SavePipelines(_ context.Context, pipelines []identity.Pipeline) error {
	for _, p := range pipelines {
		l.saved[p.PipelineUUID] = p
	}
	return nil
}

func (l *log) fetch(_ context.Context, id identity.PipelineID) (identity.Pipeline, bool, error) {
	l.fetched = append(l.fetched, id.PipelineUUID)
	if id.PipelineUUID == l.fail {
		return identity.Pipeline{}, true, errors.New("no response")
	}
	return identity.Pipeline{PipelineUUID: id.PipelineUUID, BuildNumber: 1}, id.WorkspaceUUID != "without API", nil
}

func newLog(n int) *log {
	l := &log{saved: map[string]identity.Pipeline{}}
	for i := range n {
		l.pipelines = append(l.pipelines, identity.PipelineID{PipelineUUID: fmt.Sprint(i)})
	}
	return l
}

func (l *log) fetcher(now *time.Time) *fetcher {
	return &fetcher{Config: Config{Store: l, Fetch: l.fetch, Log: slog.New(slog.DiscardHandler)}, now: func() time.Time { return *now }}
}

func TestRoundFetchesEveryPipelineOnce(t *testing.T) {
	l, now := newLog(2*batchSize+1), time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	f := l.fetcher(&now)
	if err := f.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(l.saved) != 2*batchSize+1 || len(l.fetched) != 2*batchSize+1 {
		t.Errorf("saved %d, fetched %d", len(l.saved), len(l.fetched))
	}
	if want := now.Add(-maxAge); !l.since[0].Equal(want) {
		t.Errorf("the first round begins at %v, want %v", l.since[0], want)
	}
	complete := now
	now = now.Add(interval)
	if err := f.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := complete.Add(-overlap); !l.since[len(l.since)-1].Equal(want) || len(l.fetched) != 2*batchSize+1 {
		t.Errorf("the second round begins at %v, want %v, and %d were fetched", l.since[len(l.since)-1], want, len(l.fetched))
	}
}

// TestRoundContinuesAfterAnError: what was fetched before an error is saved, and the next
// round begins where the first one did.
func TestRoundContinuesAfterAnError(t *testing.T) {
	l, now := newLog(3), time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	f := l.fetcher(&now)
	l.fail = "1"
	if err := f.round(t.Context()); err == nil || len(l.saved) != 1 {
		t.Errorf("%v, saved %v", err, l.saved)
	}
	l.fail = ""
	if err := f.round(t.Context()); err != nil || len(l.saved) != 3 {
		t.Errorf("%v, saved %v", err, l.saved)
	}
	if !l.since[1].Equal(l.since[0]) || !slices.Equal(l.fetched, []string{"0", "1", "1", "2"}) {
		t.Errorf("queried %v, fetched %v", l.since, l.fetched)
	}
}

func TestWorkspaceWithoutAnAPIEndsTheRound(t *testing.T) {
	l, now := newLog(batchSize), time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for i := range l.pipelines {
		l.pipelines[i].WorkspaceUUID = "without API"
	}
	if err := l.fetcher(&now).round(t.Context()); err != nil || len(l.saved) > 0 || len(l.since) != 1 {
		t.Errorf("%v, saved %v, queried %d times", err, l.saved, len(l.since))
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	l := newLog(1)
	ctx, cancel := context.WithCancel(t.Context())
	c := Config{Store: l, Log: slog.New(slog.DiscardHandler), Fetch: func(ctx context.Context, id identity.PipelineID) (identity.Pipeline, bool, error) {
		cancel()
		return l.fetch(ctx, id)
	}}
	Run(ctx, c)
	if len(l.saved) != 1 {
		t.Errorf("saved %v", l.saved)
	}
}

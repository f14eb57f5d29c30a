// Package builds fetches the build number and the creator of the pipelines in the audit
// log. It works in the background, after the decisions: the log's views show what it
// fetches, and no decision uses it.
package builds

import (
	"context"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/identity"
)

const (
	interval  = 15 * time.Second
	batchSize = 50
	maxAge    = 24 * time.Hour // of the first decision about a pipeline that is still fetched
	overlap   = time.Hour      // decisions may enter the log late, from the journal of an outage
)

// Store reads the pipelines of the audit log, and saves what Bitbucket returned about them.
type Store interface {
	// UnknownPipelines returns at most limit pipelines with a decision since a time that
	// were not saved yet, the latest first.
	UnknownPipelines(ctx context.Context, since time.Time, limit int) ([]identity.PipelineID, error)
	// SavePipelines returns when the pipelines are stored.
	SavePipelines(ctx context.Context, pipelines []identity.Pipeline) error
}

// Config configures [Run]. Every field is required.
type Config struct {
	Store Store
	// Fetch fetches a pipeline from Bitbucket. hasAPI is false if the pipeline's workspace
	// has no API.
	Fetch func(ctx context.Context, id identity.PipelineID) (p identity.Pipeline, hasAPI bool, err error)
	Log   *slog.Logger
}

// Run fetches pipelines until ctx ends.
func Run(ctx context.Context, c Config) {
	f := fetcher{Config: c, now: time.Now}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := f.round(ctx); err != nil && ctx.Err() == nil {
			c.Log.Debug("pipeline details not fetched yet", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

type fetcher struct {
	Config
	now          func() time.Time
	fetchedUntil time.Time // every pipeline with a decision before this time was fetched
}

// round fetches all unknown pipelines. After an error the next round fetches the rest.
func (f *fetcher) round(ctx context.Context) error {
	began := f.now()
	since := began.Add(-maxAge)
	if from := f.fetchedUntil.Add(-overlap); from.After(since) {
		since = from
	}
	for {
		list, err := f.Store.UnknownPipelines(ctx, since, batchSize)
		if err != nil {
			return err
		}
		fetched, failure := f.fetch(ctx, list)
		if err := f.Store.SavePipelines(ctx, fetched); err != nil {
			return err
		}
		if failure != nil {
			return failure
		}
		if len(list) < batchSize || len(fetched) == 0 {
			f.fetchedUntil = began
			return nil
		}
	}
}

// fetch fetches each pipeline from Bitbucket, and returns those before the first error.
func (f *fetcher) fetch(ctx context.Context, list []identity.PipelineID) (fetched []identity.Pipeline, err error) {
	for _, id := range list {
		p, hasAPI, err := f.Fetch(ctx, id)
		if err != nil {
			return fetched, err
		}
		if hasAPI {
			fetched = append(fetched, p)
		}
	}
	return fetched, nil
}

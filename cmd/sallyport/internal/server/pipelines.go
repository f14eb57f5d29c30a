package server

import (
	"context"
	"errors"
	"time"

	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
)

const (
	pipelinesEvery   = 15 * time.Second
	pipelinesAtOnce  = 50
	pipelinesBack    = 24 * time.Hour // what was decided before is not asked for any more
	pipelinesOverlap = time.Hour      // the journal of an outage brings decisions of before
)

// pipelineLearner finds out, after the decision and in the background, which
// build a pipeline was and who started it: for the log's view, and for nothing
// that is decided.
type pipelineLearner struct {
	*server
	all time.Time // everything that was decided before has been asked for
}

// learnPipelines looks for pipelines of which nothing is known until ctx ends.
func (s *server) learnPipelines(ctx context.Context) {
	asked := false
	for _, w := range s.config.Identity.Bitbucket {
		asked = asked || w.API != nil
	}
	if !asked {
		return
	}
	l := &pipelineLearner{server: s}
	tick := time.NewTicker(pipelinesEvery)
	defer tick.Stop()
	for {
		if err := l.round(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("pipeline details not fetched yet", "component", "identity", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// round asks for what is not known. An error leaves the rest to the next.
func (l *pipelineLearner) round(ctx context.Context) error {
	begun := time.Now()
	since := begun.Add(-pipelinesBack)
	if from := l.all.Add(-pipelinesOverlap); from.After(since) {
		since = from
	}
	for {
		list, err := l.store.UnknownPipelines(ctx, since, pipelinesAtOnce)
		if err != nil {
			return err
		}
		fetched, failure := l.fetch(ctx, list)
		if err := l.store.SavePipelines(ctx, fetched); err != nil {
			return err
		}
		if failure != nil {
			return failure
		}
		if len(list) < pipelinesAtOnce || len(fetched) == 0 {
			l.all = begun
			return nil
		}
	}
}

// fetch fetches each pipeline from Bitbucket, and returns those before the first error.
func (l *pipelineLearner) fetch(ctx context.Context, list []identitypg.UnknownPipeline) (fetched []identitypg.Pipeline, err error) {
	for _, u := range list {
		api, err := l.authenticator.API(u.WorkspaceUUID)
		if errors.Is(err, bitbucketapi.ErrNoAPI) {
			continue
		}
		if err != nil {
			return fetched, err
		}
		p, err := api.Pipeline(ctx, u.RepositoryUUID, u.PipelineUUID)
		if err != nil {
			return fetched, err
		}
		fetched = append(fetched, identitypg.Pipeline{PipelineUUID: u.PipelineUUID, RepositoryUUID: u.RepositoryUUID,
			BuildNumber: p.BuildNumber, Creator: p.Creator, CreatorUUID: p.CreatorUUID, FetchedAt: p.FetchedAt})
	}
	return fetched, nil
}

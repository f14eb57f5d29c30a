package main

import (
	"context"
	"errors"
	"time"

	words "github.com/sallyport/sallyport/identity"
	identity "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/completeness"
)

// openCompleteness makes what holds Bitbucket's deployments against the log. It
// is nil where no workspace has an API, and where it is switched off.
func (s *server) openCompleteness(context.Context) error {
	c := s.config.Audit.Completeness
	if !c.Enabled {
		return nil
	}
	var workspaces []completeness.Workspace
	for _, w := range s.config.Identity.Bitbucket {
		if w.API == nil {
			continue
		}
		reader, err := s.authenticator.Deployments(w.WorkspaceUUID, c.RequestsPerHour)
		if err != nil {
			return err
		}
		workspaces = append(workspaces, completeness.Workspace{UUID: w.WorkspaceUUID, Slug: w.Workspace, API: reader})
	}
	if len(workspaces) == 0 {
		return nil
	}
	s.reconciler = completeness.New(completeness.Config{
		Workspaces: workspaces, Open: s.reconcile, Record: s.audit.Record, Ready: s.wholeLog,
		Interval: c.Interval, Lookback: c.Lookback, Settle: c.Settle, Log: s.log.With("component", "completeness"),
	})
	return nil
}

// reconcile takes the right to reconcile; neither a session nor an error says that
// another instance has it.
func (s *server) reconcile(ctx context.Context) (completeness.Session, error) {
	session, err := s.store.Reconcile(ctx)
	if errors.Is(err, identity.ErrBusy) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return session, nil
}

// wholeLog returns an error while events are known to be missing from the
// database that may come yet.
func (s *server) wholeLog() error {
	if err := s.audit.Available(); err != nil {
		return err
	}
	if st := s.audit.Stats(); st.Outage > 0 || !st.JournalSince.IsZero() {
		return completeness.NotReady("events wait in the journal")
	}
	return nil
}

// completenessDetail is what /readyz tells. It decides nothing: a deployment that
// went another way is no fault of this instance.
func (s *server) completenessDetail() any {
	st := s.reconciler.Status()
	detail := map[string]any{"latest": when(st.At), "deployments": st.Deployments, "repositories": st.Repositories}
	if st.Elsewhere {
		detail["elsewhere"] = "another instance does it"
	}
	if st.Err != nil {
		detail["error"] = st.Err.Error()
	}
	return detail
}

func (s *server) completenessGauges() {
	m, status := s.metrics, s.reconciler.Status
	m.GaugeBy("sallyport_deployments", "Deployments that Bitbucket told of within audit.completeness.lookback, by what was found of them.",
		"class", labels(words.Coverages), func(class string) float64 { return float64(status().Deployments[words.Coverage(class)]) })
	m.GaugeBy("sallyport_repositories_looked_at", "Repositories, by what came of looking for their deployments, when this instance last looked.",
		"outcome", labels(words.LookOutcomes), func(outcome string) float64 { return float64(status().Repositories[words.LookOutcome(outcome)]) })
	m.Gauge("sallyport_completeness_age_seconds", "How long ago deployments were last held against the log, by whichever instance, as far as this one knows; since the start where it does not.", func() float64 {
		st := status()
		if st.Elsewhere {
			return 0
		}
		if st.At.IsZero() {
			return time.Since(s.began).Seconds()
		}
		return time.Since(st.At).Seconds()
	})
	m.Gauge("sallyport_completeness_failing", "1 while the latest reconciliation was not whole.", func() float64 { return one(status().Err != nil) })
	m.Counter("sallyport_completeness_requests_total", "Requests to Bitbucket for deployments.", func() float64 { return float64(status().Requests) })
}

func labels[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

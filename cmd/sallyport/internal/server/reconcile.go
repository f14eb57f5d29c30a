package server

import (
	"context"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/reconcile"
	reconcilebb "github.com/sallyport/sallyport/reconcile/bitbucket"
	reconcilepg "github.com/sallyport/sallyport/reconcile/postgres"
)

// openReconciliation makes what holds Bitbucket's deployments against the log. It
// is nil where no workspace has an API, and where it is switched off.
func (s *server) openReconciliation(context.Context) error {
	c := s.config.Audit.Reconciliation
	if !c.Enabled {
		return nil
	}
	var workspaces []reconcile.Workspace
	for _, w := range s.config.Identity.Bitbucket {
		if w.API == nil {
			continue
		}
		api, err := s.authenticator.API(w.WorkspaceUUID)
		if err != nil {
			return err
		}
		workspaces = append(workspaces, reconcile.Workspace{UUID: w.WorkspaceUUID, Slug: w.Workspace, API: reconcilebb.New(api, c.RequestsPerHour)})
	}
	if len(workspaces) == 0 {
		return nil
	}
	s.reconciler = reconcile.New(reconcile.Config{
		Workspaces: workspaces, Open: s.reconcile, Record: s.audit.Record, Ready: s.wholeLog,
		Interval: c.Interval, Lookback: c.Lookback, GracePeriod: c.GracePeriod, Log: s.log.With("component", "reconciliation"),
	})
	return nil
}

// reconcile acquires the lock of reconciliation.
func (s *server) reconcile(ctx context.Context) (reconcile.Session, error) {
	session, err := reconcilepg.Open(ctx, s.databaseURL)
	if err != nil { // never a nil session in an interface
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
		return reconcile.NotReady("events wait in the journal")
	}
	return nil
}

// reconciliationDetail is a detail of /readyz. It decides nothing: a deployment that did
// not use Sallyport is not a fault of this instance.
func (s *server) reconciliationDetail() any {
	st := s.reconciler.Status()
	detail := map[string]any{"latest": cli.FormatTimeOrNever(st.At), "deployments": st.Deployments, "repositories": st.Repositories}
	if st.Busy != nil {
		detail["lock"] = st.Busy.Error()
	}
	detail["last_success"] = cli.FormatTimeOrNever(st.LastSuccess)
	if st.Err != nil {
		detail["error"] = st.Err.Error()
	}
	return detail
}

func (s *server) reconciliationGauges() {
	m, status := s.metrics, s.reconciler.Status
	m.GaugeBy("sallyport_deployments", "Deployments that Bitbucket reported within audit.reconciliation.lookback, by class.",
		"class", labels(identity.DeploymentClasses), func(class string) float64 { return float64(status().Deployments[identity.DeploymentClass(class)]) })
	m.GaugeBy("sallyport_repositories_scanned", "Repositories of the latest reconciliation of this instance, by outcome.",
		"outcome", labels(identity.ScanOutcomes), func(outcome string) float64 { return float64(status().Repositories[identity.ScanOutcome(outcome)]) })
	m.Gauge("sallyport_reconciliation_last_success_timestamp_seconds", "When the latest reconciliation began that read every repository, by whichever instance, in Unix time; of several workspaces the one where that is longest ago; 0 where it is not known.", func() float64 {
		return unixSeconds(status().LastSuccess)
	})
	m.Gauge("sallyport_reconciliation_last_successful", "1 where the latest reconciliation of this instance, or the one before it of another, read every repository.", func() float64 {
		st := status()
		return one(st.Err == nil && !st.At.IsZero())
	})
	m.Counter("sallyport_reconciliation_requests_total", "Requests to Bitbucket for deployments.", func() float64 { return float64(status().Requests) })
}

// lockGauges reports the locks of the database that another session holds.
func (s *server) lockGauges() {
	s.metrics.GaugeBy("sallyport_lock_held_since_timestamp_seconds", "Since when another session has held a lock that this instance waits for, as of its latest attempt; 0: none does. A reconciliation may take hours.",
		"lock", []string{"names", "reconciliation"}, func(lock string) float64 {
			switch {
			case lock == "names":
				return unixSeconds(s.store.Status().NamesBlocked)
			case s.reconciler != nil:
				if busy := s.reconciler.Status().Busy; busy != nil {
					return unixSeconds(busy.Since)
				}
			}
			return 0
		})
}

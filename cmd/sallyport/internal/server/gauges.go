package server

import (
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy/manager"
)

// gauges adds the components' own figures to the metrics.
func (s *server) gauges() {
	s.auditGauges()
	s.policyGauges()
	s.candidateMetrics()
	s.workerMetrics()
	s.cacheMetrics()
	s.reevaluationGauges()
	s.identityGauges()
	s.secretGauges()
}

func (s *server) policyGauges() {
	m := s.metrics
	m.Gauge("sallyport_policy_activated_timestamp_seconds", "When the active revision was activated.", func() float64 {
		loaded, _ := s.policy.Since()
		return unixSeconds(loaded)
	})
	m.Gauge("sallyport_policy_last_reload_successful", "1 if the latest state of the policy is active, 0 if it was rejected.", func() float64 {
		_, failed := s.policy.Since()
		return one(!failed)
	})
	m.Gauge("sallyport_policy_last_confirmed_timestamp_seconds", "When the policy's source last offered the active revision.", func() float64 {
		return unixSeconds(s.policy.LastConfirmed())
	})
	kinds := make([]string, len(manager.RejectionKinds))
	for i, kind := range manager.RejectionKinds {
		kinds[i] = string(kind)
	}
	m.CounterBy("sallyport_policy_rejected_total", "Rejected policy states, by what was wrong.", "kind", kinds, func(kind string) float64 {
		return float64(s.policy.RejectionCounts()[manager.RejectionKind(kind)])
	})
	m.CounterBy("sallyport_repository_policy_rejected_total", "Repositories whose policy was rejected while the revision was activated, by what was wrong.", "kind", manager.Kinds, func(kind string) float64 {
		return float64(s.policy.Rejections().Total(kind))
	})
	m.Gauge("sallyport_repository_policies_pending", "Repositories whose policy of the active revision is not checked yet. Earlier rules of theirs are in force, or they are denied.", func() float64 {
		return float64(len(s.policy.Pending()))
	})
	m.GaugeBy("sallyport_repository_policies_rejected", "Repositories whose policy is rejected in the active revision, by what is in force: their earlier rules (kept), or nothing (denied).", "in_force", []string{"kept", "denied"}, func(inForce string) float64 {
		kept, denied := s.policy.Rejections().Counts()
		if inForce == "kept" {
			return float64(kept)
		}
		return float64(denied)
	})
	m.Gauge("sallyport_exceptions_expiring", "Exceptions of the policy that end within policy.exception_expiry_warning.", func() float64 {
		return float64(len(s.policy.ExpiringExceptions(time.Now())))
	})
}

func (s *server) reevaluationGauges() {
	m := s.metrics
	m.Counter("sallyport_reevaluations_total", "Evaluations of open tunnels and requests by a changed policy.", func() float64 { return float64(s.reevaluator.Status().Evaluated) })
	m.Gauge("sallyport_reevaluations_pending", "Evaluations of open tunnels and requests that wait in their repository's queue.", func() float64 { return float64(s.reevaluator.Status().Pending) })
	m.Gauge("sallyport_reevaluation_errors", "Tunnels and requests that stay open although the active policy could not be evaluated for them.", func() float64 { return float64(s.reevaluator.Status().Errors) })
}

func (s *server) identityGauges() {
	m := s.metrics
	m.Gauge("sallyport_keys_last_fetch_timestamp_seconds", "When keys were last fetched, of the issuer for which this is longest ago; the start of this instance if never.", func() float64 {
		oldest := time.Now()
		for _, st := range s.authenticator.Status() {
			oldest = earliest(oldest, st.Fetched, s.began)
		}
		return unixSeconds(oldest)
	})
	m.Gauge("sallyport_keys_unusable", "Workspaces whose tokens cannot be verified: no keys, or too old ones.", func() float64 {
		n := 0
		for _, st := range s.authenticator.Status() {
			if !st.KeysUsable {
				n++
			}
		}
		return float64(n)
	})
	m.Gauge("sallyport_names_last_response_timestamp_seconds", "When the REST API last responded, of the workspace for which this is longest ago; the start of this instance if never.", func() float64 {
		oldest := time.Now()
		for _, st := range s.authenticator.Status() {
			if st.Names {
				oldest = earliest(oldest, st.NamesSucceeded, s.began)
			}
		}
		return unixSeconds(oldest)
	})
	m.Gauge("sallyport_names_failing", "Workspaces whose latest request for names failed.", func() float64 {
		n := 0
		for _, st := range s.authenticator.Status() {
			if st.NamesError != nil {
				n++
			}
		}
		return float64(n)
	})
	m.Gauge("sallyport_names_cached", "Repositories and deployments whose names are cached.", func() float64 {
		n := 0
		for _, st := range s.authenticator.Status() {
			n += st.KnownNames
		}
		return float64(n)
	})
}

func (s *server) auditGauges() {
	m := s.metrics
	m.Gauge("sallyport_audit_unavailable_since_timestamp_seconds", "Since when the audit database is unavailable; 0: it is available.", func() float64 {
		if outage := s.audit.Stats().Outage; outage > 0 {
			return unixSeconds(time.Now().Add(-outage))
		}
		return 0
	})
	m.Gauge("sallyport_audit_queued_events", "Events queued to be written.", func() float64 { return float64(s.audit.Stats().Waiting) })
	m.Counter("sallyport_audit_recorded_total", "Events that are durable in the database.", func() float64 { return float64(s.audit.Stats().Recorded) })
	m.Counter("sallyport_audit_rejected_total", "Events rejected because the queue was full; their requests were refused.", func() float64 { return float64(s.audit.Stats().Rejected) })
	m.Counter("sallyport_audit_share_exceeded_total", "Rejected events whose step or repository had used its share of the queue or of the journal.", func() float64 { return float64(s.audit.Stats().OverShare) })
	m.Counter("sallyport_audit_repeated_refusals_total", "Refusals without an event of their own that repeat a recorded one; events refusals_repeated have their counts.", func() float64 { return float64(s.gate.Repeated()) })
	m.Counter("sallyport_audit_events_lost_total", "Events that the audit database had acknowledged and misses, after a failover or a restore.", func() float64 { return float64(s.audit.Stats().Lost) })
	m.Counter("sallyport_audit_reconnects_total", "Reconnections to the audit database.", func() float64 { return float64(s.audit.Stats().Reconnects) })
	m.Counter("sallyport_journal_events_total", "Events written to the journal while the database was unavailable.", func() float64 { return float64(s.audit.Stats().Journaled) })
	m.Gauge("sallyport_journal_bytes", "The journal's size.", func() float64 { return float64(s.audit.Stats().JournalBytes) })
	m.Gauge("sallyport_journal_full", "1 while the journal is full: refusals are then only counted.", func() float64 { return one(s.audit.Stats().JournalFull) })
	m.Gauge("sallyport_journal_oldest_event_timestamp_seconds", "When the oldest event in the journal was written; 0: the journal is empty.", func() float64 {
		return unixSeconds(s.audit.Stats().JournalSince)
	})
	m.Gauge("sallyport_spooling", "1 while the database is unavailable and allowed requests are recorded in the journal.", func() float64 { return one(s.audit.Stats().Spooling) })
	m.Counter("sallyport_spooled_total", "Allowed requests recorded in the journal.", func() float64 { return float64(s.audit.Stats().Spooled) })
	m.Gauge("sallyport_audit_durability_disabled", "1 while the database's settings can lose what it has committed (fsync, full_page_writes).", func() float64 { return one(s.audit.Stats().Unsafe) })
}

// auditDetail is a detail of /readyz.
func (s *server) auditDetail() any {
	st := s.audit.Stats()
	detail := map[string]any{"durable": !st.Unsafe}
	if st.Outage > 0 {
		detail["unavailable_seconds"] = int(st.Outage.Seconds())
		detail["spooling"] = st.Spooling
	}
	if !st.JournalSince.IsZero() || st.JournalFull {
		detail["journal"] = map[string]any{"since": cli.FormatTimeOrNever(st.JournalSince), "bytes": st.JournalBytes, "full": st.JournalFull}
	}
	return detail
}

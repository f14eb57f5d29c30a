package server

import (
	"errors"
	"fmt"
	"strings"

	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
)

// sealMetrics adds what the sealer knows of itself to the metrics. Each value that
// could look like health because nothing computed it has a zero that alerts: a pass
// that never succeeded has the timestamp 0.
func (s *server) sealMetrics() {
	m, status := s.metrics, s.sealer.Status
	m.Gauge("sallyport_audit_checkpoint_size", "Events under the latest checkpoint.", func() float64 { return float64(status().Size) })
	m.Gauge("sallyport_audit_checkpoint_timestamp_seconds", "When the latest checkpoint was signed, by the signer's clock; 0: there is none.", func() float64 {
		return unixSeconds(status().Time)
	})
	m.Counter("sallyport_audit_sealed_events_total", "Events that this instance has sealed.", func() float64 { return float64(status().Sealed) })
	m.Gauge("sallyport_audit_last_seal_success_timestamp_seconds", "When this instance last sealed all events, or last observed that another instance does; 0: never.", func() float64 {
		return unixSeconds(status().LastSuccess)
	})
	m.Gauge("sallyport_audit_unsealed_since_timestamp_seconds", "Since when events wait to be sealed, what cannot be determined included; 0: none wait.", func() float64 {
		return unixSeconds(status().UnsealedSince)
	})
	m.GaugeBy("sallyport_audit_seal_failing", "1 for the reason for which this instance cannot seal.", "reason", auditsealer.Failures(), func(reason string) float64 {
		return one(status().Reason() == reason)
	})
	m.Gauge("sallyport_audit_stuck_writers", "Writers with a number that is missing or there twice, whose later events cannot be sealed.", func() float64 {
		return float64(len(status().Findings))
	})
	m.Gauge("sallyport_audit_blocked_events", "About how many events wait behind a missing number.", func() float64 { return float64(status().Blocked) })
	m.Gauge("sallyport_audit_invalid_checkpoints", "Checkpoints in the database above the latest valid one whose signature or row is not valid.", func() float64 {
		return float64(len(status().Invalid))
	})
	m.Gauge("sallyport_checkpoint_publishers_failing", "Checkpoint destinations whose latest publication failed.", func() float64 {
		failing := 0
		for _, p := range status().Places {
			if p.Err != nil {
				failing++
			}
		}
		return float64(failing)
	})
	m.Counter("sallyport_checkpoint_publish_failures_total", "Attempts to publish a checkpoint that failed.", func() float64 {
		var failed int64
		for _, p := range status().Places {
			failed += p.Failed
		}
		return float64(failed)
	})
}

// sealWarning is what is wrong with sealing; nil: nothing is.
func (s *server) sealWarning() error {
	st := s.sealer.Status()
	var all []error
	if st.Err != nil {
		all = append(all, fmt.Errorf("the audit log is not sealed: %w", st.Err))
	}
	if len(st.Findings) > 0 {
		all = append(all, fmt.Errorf("events are not sealed: %s", strings.Join(st.Findings, "; ")))
	}
	if len(st.Invalid) > 0 {
		all = append(all, errors.New(strings.Join(st.Invalid, "; ")))
	}
	for _, p := range st.Places {
		if p.Err != nil {
			all = append(all, fmt.Errorf("checkpoints are not published to %s: %w", p.Name, p.Err))
		}
	}
	return errors.Join(all...)
}

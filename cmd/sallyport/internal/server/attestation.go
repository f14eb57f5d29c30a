package server

import (
	"time"

	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// openAttester makes what records the schema and the access to the log.
func (s *server) openAttester() (err error) {
	s.attester, err = auditsealer.NewAttester(auditsealer.AttesterConfig{URL: s.databaseURL, Record: s.audit.Record, Log: s.log.With("component", "attestation")})
	return err
}

// schemaDetail is what /readyz shows of the schema. It decides nothing.
func (s *server) schemaDetail() any {
	st := s.attester.Status()
	detail := map[string]any{"compared": cli.FormatTimeOrNever(st.At), "known": st.Known}
	if len(st.Differences) > 0 {
		detail["differences"] = st.Differences[:min(len(st.Differences), 100)]
	}
	if st.Err != nil {
		detail["error"] = st.Err.Error()
	}
	return detail
}

func (s *server) schemaGauges() {
	m, status := s.metrics, s.attester.Status
	m.Gauge("sallyport_schema_differences", "Objects of the database's schema that are not as this version installs them, when they were last compared.", func() float64 { return float64(len(status().Differences)) })
	m.Gauge("sallyport_schema_last_compared_timestamp_seconds", "When the schema was last compared, in Unix time; 0: not since the start, or this version does not know what the schema should be.", func() float64 {
		st := status()
		if !st.Known {
			return unixSeconds(time.Time{})
		}
		return unixSeconds(st.At)
	})
}

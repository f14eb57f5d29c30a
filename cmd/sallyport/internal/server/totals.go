package server

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/totals"
	"github.com/sallyport/sallyport/policy"
)

// observer counts in the metrics, and refusals without an event in the totals too.
type observer struct {
	*admin.Metrics
	totals *totals.Totals
}

// Unrecorded counts a refusal that got no event.
func (o observer) Unrecorded(reason policy.Reason) {
	o.Metrics.Unrecorded(reason)
	o.totals.Add(reason)
}

// Refused counts a refusal that never reached the gate.
func (o observer) Refused(listener string, reason policy.Reason) {
	o.Metrics.Refused(listener, reason)
	o.totals.Add(reason)
}

// openTotals begins to count what is refused without an event. The last event
// follows the last decision, and comes before the log is closed.
func (s *server) openTotals() observer {
	s.totals = totals.New(totals.Config{
		Record: s.audit.Record, Rejected: func() int64 { return s.audit.Stats().Rejected }, Log: s.log.With("component", "totals"),
	})
	s.atClose(func() {
		if !s.sealing { // the start failed: no client was served
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.gate.RecordRepeats(ctx)
		s.totals.Flush(ctx)
	})
	return observer{s.metrics, s.totals}
}

package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// Events of a step come in the order of time, and those of no other.
func TestStepEvents(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, e := range []struct {
		kind, id, step, verdict, cause string
		at                             time.Duration
	}{
		{"tunnel_closed", uuidOf(11), "", "", "finished", time.Second}, {"decision", uuidOf(11), uuidOf(1), "allow", "", 0},
		{"decision", uuidOf(12), uuidOf(2), "deny", "", 0}, {"decision", uuidOf(13), uuidOf(1), "deny", "", -time.Hour},
	} {
		pgtest.Exec(t, conn, `INSERT INTO audit.events (time, kind, writer, writer_sequence, decision_id, step_uuid, verdict, would_deny, close_reason, record)
			VALUES ($1, $2, 'w', $3, $7, CASE WHEN $2 = 'decision' THEN nullif($4, '')::uuid END, nullif($5, ''), CASE WHEN $5 = 'allow' THEN true END, nullif($6, ''), '{}')`, now.Add(e.at), e.kind, i+1, e.step, e.verdict, e.cause, e.id)
	}
	got, err := h.StepEvents(t.Context(), uuidOf(1), now.Add(-time.Minute))
	if err != nil || len(got) != 2 || got[0] != (StepEvent{Kind: "decision", DecisionID: uuidOf(11), Verdict: "allow", WouldDeny: true}) || got[1] != (StepEvent{Kind: "tunnel_closed", DecisionID: uuidOf(11), CloseReason: "finished"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

package sealer

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
)

// checkpointRows traces how many checkpoints the queries of a session have read.
type checkpointRows struct{ rows int64 }

func (c *checkpointRows) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, c, strings.Contains(q.SQL, "FROM audit.checkpoints"))
}

func (c *checkpointRows) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	if ours, _ := ctx.Value(c).(bool); ours {
		c.rows += q.CommandTag.RowsAffected()
	}
}

// TestSealReadsTheLatestCheckpointOnly: what a step reads does not grow with the
// checkpoints of the log.
func TestSealReadsTheLatestCheckpointOnly(t *testing.T) {
	t.Parallel()
	l := newAttackedLog(t)
	for n := range 30 {
		audittest.Record(t, l.log, audittest.Decision("allow", n))
		audittest.Seal(t, l.sealer)
	}
	trace := &checkpointRows{}
	l.sealer.drop()
	l.sealer.connect.Tracer = trace
	audittest.Seal(t, l.sealer) // a new connection compares what was published
	trace.rows = 0
	audittest.Record(t, l.log, audittest.Decision("allow", 0))
	if _, err := l.sealer.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if trace.rows == 0 || trace.rows > 10 {
		t.Errorf("a step read %d checkpoints of 31", trace.rows)
	}
}

package writer

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// claimSuccession adds, as a login that may record, a writer that claims to continue another and
// reports that writer's numbers as lost.
func claimSuccession(t testing.TB, conn *pgx.Conn, previous string, first, last int64) error {
	t.Helper()
	name := audittest.ActAs(t, conn)
	now := time.Now()
	started := &audit.Event{Time: now, Kind: audit.KindWriterStarted, Attributes: []audit.Attribute{{Name: "previous_writer", Value: previous}}}
	lost := loss{writer: previous, first: first, last: last}.event(now)
	for i, e := range []*audit.Event{started, lost} {
		e.Writer, e.WriterSequence = name, int64(i+1)
		e.Normalise()
		if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES ($1, $2, $3, $4, $5)`,
			e.Time, string(e.Kind), name, i+1, e.AppendRecord(nil)); err != nil {
			return err
		}
	}
	return nil
}

// TestPredecessorIsNeeded: a login that may record, and does not know the secret of a
// writer, cannot explain that writer's missing numbers as its successor. Where the
// database does not compare secrets it can.
func TestPredecessorIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	victim, secret := auditpg.NewWriter(time.Now())
	audittest.AddWriter(t, db, victim, `SELECT generate_series(5, 9) UNION ALL SELECT 1`)
	conn, admin := audittest.Connect(t, db.URL(database.Writer)), audittest.Connect(t, db.URL(""))
	explained := func() string {
		return strings.Join(audittest.QueryStrings(t, admin, `SELECT coalesce(explained_by, 'nothing') FROM audit.gaps WHERE writer = $1`, victim), " ")
	}
	_, other := auditpg.NewWriter(time.Now())
	for _, shown := range []string{"", " ", other, strings.Repeat("x", 43)} {
		audittest.MustExec(t, conn, `SELECT set_config('sallyport.previous_writer_secrets', $1, false)`, shown)
		if err := claimSuccession(t, conn, victim, 2, 4); audittest.SQLState(err) != "42501" {
			t.Errorf("claimed with the secrets %q: %v", shown, err)
		}
	}
	audittest.MustExec(t, conn, `SELECT set_config('sallyport.previous_writer_secrets', $1, false)`, secret)
	if err := claimSuccession(t, conn, victim+" 01234567890a-AAAAAAAAAAAAAAAAAAAAAA", 2, 4); audittest.SQLState(err) != "42501" {
		t.Errorf("claimed beside another writer: %v", err)
	}
	if got := explained(); got != "nothing" {
		t.Errorf("the gap is explained by %s", got)
	}
	if err := claimSuccession(t, conn, victim, 2, 4); err != nil || explained() != "events_lost" {
		t.Errorf("the process itself: explained by %s, %v", explained(), err)
	}

	next, _ := auditpg.NewWriter(time.Now())
	audittest.AddWriter(t, db, next, `SELECT generate_series(5, 9) UNION ALL SELECT 1`)
	body := audittest.QueryValue[string](t, admin, `SELECT pg_get_functiondef('audit.check_event()'::regprocedure)`)
	audittest.MustExec(t, admin, strings.Replace(body, "NEW.kind = 'writer_started'", "false", 1))
	victim = next
	if err := claimSuccession(t, conn, next, 2, 4); err != nil || explained() != "events_lost" {
		t.Errorf("negative control: explained by %s, %v", explained(), err)
	}
}

package sealer

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
)

// TestRetentionChecksAreNeeded weakens each check of a month in turn. The owner's login
// then removes events that the check keeps.
func TestRetentionChecksAreNeeded(t *testing.T) {
	t.Parallel()
	a := aged(t)
	first, second := a.old[0], a.old[1]
	late := audittest.Decision("deny", 1) // dated in the second month, and sealed today
	late.Time = second.Add(time.Hour)
	audittest.Record(t, a.log, late)
	audittest.Seal(t, a.sealer)
	owner := a.admin(t)
	audittest.DisableTriggers(t, owner)
	installed := audittest.QueryValue[string](t, owner, `SELECT pg_get_functiondef('audit.check_month(date, integer)'::regprocedure)`)
	partition := "audit.events_" + first.Format("2006_01")
	const names = "time, kind, writer, writer_sequence, record"
	for _, c := range []struct {
		what     string
		check    string // of the function's text
		instead  string
		prepare  string
		month    time.Time
		keepDays int
		refusal  string
	}{
		{"less than a year", "IF keep_days < 366 THEN", "IF false THEN", "", a.young, 30, "at least"},
		{"a hold", "IF hold IS NOT NULL THEN", "IF false THEN", `SELECT audit.set_hold('` + first.Format(time.DateOnly) + `', '` + first.Format(time.DateOnly) + `', 'case 17')`, first, 400, "hold 1 keeps it"},
		{"an unsealed event", "WHEN unsealed > 0", "WHEN false", `INSERT INTO audit.events (` + names + `) SELECT time + interval '1 s', kind, writer, 1000000, '{}' FROM ` + partition + ` WHERE kind = 'decision' LIMIT 1`, first, 400, "not sealed"},
		{"a changed event", "WHEN changed > 0", "WHEN false", `UPDATE ` + partition + ` SET message = 'forged' WHERE kind = 'decision'`, first, 400, "not what was sealed"},
		{"a copy", "WHEN copies > 0", "WHEN false", `INSERT INTO audit.events (` + names + `) SELECT time + interval '1 s', kind, writer, writer_sequence, record FROM ` + partition + ` WHERE kind = 'admin'`, first, 400, "there twice"},
		{"a late checkpoint", "WHEN sealed_by > clock_timestamp()", "WHEN false AND sealed_by > clock_timestamp()", "", second, 400, "sealed as late as"},
	} {
		if strings.Count(installed, c.check) != 1 {
			t.Fatalf("the function has no single %q:\n%s", c.check, installed)
		}
		// attempt prepares the case and removes the month in a transaction without effect.
		attempt := func(definition string) (left int, err error) {
			tx, err := owner.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := tx.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
			}()
			if _, err := tx.Exec(t.Context(), definition); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), c.prepare); err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
			if _, err := tx.Exec(t.Context(), `SELECT audit.expire($1, $2)`, c.month, c.keepDays); err != nil {
				return 0, err
			}
			return decisionsIn(t, tx, c.month), nil
		}
		if _, err := attempt(installed); err == nil || !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("%s: %v", c.what, err)
		}
		if left, err := attempt(strings.Replace(installed, c.check, c.instead, 1)); err != nil || left != 0 {
			t.Errorf("%s: without the check %d events are left: %v", c.what, left, err)
		}
	}
}

func decisionsIn(t *testing.T, tx pgx.Tx, month time.Time) (n int) {
	t.Helper()
	if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM audit.events WHERE kind = 'decision' AND time >= $1 AND time < $2`, month, month.AddDate(0, 1, 0)).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

package reader

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// transcript writes down what a sink is given.
type transcript struct{ strings.Builder }

func (s *transcript) Sealed(e *audit.Entry) {
	fmt.Fprintf(s, "%d %s %d %x %d %s %s\n", e.Index, e.Writer, e.Sequence, e.Hash, e.Copies, e.Record, e.Columns)
}
func (s *transcript) Checkpoint(c audit.Statement) { fmt.Fprintf(s, "%d %s\n", c.Size, c.Note) }
func (s *transcript) Unsealed(e *audit.Entry) {
	fmt.Fprintf(s, "%s %d %s %s\n", e.Writer, e.Sequence, e.Record, e.Columns)
}

// TestTwoConnections: with two connections a sink is given what it is given with
// one, in the same order, whatever the size of the windows, of a sound log and of
// a damaged one.
func TestTwoConnections(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	audittest.VariedLog(t, db, partsOf(t, db), 150, false)
	admin := audittest.Connect(t, db.URL(""))
	audittest.DisableTriggers(t, admin)
	for _, damage := range []string{"", `DELETE FROM audit.events WHERE writer_sequence % 11 = 3`,
		`UPDATE audit.leaves SET writer_sequence = writer_sequence + 1000 WHERE index % 17 = 5`, `DELETE FROM audit.leaves WHERE index BETWEEN 40 AND 60`} {
		if damage != "" {
			if _, err := admin.Exec(t.Context(), damage); err != nil {
				t.Fatal(err)
			}
		}
		var want string
		for _, how := range []struct {
			window int64
			alone  bool
		}{{0, true}, {0, false}, {1, false}, {16, true}, {16, false}} {
			r, err := Open(t.Context(), db.URL(database.Auditor))
			if err != nil {
				t.Fatal(err)
			}
			r.alone, r.window = how.alone, how.window
			var got transcript
			if err := r.Walk(t.Context(), &got, nil); err != nil {
				t.Fatal(err)
			}
			r.Close()
			if want == "" {
				want = got.String()
			}
			if got.String() != want {
				t.Errorf("%q: %+v reads something else", damage, how)
			}
		}
	}
}

// TestReaderIsCutOff: a connection that ends while the log is read is an error,
// and no log that ends there.
func TestReaderIsCutOff(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	audittest.VariedLog(t, db, partsOf(t, db), 60, false)
	admin := audittest.Connect(t, db.URL(""))
	for _, which := range []string{"ASC", "DESC"} {
		r, err := Open(t.Context(), db.URL(database.Auditor))
		if err != nil {
			t.Fatal(err)
		}
		r.window = 2
		once := cutter(func() {
			if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 5000) FROM (SELECT pid FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'sallyport reader' ORDER BY backend_start `+which+` LIMIT 1) a) b`); n != 1 {
				t.Errorf("%d connections were ended", n)
			}
		})
		if err := r.Walk(t.Context(), &once, nil); err == nil {
			t.Errorf("%s: it did not notice", which)
		}
		r.Close()
	}
}

// cutter is a sink that does something at the first leaf.
type cutter func()

func (c *cutter) Sealed(*audit.Entry) {
	if *c != nil {
		(*c)()
		*c = nil
	}
}
func (*cutter) Checkpoint(audit.Statement) {}
func (*cutter) Unsealed(*audit.Entry)      {}

// partsOf opens the parts of a log of this database.
func partsOf(t testing.TB, db *pgtest.DB) audittest.Parts {
	url := db.URL(database.Writer)
	return audittest.Parts{
		Log: func() audittest.Log { return writertest.Open(t, url, func(c *auditwriter.Config) { c.Log = nil }) },
		Sealer: func(l audittest.Log, key *audit.Signer, now func() time.Time) audittest.Sealer {
			return sealertest.Open(t, url, l, func(c *auditsealer.Config) { c.Signer, c.Log, c.Now = key, nil, now })
		},
	}
}

// verify reads the log as an auditor.
func verify(t testing.TB, db *pgtest.DB, trust audit.Trust) *audit.Report {
	t.Helper()
	r, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return audittest.ReportOf(t, trust, func(ctx context.Context, v *audit.Verification) error { return r.Walk(ctx, v, nil) })
}

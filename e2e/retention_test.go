package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// age puts a decision into a log that was sealed more than a year ago.
func age(t testing.TB, admin string, signer *audit.Signer) time.Time {
	t.Helper()
	month := time.Now().UTC().AddDate(0, -17, 0)
	month = time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)
	conn, err := pgx.Connect(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var tree audit.Tree
	add := func(n int, e *audit.Event) {
		e.Writer, e.WriterSequence, e.Time = "an-old-one", int64(n), month.Add(time.Hour)
		e.Normalise()
		record := e.AppendRecord(nil)
		leaf := audit.Leaf(record)
		tree.Append(leaf)
		if _, err := conn.Exec(t.Context(), `SELECT audit.ensure_partition($1::date)`, month); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, verdict, would_deny, host, record)
			VALUES ($1, $2, $3, $4, nullif($5, ''), CASE WHEN $5 <> '' THEN false END, nullif($6, ''), $7)`, e.Time, string(e.Kind), e.Writer, e.WriterSequence, e.Verdict, e.Host, record); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES ($1, $2, $3, $4)`, n-1, e.Writer, n, leaf[:]); err != nil {
			t.Fatal(err)
		}
	}
	add(1, audit.Register(signer, month))
	add(2, &audit.Event{Kind: audit.KindDecision, Verdict: "deny", Host: "old.example"})
	c := audit.Checkpoint{Size: tree.Size(), Root: tree.Root(), Time: month.AddDate(0, 1, 0)}
	note, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.checkpoints (number, size, time, root, frontier, note) VALUES (1, $1, $2, $3, $4, $5)`,
		c.Size, c.Time, c.Root[:], tree.Frontier(), string(note)); err != nil {
		t.Fatal(err)
	}
	return month
}

// TestRetentionOfAnOldMonth: an operator holds a month, lifts the hold, takes the
// month, and the log verifies.
func TestRetentionOfAnOldMonth(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	keyPath := filepath.Join(t.TempDir(), "key")
	key := newKeyFile(t, keyPath)
	private, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(string(private))
	if err != nil {
		t.Fatal(err)
	}
	month := age(t, db.admin, signer).Format("2006-01")
	w := newFixture(t, options{database: db})
	w.seals(t, "  signing_key_file: \""+keyPath+"\"\n")
	says := func(status int, want string, args ...string) {
		t.Helper()
		if output := w.operatorCommand(t, status, args...); !strings.Contains(output, want) {
			t.Errorf("%v said\n%s\nand not %q", args, output, want)
		}
	}
	says(2, "366 days at least, and not for 30", "audit", "retention", "--keep", "30d")
	says(2, "--reason TEXT is needed", "audit", "hold", "set", "--since", month)
	says(0, "hold 1 keeps "+month+" to "+month, "audit", "hold", "set", "--since", month, "--reason", "case 17")
	says(0, month+"  stays: hold 1 keeps it", "audit", "retention")
	says(1, "no hold 9 in force", "audit", "hold", "lift", "9", "--reason", "over")
	says(0, "hold 1 is lifted", "audit", "hold", "lift", "1", "--reason", "over")
	says(0, "case 17", "audit", "hold", "list")
	says(0, `"first_month"`, "audit", "hold", "list", "--format", "json")
	says(0, month+"  would be removed: 1 of 2 events", "audit", "retention", "--dry-run")
	says(0, month+"  removed: 1 of 2 events, by event 3 of writer database", "audit", "retention")
	says(0, "no month ended", "audit", "retention")

	w.start()
	w.stop()
	w.sealed(t)
	outside := filepath.Join(w.data, "checkpoints")
	says(0, "1 of "+month+", by event 3 of writer database", "audit", "verify", "--key", key, "--checkpoint", outside)
	says(0, "only retention removed events", "audit", "verify", "--key", key)
	if rows := w.query(t, `SELECT * FROM audit.events WHERE host = 'old.example'`); len(rows) != 0 {
		t.Errorf("%d rows are left", len(rows))
	}
}

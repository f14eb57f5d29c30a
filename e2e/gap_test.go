package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestGap: an operator finds a gap, declares it with the command that the list
// prints, and every verification of the log shows it.
func TestGap(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	conn, err := pgx.Connect(t.Context(), db.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT date_trunc('second', now()), k, 'gone', n, convert_to('{"version":1,"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.000000"Z"') || '","kind":"' || k || '","writer":"gone","writer_sequence":' || n || '}', 'UTF8')
		FROM (VALUES ('writer_started', 1), ('admin', 2), ('admin', 5), ('writer_ended', 6)) AS v (k, n)`); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	keyPath := filepath.Join(t.TempDir(), "key")
	key := newKeyFile(t, keyPath)
	w := newFixture(t, options{database: db})
	w.seals(t, "  signing_key_file: \""+keyPath+"\"\n")
	w.start()
	eventually(t, "the gap is reported", func() bool {
		_, answer := w.readyz()
		return strings.Contains(show(answer), "writer gone has no number 3, and continues with 5")
	})
	output := w.operatorCommand(t, 1, "audit", "gap", "list")
	_, command, found := strings.Cut(output, "   sallyport ")
	if !found || !strings.Contains(output, "writer gone: events 3 to 4 are missing, and not declared") {
		t.Fatalf("gap list said\n%s", output)
	}
	command, _, _ = strings.Cut(command, "\n")
	arguments := strings.Fields(command)
	arguments[len(arguments)-1] = "the disk of node 7 was lost"
	if output := w.operatorCommand(t, 2, append([]string{}, arguments[:len(arguments)-2]...)...); !strings.Contains(output, "--reason are needed") {
		t.Errorf("without a reason:\n%s", output)
	}
	w.operatorCommand(t, 0, arguments...)
	eventually(t, "what follows is sealed", func() bool {
		return len(w.query(t, `SELECT 1 FROM audit.leaves WHERE writer = 'gone' AND writer_sequence = 6`)) == 1
	})
	w.stop()
	for _, want := range []string{"events 3 to 4 of writer gone: declared missing", "the disk of node 7 was lost", "2 events are declared missing"} {
		if output := w.operatorCommand(t, 0, "audit", "verify", "--key", key); !strings.Contains(output, want) {
			t.Errorf("verify said\n%s\nand not %q", output, want)
		}
	}
	if output := w.operatorCommand(t, 0, "audit", "gap", "list"); !strings.Contains(output, "the disk of node 7 was lost") {
		t.Errorf("gap list said\n%s", output)
	}
	if output := w.operatorCommand(t, 1, "audit", "gap", "declare", "--writer", "gone", "--first", "2", "--last", "4", "--reason", "x"); !strings.Contains(output, "event 2 of writer gone is recorded") {
		t.Errorf("%s", output)
	}
}

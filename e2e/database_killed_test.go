package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// TestDatabaseKilledUnderCommands: PostgreSQL ends the sessions of a command in the
// middle of its work. The command ends with a message and a status other than 0, and
// its incomplete output does not pass for a complete one, nor does it block the next
// attempt.
func TestDatabaseKilledUnderCommands(t *testing.T) {
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
	month := age(t, db.admin, signer)
	admin, err := pgx.Connect(t.Context(), db.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT date_trunc('second', now()), k, 'gone', n, convert_to('{"version":1,"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.000000"Z"') || '","kind":"' || k || '","writer":"gone","writer_sequence":' || n || '}', 'UTF8')
		FROM (VALUES ('writer_started', 1), ('admin', 3)) AS v (k, n)`)
	w := newFixture(t, options{database: db})
	w.seals(t, "  signing_key_file: \""+keyPath+"\"\n")
	w.start()
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	to := time.Now()
	eventually(t, "it is sealed", func() bool {
		return len(w.query(t, `SELECT FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE e.host = 'nobody.example'`)) > 0
	})
	w.stop()

	dir := t.TempDir()
	out := func(name string) string { return filepath.Join(dir, name) }
	id := fmt.Sprint(w.query(t, `SELECT decision_id FROM audit.events WHERE host = 'nobody.example'`)[0]["decision_id"])
	for _, c := range []struct {
		name, table string // which is locked, so that the command waits in the middle
		args        []string
		made        string // what the command would make
		intact      string // SQL that returns true if nothing changed
		after       int    // the status of the next attempt
	}{
		// There is a gap, which verify reports.
		{"verify", "audit.policies", []string{"verify", "--key", key}, "", "", 1},
		{"export", "audit.checkpoints", []string{"export", "--out", out("export")}, out("export"), "", 0},
		{"evidence", "audit.policies", []string{"evidence", "--since", month.Format(time.DateOnly), "--until", to.UTC().Format(time.RFC3339Nano), "--key", key, "--out", out("pack")}, out("pack"), "", 0},
		{"query", "audit.events", []string{"query", "--since", "1h", "--format", "csv", "--out", out("rows.csv")}, out("rows.csv"), "", 0},
		{"proof", "audit.checkpoints", []string{"proof", id}, "", "", 0},
		{"gap declare", "audit.declared_gaps", []string{"gap", "declare", "--writer", "gone", "--first", "2", "--last", "2", "--reason", "a lost disk"}, "",
			`SELECT NOT EXISTS (SELECT FROM audit.declared_gaps) AND NOT EXISTS (SELECT FROM audit.events WHERE kind = 'gap_declared')`, 0},
		{"retention", "audit.expired", []string{"retention"}, "",
			`SELECT EXISTS (SELECT FROM audit.events WHERE host = 'old.example') AND NOT EXISTS (SELECT FROM audit.events WHERE kind = 'retention')`, 0},
	} {
		exec("BEGIN")
		exec("LOCK TABLE " + c.table + " IN ACCESS EXCLUSIVE MODE")
		code, output := w.killed(t, admin, append([]string{"audit"}, c.args...)...)
		exec("ROLLBACK")
		if code != 1 && code != 2 || !strings.Contains(output, "sallyport: ") || strings.Contains(output, "panic") || strings.Contains(output, "goroutine") {
			t.Errorf("%s: status %d:\n%s", c.name, code, output)
		}
		for _, word := range []string{"result        sound", "pack  "} {
			if strings.Contains(output, word) {
				t.Errorf("%s printed a result:\n%s", c.name, output)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || c.made != "" && len(left) > 0 {
			t.Errorf("%s left %v behind: %v", c.name, left, err)
		}
		if c.intact != "" {
			var intact bool
			if err := admin.QueryRow(t.Context(), c.intact).Scan(&intact); err != nil || !intact {
				t.Errorf("%s was done in part: %v", c.name, err)
			}
		}
		w.operatorCommand(t, c.after, append([]string{"audit"}, c.args...)...)
		if c.made != "" {
			if err := os.RemoveAll(c.made); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// killed runs a command until one of its sessions waits for a lock, ends all of its
// sessions, and returns how the command ended.
func (w *fixture) killed(t testing.TB, admin *pgx.Conn, args ...string) (code int, output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), released(t), append(args, "-c", w.config)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, strings.Join(args, " ")+" waits in the middle", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("%v ended by itself: %v\n%s", args, err, out.String())
		default:
		}
		// A transaction caches the activity at its first query.
		if _, err := admin.Exec(t.Context(), `SELECT pg_stat_clear_snapshot()`); err != nil {
			t.Fatal(err)
		}
		var waiting bool
		if err := admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock')`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting
	})
	if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	<-ended
	return cmd.ProcessState.ExitCode(), out.String()
}

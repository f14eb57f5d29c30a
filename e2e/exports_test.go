package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

// without is the program on this log, with one of its controls removed.
func (l *testLog) without(t testing.TB, control string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), mutant(t), append(append([]string{"audit"}, args...), "--database-url-file", l.auditor)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_WITHOUT="+control)
	return cmd
}

// TestRecordedExportIsNeeded: an auditor keeps the log from recording an export, with
// another session that holds the lock and then ends the command's own. There is no file
// then. If a file got its name first, it would be there and the log would not have it.
func TestRecordedExportIsNeeded(t *testing.T) {
	t.Parallel()
	l := openLog(t, newDatabase(t))
	if err := l.Record(t.Context(), deniedEvent(1)); err != nil {
		t.Fatal(err)
	}
	owner := l.connect(t)
	const waiting = `datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%record_export%'`
	for _, c := range []struct {
		control string
		args    []string
		left    bool
	}{{"", []string{"query"}, false}, {"export", []string{"query"}, true}, {"", []string{"export", "--quiet"}, false}} {
		t.Run(fmt.Sprintf("%s without %q", c.args[0], c.control), func(t *testing.T) {
			holder, err := pgx.Connect(t.Context(), withUser(l.admin, "sallyport_auditor", "x"))
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Close(t.Context())
			if _, err := holder.Exec(t.Context(), `BEGIN ISOLATION LEVEL READ COMMITTED; SELECT audit.record_export('x', '{}', 0, sha256(''), 'x');
				SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			cmd := l.without(t, c.control, append(c.args, "--out", out)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			eventually(t, "the command waits for the lock, or has given up", func() bool {
				return len(ended) > 0 || l.queryInt(t, owner, `SELECT count(*) FROM pg_stat_activity WHERE `+waiting) > 0
			})
			if _, err := holder.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE `+waiting); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil {
				t.Error("the command reports success")
			}
			if _, err := holder.Exec(t.Context(), `ROLLBACK`); err != nil {
				t.Fatal(err)
			}
			if n := l.queryInt(t, owner, `SELECT count(*) FROM audit.events WHERE kind = 'export'`); n != 0 {
				t.Errorf("%d exports are recorded", n)
			}
			info, err := os.Stat(out)
			if left := err == nil && info.Size() > 0; left != c.left || err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file is left: %t, %v", left, err)
			}
		})
	}
}

// TestPositionIsNeeded: a stream whose position is saved before its lines are written
// loses them when the disk is full. Saved afterwards, the next stream writes them.
func TestPositionIsNeeded(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	l := openLog(t, newDatabase(t))
	for n := range 5 {
		if err := l.Record(t.Context(), deniedEvent(n)); err != nil {
			t.Fatal(err)
		}
	}
	conn := l.connect(t)
	eventually(t, "all is sealed", func() bool { return l.queryInt(t, conn, unsealedSQL) == 0 })
	for control, lost := range map[string]bool{"": false, "position": true} {
		directory := t.TempDir()
		out, position := filepath.Join(directory, "out"), filepath.Join(directory, "position")
		if text, err := l.without(t, control, "stream", "--once", "--position", position, "--out", "/dev/full").CombinedOutput(); err == nil {
			t.Errorf("without %q a full disk is no error: %s", control, text)
		}
		total := l.queryInt(t, conn, leavesSQL)
		if text, err := l.without(t, control, "stream", "--once", "--position", position, "--out", out).CombinedOutput(); err != nil {
			t.Fatalf("without %q: %v: %s", control, err, text)
		}
		if leaves, _ := followed(t, out); (int64(len(leaves)) < total) != lost {
			t.Errorf("without %q: %d of %d leaves", control, len(leaves), total)
		}
	}
}

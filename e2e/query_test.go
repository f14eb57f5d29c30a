package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// run runs the program on a log, checks its exit status, and returns its standard output
// and standard error.
func (l *testLog) run(t testing.TB, code int, args ...string) (out, stderr string) {
	t.Helper()
	cmd := l.command(t, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() != code || !ok && (err != nil || code != 0) {
		t.Errorf("%q: %v, want status %d: %s%s", args, err, code, o.String(), e.String())
	}
	return o.String(), e.String()
}

// TestQuery: the same events as table, JSON and CSV; an export is whole, recorded,
// and does not overwrite a file.
func TestQuery(t *testing.T) {
	t.Parallel()
	l := openLog(t, newDatabase(t))
	hostile := deniedEvent(0)
	hostile.Host, hostile.Branch, hostile.Path = "=cmd.evil.example", "\x1b]0;owned\x07\u202e", `a";=1+1`
	for n, e := range []*audit.Event{hostile, deniedEvent(1), deniedEvent(2), deniedEvent(3)} {
		if e.Verdict = "deny"; n == 3 {
			e.Verdict, e.Reason = "allow", "policy_allowed"
		}
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	filters := []string{"query", "--verdict", "deny", "--kind", "decision", "--order", "oldest"}
	table, _ := l.run(t, 0, filters...)
	asJSON, _ := l.run(t, 0, append(filters, "--format", "json")...)
	asCSV, _ := l.run(t, 0, append(filters, "--format", "csv")...)
	for name, out := range map[string]string{"table": table, "json": asJSON, "csv": asCSV} {
		if strings.Count(out, "partner.example") != 2 || strings.Count(out, "evil.example") != 1 || strings.ContainsAny(out, "\x1b\x07\u202e") {
			t.Errorf("%s: %q", name, out)
		}
	}
	var first struct {
		Time     time.Time
		Host     string
		Port     int
		Deployed *string `json:"deployment"`
	}
	if err := json.Unmarshal([]byte(strings.SplitN(asJSON, "\n", 2)[0]), &first); err != nil || first.Host != hostile.Host || first.Port != 443 || first.Deployed != nil || first.Time.IsZero() {
		t.Errorf("%+v: %v", first, err)
	}
	rows, err := csv.NewReader(strings.NewReader(asCSV)).ReadAll()
	if err != nil || len(rows) != 4 {
		t.Fatalf("%v: %v", rows, err)
	}
	cell := map[string]string{}
	for i, name := range rows[0] {
		cell[name] = rows[1][i]
	}
	if cell["host"] != "'"+hostile.Host || audit.Uncell(cell["path"]) != hostile.Path || strings.HasPrefix(cell["path"], "=") || cell["status"] != "" {
		t.Errorf("%q", cell)
	}
	if out, stderr := l.run(t, 0, "query", "--host", "*.nowhere.example"); out != "" || !strings.HasPrefix(stderr, "nothing matches from ") {
		t.Errorf("%q %q", out, stderr)
	}
	if _, stderr := l.run(t, 2, "query", "--decision-reason", "no_rule_match"); !strings.Contains(stderr, "did you mean no_rule_matched?") {
		t.Error(stderr)
	}
	l.testExport(t, filters, asCSV)
	l.testInterrupted(t)
	// Its reader closes the pipe: it ends as any program does.
	shell := exec.CommandContext(t.Context(), "sh", "-c", `{ "$0" audit tail --since 1h --interval 10ms --database-url-file "$1"; echo $? >&2; } | head -n 1`, released(t), l.auditor)
	var stderr bytes.Buffer
	shell.Stderr = &stderr
	stop := l.load(t, 1)
	out, err := shell.Output()
	stop()
	if err != nil || strings.Count(string(out), "\n") != 1 || stderr.String() != "141\n" {
		t.Errorf("a reader that goes away: %q, %q: %v", out, stderr.String(), err)
	}
}

func (l *testLog) testExport(t *testing.T, filters []string, want string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "denials.csv")
	_, stderr := l.run(t, 0, append(filters, "--format", "csv", "--out", path)...)
	text, err := os.ReadFile(path)
	if err != nil || string(text) != want {
		t.Errorf("the file has %q: %v", text, err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(text))
	if !strings.Contains(stderr, ": 3 rows from ") || !strings.Contains(stderr, digest) {
		t.Errorf("it says %q", stderr)
	}
	exports, _ := l.run(t, 0, "query", "--kind", "export", "--columns", "attributes", "--format", "json")
	for _, want := range []string{`"what":"audit query"`, `"login":"sallyport_auditor"`, `"rows":"3"`, `"digest":"sha256:` + digest, `\"verdict\":[\"deny\"]`, `\"since\":\"20`} {
		if !strings.Contains(exports, want) {
			t.Errorf("the record does not say %s: %s", want, exports)
		}
	}
	if _, stderr := l.run(t, 2, append(filters, "--out", path)...); !strings.Contains(stderr, "is not written over") {
		t.Errorf("a file that is there: %s", stderr)
	}
	// What cannot be recorded is not handed out.
	conn := l.connect(t)
	if _, err := conn.Exec(t.Context(), `REVOKE EXECUTE ON FUNCTION audit.record_export(text, text, bigint, bytea, text) FROM sallyport_auditor`); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(filepath.Dir(path), "secret.csv")
	if _, stderr := l.run(t, 1, append(filters, "--out", secret)...); !strings.Contains(stderr, "secret.csv was not written") {
		t.Errorf("an export that is not recorded: %s", stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("there are %v", left)
	}
}

// testInterrupted ends a question that the database cannot answer yet.
func (l *testLog) testInterrupted(t *testing.T) {
	t.Helper()
	lock, err := l.connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	cmd := l.command(t, "query")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn := l.connect(t)
	const waiting = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sallyport audit' AND wait_event_type = 'Lock'`
	eventually(t, "it waits", func() bool { return l.queryInt(t, conn, waiting) == 1 })
	_ = cmd.Process.Signal(os.Interrupt)
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted after 0 rows") {
		t.Errorf("interrupted: %v: %s", err, stderr.String())
	}
	eventually(t, "the database has stopped too", func() bool { return l.queryInt(t, conn, waiting) == 0 })
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestTail: recorded events, new events, and those after an outage of the database; each
// event once.
func TestTail(t *testing.T) {
	t.Parallel()
	d, server := newServerDatabase(t)
	l := openLog(t, d)
	add := func(n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := l.Record(ctx, deniedEvent(n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		add(n)
	}
	cmd := l.command(t, "tail", "-n", "2", "--kind", "decision", "--interval", "20ms")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out, messages := bufio.NewReader(pipe), bufio.NewReader(stderr)
	expect := func(n int) {
		t.Helper()
		line, err := out.ReadString('\n')
		if err != nil || !strings.Contains(line, fmt.Sprintf(" decision deny no_rule_matched acme/payments connect h%d.partner.example:443 id=01a1fdf4-", n)) {
			t.Fatalf("the next is %q, want number %d: %v", line, n, err)
		}
	}
	expect(3)
	expect(4)
	add(5)
	expect(5)
	server.Kill(t)
	if line, err := messages.ReadString('\n'); err != nil || !strings.Contains(line, "the database is unavailable, retrying") {
		t.Fatalf("it says %q: %v", line, err)
	}
	server.Restart(t)
	eventually(t, "the log is back", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return l.Record(ctx, deniedEvent(6)) == nil
	})
	if line, err := messages.ReadString('\n'); err != nil || line != "the database is back\n" {
		t.Fatalf("it says %q: %v", line, err)
	}
	expect(6)
	add(7)
	expect(7)
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// echo is a target that sends back what it gets.
func echo(t testing.TB) *tap {
	t.Helper()
	return newTap(t, "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// echoes sends a text through a tunnel to an echo and waits until it returns.
func (a *rawResponse) echoes(t testing.TB, word string) {
	t.Helper()
	if _, err := io.WriteString(a.conn, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(a.in, got); err != nil || string(got) != word {
		t.Fatalf("sent %q, and received %q: %v", word, got, err)
	}
}

// TestDrain: SIGTERM ends the accepting at once, and an open tunnel only when
// it is done.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	c := w.anybody()
	a := w.tunnel(t, c, "raw.partner.example:"+target.port)
	a.echoes(t, "before")

	w.signal(syscall.SIGTERM)
	w.log.wait(t, "of the end's beginning", message("shutting down", fields{"tunnels": 1}))
	eventually(t, "nothing new is accepted", func() bool {
		conn, err := net.Dial("tcp", w.proxy)
		if err != nil {
			return true
		}
		conn.Close()
		return false
	})
	a.echoes(t, "and after")
	if !w.running() {
		t.Fatal("the server ended under an open tunnel")
	}
	if status, _ := w.readyz(); status != 503 {
		t.Errorf("/readyz answered %d while draining", status)
	}
	a.conn.Close()
	w.await(0)
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "bytes_sent": len("beforeand after"), "bytes_received": len("beforeand after"), "close_reason": "finished"})
	testWriterEnded(t, w)
}

// TestDrainTimeout: what is still open at the deadline is closed, and recorded.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{extra: "shutdown: {drain_timeout: 200ms}\n"})
	w.start()
	target := echo(t)
	c := w.anybody()
	a := w.tunnel(t, c, "raw.partner.example:"+target.port)
	a.echoes(t, "hello")
	w.stop()
	if n, err := a.in.Read(make([]byte, 1)); err == nil {
		t.Errorf("the tunnel goes on: %d bytes", n)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "bytes_sent": 5, "bytes_received": 5, "close_reason": "shutdown"})
	testWriterEnded(t, w)
}

// TestKilled: allowed requests are recorded, whatever happens to the server. It runs on a
// PostgreSQL of its own, and continues with the log in it.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{embedded: true})
	w.start()
	w.log.wait(t, "of the embedded PostgreSQL", message("embedded PostgreSQL is running", nil))
	target := echo(t)
	open, refused := w.anybody(), w.caller(w.Payments, nil, "feature/x")
	a := w.tunnel(t, open, "raw.partner.example:"+target.port)
	a.echoes(t, "hello")
	id := w.connect(t, refused, "api.partner.example:443").refused(t, 403, "no_rule_matched")
	line := w.log.wait(t, "of the decision", message("decision", fields{"step_uuid": open.step.UUID}))

	w.signal(syscall.SIGKILL)
	w.await(-1)
	w.restart()

	rows := w.decisions(t, open.step.UUID)
	if len(rows) != 1 {
		t.Fatalf("%d rows of what was let out", len(rows))
	}
	check(t, "audit row", rows[0], fields{"verdict": "allow", "reason": "policy_allowed", "rule": "raw", "closed_at": nil})
	check(t, "log line", line, fields{"verdict": "allow", "rule": "raw", "decision_id": rows[0]["decision_id"]})
	rows = w.decisions(t, refused.step.UUID)
	if len(rows) != 1 || rows[0]["decision_id"] != id {
		t.Fatalf("the refusal's rows are %v", rows)
	}
	writers := w.query(t, `SELECT * FROM audit.writers ORDER BY started_at`)
	if len(writers) != 2 || writers[0]["ended_at"] != nil || writers[0]["missing"].(float64) != 0 {
		t.Errorf("the killed writer is not told from others: %v", writers)
	}

	// It works on as before, and psql opens for both roles, neither of which can write.
	c := w.anybody()
	w.tunnel(t, c, "raw.partner.example:"+target.port).echoes(t, "again")
	psql := func(sql string, as string) (int, string, string) {
		return command(t, "audit", "psql", "--config", w.config, "--role", as, "-At", "-c", sql)
	}
	code, out, output := psql("select verdict, rule, repository from audit.decisions where decision_id = '"+id+"'", "auditor")
	if code != 0 || out != "deny||acme/payments\n" {
		t.Errorf("psql ended with %d: %q %s", code, out, output)
	}
	if code, out, output := psql("select count(*) from audit.decisions", "writer"); code != 0 || out != "3\n" {
		t.Errorf("psql ended with %d: %q %s", code, out, output)
	}
	for _, sql := range []string{"delete from audit.events", "update audit.events set host = 'x'", "truncate audit.events", "drop table audit.events"} {
		for _, as := range []string{"writer", "auditor"} {
			if code, out, _ := psql(sql, as); code == 0 {
				t.Errorf("%s may %s: %s", as, sql, out)
			}
		}
	}
	w.stop()
	// The data is still there when psql starts the database by itself.
	if code, out, output := psql("select count(*) from audit.writers where missing = 0", "auditor"); code != 0 || out != fmt.Sprintln(2) {
		t.Errorf("psql ended with %d: %q %s", code, out, output)
	}
}

// TestEmbeddedDatabaseEnds: a server whose embedded PostgreSQL is killed ends with
// status 1 and names the cause, so that a supervisor restarts both.
func TestEmbeddedDatabaseEnds(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{embedded: true})
	w.start()
	text, err := os.ReadFile(filepath.Join(w.data, "postgresql", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid < 2 {
		t.Fatalf("postmaster.pid begins with %q: %v", first, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.await(1)
	w.log.wait(t, "of the cause", message("shutting down: the embedded PostgreSQL ended", nil))
}

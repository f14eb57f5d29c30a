package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestNameReassigned: a repository is deleted and made again under its old name.
// Nothing is inherited silently: the events identify the repository, and an event and
// a metric report that the name was reassigned.
func TestNameReassigned(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	before := w.caller(w.Tools, nil, "main")
	w.expect(t, before, to, 200, "")
	w.Tools.Delete()
	again := w.Workspace.AddRepository("tools", "PAY")
	after := w.caller(again, nil, "main")
	w.expect(t, after, to, 200, "")
	for c, uuid := range map[*caller]string{&before: w.Tools.UUID, &after: again.UUID} {
		check(t, "row", w.decision(t, *c), fields{"repository": "acme/tools", "repository_uuid": uuid})
	}
	var rows []fields
	eventually(t, "the name's passing on is on record", func() bool {
		rows = w.query(t, `SELECT repository_uuid, repository, workspace_uuid, message, convert_from(record, 'UTF8')::json AS record
			FROM audit.events WHERE kind = 'name_reassigned'`)
		return len(rows) > 0
	})
	if len(rows) != 1 {
		t.Fatalf("on record: %v", rows)
	}
	check(t, "event", rows[0], fields{"repository_uuid": again.UUID, "repository": "acme/tools", "workspace_uuid": w.Workspace.UUID})
	if record, _ := json.Marshal(rows[0]["record"]); !strings.Contains(string(record), w.Tools.UUID) {
		t.Errorf("the event does not say who bore it before: %s", record)
	}
	if n := w.counter(t, `sallyport_names_reassigned_total{kind="repository"}`); n != 1 {
		t.Errorf("%v names have passed on", n)
	}
	// A step of the deleted repository does not count as one of the new repository.
	if status, reason := w.request(t, w.caller(w.Tools, nil, "main"), to); status != 503 || reason != "names_unavailable" {
		t.Errorf("a step of the deleted repository: %d %s", status, reason)
	}
}

// TestPipelineDetailsAreFetched: the build's number and who started it come into the
// view some time after the decision, which does not wait for them.
func TestPipelineDetailsAreFetched(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	c := w.anybody()
	w.expect(t, c, "raw.partner.example:"+target.port, 200, "")
	eventually(t, "the build's number is known", func() bool {
		row := w.decision(t, c)
		return show(row["build_number"]) == show(c.step.Pipeline.BuildNumber) && row["creator"] == "Robin Builder"
	})
}

// TestClientAddress: a configured load balancer determines the client's address, and
// no other peer does.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	balanced := freeAddress(t)
	w.rewrite(t, "admin:\n", fmt.Sprintf("  - address: %q\n    proxy_protocol_from: [\"127.0.0.2/32\"]\nadmin:\n", balanced))
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	const output = "203.0.113.9"
	header := "PROXY TCP4 " + output + " 10.0.0.1 56789 3128\r\n"
	knock := func(from, header, head string) int {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp", balanced)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, header); err != nil {
			t.Fatal(err)
		}
		return sendRawOn(t, conn, head).StatusCode
	}
	by, spoof, plain := w.anybody(), w.anybody(), w.anybody()
	if status := knock("127.0.0.2", header, connectTo(to, by.basic())); status != 200 {
		t.Errorf("through the load balancer: %d", status)
	}
	check(t, "row", w.decision(t, by), fields{"client_address": output, "listener": balanced})
	if status := knock("127.0.0.3", header, connectTo(to, spoof.basic())); status != 400 {
		t.Errorf("spoofed: %d", status)
	}
	if rows := w.query(t, `SELECT * FROM audit.events WHERE step_uuid = $1::text::uuid`, spoof.step.UUID); len(rows) != 0 {
		t.Errorf("the spoofed request was read: %v", rows)
	}
	if status := knock("127.0.0.3", "", connectTo(to, plain.basic())); status != 200 {
		t.Errorf("without a header, from elsewhere: %d", status)
	}
	check(t, "row", w.decision(t, plain), fields{"client_address": "127.0.0.3"})
	// HTTP/1.0 without Host, as from Python's clients.
	old := w.anybody()
	if status := knock("127.0.0.2", header, "CONNECT "+to+" HTTP/1.0\r\nProxy-Authorization: "+old.basic()+"\r\n\r\n"); status != 200 {
		t.Errorf("HTTP/1.0: %d", status)
	}
}

// TestRevokeDuringADatabaseFailure: PostgreSQL is killed in the middle of a
// revocation. The command reports that the revocation cannot be relied on, and none
// is half done: when the database is back, giving it again revokes, and is recorded.
func TestRevokeDuringADatabaseFailure(t *testing.T) {
	t.Parallel()
	db, postgres := newServerDatabase(t)
	w := newFixture(t, options{database: db})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	c := w.anybody()
	open := w.tunnel(t, c, to)
	open.echoes(t, "open")

	// The write waits for a lock, and then its server ends.
	conn, err := pgx.Connect(t.Context(), db.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE identity.revocations IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	output := make(chan string, 1)
	go func() {
		code, out, errOut := command(t, "token", "revoke", "--step", c.step.UUID, "--reason", "a test", "-c", w.config)
		output <- fmt.Sprint(code, out, errOut)
	}()
	eventually(t, "the revocation waits for the lock", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'identity.revocations'::regclass`).Scan(&n)
		return err == nil && n > 0
	})
	postgres.Kill(t)
	_ = conn.Close(context.Background())
	if s := <-output; !strings.HasPrefix(s, "1") || !strings.Contains(s, "revoke step") || strings.Contains(s, "is revoked until") {
		t.Errorf("the operator was told %q", s)
	}
	open.echoes(t, "what was not revoked goes on")
	if code, _, errOut := command(t, "token", "revoke", "--step", c.step.UUID, "--reason", "a test", "-c", w.config); code != 1 || errOut == "" {
		t.Errorf("while it is away: %d %s", code, errOut)
	}

	postgres.Restart(t)
	w.ready()
	eventually(t, "it can be revoked", func() bool {
		code, _, _ := command(t, "token", "revoke", "--step", c.step.UUID, "--reason", "a test", "-c", w.config)
		return code == 0
	})
	begun := time.Now()
	open.cut(t)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it was cut after %v", took)
	}
	w.expect(t, c, to, http.StatusProxyAuthRequired, "credential_revoked")
	eventually(t, "the revocation is on record", func() bool { // it may have to come from the journal
		names, _ := w.operatorActions(t)
		return strings.Join(names, " ") == "token_revoked"
	})
}

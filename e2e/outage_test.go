package e2e

import (
	"net/http"
	"syscall"
	"testing"
)

// TestDatabaseOutage: PostgreSQL is killed under the server. Refusals are what
// they were, nothing is allowed, and after the recovery everything is recorded,
// once.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	db, postgres := newServerDatabase(t)
	w := newFixture(t, options{database: db})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port

	before := w.anybody()
	open := w.tunnel(t, before, to)
	open.echoes(t, "before")
	<-target.arrivals

	postgres.Kill(t)
	denied, allowed := w.caller(w.Payments, nil, "feature/x"), w.anybody()
	// That it is unavailable shows only now, when the write fails.
	allowedID := w.connect(t, allowed, to).refused(t, 503, "audit_unavailable")
	target.untouched(t)
	deniedID := w.connect(t, denied, "api.partner.example:443").refused(t, 403, "no_rule_matched")
	w.log.wait(t, "of the outage", message("audit database unavailable", nil))
	// Now that it is known to be unavailable, the answer is the same, and at once.
	known := w.anybody()
	knownID := w.connect(t, known, to).refused(t, 503, "audit_unavailable")
	plain := w.anybody()
	v := w.curl(t, plain.proxyURL(w.proxy), w.http("files.partner.example", "/"))
	if v.status != "503" || v.header("Sallyport-Reason") != "audit_unavailable" || v.header("Retry-After") == "" {
		t.Errorf("a plain request was answered %s\n%s", v.status, v.verbose)
	}
	target.untouched(t)
	open.echoes(t, "an open tunnel goes on") // it was recorded
	if status, detail := w.readyz(); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answered %d: %v", status, detail)
	}

	postgres.Restart(t)
	w.ready()
	after := w.anybody()
	last := w.tunnel(t, after, to)
	last.echoes(t, "after")
	last.conn.Close()
	open.conn.Close()

	w.both(t, w.decision(t, before), fields{"verdict": "allow", "rule": "raw"})
	w.both(t, w.decision(t, after), fields{"verdict": "allow", "rule": "raw"})
	w.both(t, w.decision(t, denied), fields{"decision_id": deniedID, "verdict": "deny", "reason": "no_rule_matched", "status": 403})
	for c, id := range map[*caller]string{&allowed: allowedID, &known: knownID, &plain: v.header("Sallyport-Decision")} {
		row := w.decision(t, *c)
		check(t, "audit row", row, fields{"decision_id": id})
		line := w.log.wait(t, "of the refusal", message("decision", fields{"decision_id": id}))
		check(t, "log line", line, fields{"verdict": "deny", "reason": "audit_unavailable", "status": 503})
		// Its write was in progress when the database became unavailable, so the row may
		// be an allow; then its end has that cause, and no bytes.
		if row["verdict"] == "allow" {
			check(t, "audit row", row, fields{"close_reason": "audit_unavailable", "bytes_sent": 0, "bytes_received": 0})
		} else {
			check(t, "audit row", row, fields{"verdict": "deny", "reason": "audit_unavailable", "status": 503})
		}
	}
	if twice := w.query(t, `SELECT decision_id, kind FROM audit.events WHERE decision_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1`); len(twice) != 0 {
		t.Errorf("recorded more than once: %v", twice)
	}
	w.stop()
	testWriterEnded(t, w)
}

// TestJournalOutlivesTheServer: refusals during an outage of the database are recorded
// although the server ends before the database recovers.
func TestJournalOutlivesTheServer(t *testing.T) {
	t.Parallel()
	db, postgres := newServerDatabase(t)
	w := newFixture(t, options{database: db})
	w.start()
	target := echo(t)
	opened := w.anybody()
	open := w.tunnel(t, opened, "raw.partner.example:"+target.port)
	open.echoes(t, "before")

	postgres.Kill(t)
	denied := w.caller(w.Payments, nil, "feature/x")
	id := w.connect(t, denied, "api.partner.example:443").refused(t, 403, "no_rule_matched")
	before := w.server
	open.conn.Close()
	before.log.wait(t, "of the tunnel's end", message("tunnel_closed", fields{"close_reason": "finished"}))
	w.signal(syscall.SIGKILL)
	w.await(-1)
	postgres.Restart(t)
	w.restart()

	row := w.decision(t, denied)
	check(t, "audit row", row, fields{"decision_id": id, "verdict": "deny", "reason": "no_rule_matched", "status": 403})
	line := before.log.wait(t, "of the refusal", message("decision", fields{"decision_id": id}))
	check(t, "log line", line, fields{"verdict": "deny", "reason": "no_rule_matched", "status": 403})
	check(t, "audit row", w.decision(t, opened), fields{"verdict": "allow", "close_reason": "finished", "bytes_sent": len("before")})
	if wrong := w.query(t, `SELECT * FROM audit.writers WHERE missing <> 0`); len(wrong) != 0 {
		t.Errorf("numbers are missing: %v", wrong)
	}
}

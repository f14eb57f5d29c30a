package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSpool: with audit.on_outage: spool a tunnel is allowed while PostgreSQL is
// down, and the proxy reports that it uses the journal. The proxy is killed meanwhile;
// then everything is recorded, once, and the log verifies and reports the period in
// which decisions relied on the journal.
func TestSpool(t *testing.T) {
	t.Parallel()
	db, postgres := newServerDatabase(t)
	w := newFixture(t, options{database: db})
	keyPath := filepath.Join(t.TempDir(), "key")
	key := newKeyFile(t, keyPath)
	w.seals(t, fmt.Sprintf("  signing_key_file: %q\n  on_outage: spool\n", keyPath))
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	before, during, denied, after := w.anybody(), w.anybody(), w.caller(w.Payments, nil, "feature/x"), w.anybody()
	open := w.tunnel(t, before, to)
	open.echoes(t, "before")

	postgres.Kill(t)
	spooled := w.tunnel(t, during, to)
	spooled.echoes(t, "nothing but the journal knows of this")
	deniedID := w.connect(t, denied, "api.partner.example:443").refused(t, 403, "no_rule_matched")
	eventually(t, "it is known to be away", func() bool { return w.counter(t, "sallyport_spooling") == 1 })
	status, output := w.readyz()
	detail, _ := output["detail"].(map[string]any)
	if log, _ := detail["audit"].(map[string]any); status != http.StatusOK || log["spooling"] != true || log["journal"] == nil {
		t.Errorf("/readyz answered %d: %v", status, output)
	}
	if n := w.counter(t, "sallyport_spooled_total"); n != 1 {
		t.Errorf("%v allows were backed by the journal", n)
	}
	spooled.conn.Close()
	w.log.wait(t, "of the tunnel's end", message("tunnel_closed", fields{"bytes_sent": len("nothing but the journal knows of this")}))
	w.signal(syscall.SIGKILL)
	w.await(-1)
	postgres.Restart(t)
	w.restart()

	last := w.tunnel(t, after, to)
	last.echoes(t, "after")
	last.conn.Close()
	check(t, "audit row", w.decision(t, during), fields{"verdict": "allow", "rule": "raw", "bytes_sent": len("nothing but the journal knows of this")})
	check(t, "audit row", w.decision(t, denied), fields{"decision_id": deniedID, "verdict": "deny", "reason": "no_rule_matched", "status": 403})
	check(t, "audit row", w.decision(t, after), fields{"verdict": "allow", "rule": "raw"})
	if n := len(w.decisions(t, before.step.UUID)); n != 1 {
		t.Errorf("%d decisions of the first step", n)
	}
	replayed := w.query(t, `SELECT convert_from(record, 'UTF8')::json -> 'attributes' AS said FROM audit.events WHERE kind = 'admin' AND action = 'journal_replayed'`)
	if len(replayed) != 1 || !strings.Contains(show(replayed[0]["said"]), "allows:1") {
		t.Errorf("it says %v", replayed)
	}
	for what, sql := range map[string]string{
		"an event is there twice": `SELECT decision_id, kind FROM audit.events WHERE decision_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1`,
		"a writer has a gap":      `SELECT * FROM audit.writers WHERE missing <> 0`,
	} {
		if rows := w.query(t, sql); len(rows) != 0 {
			t.Errorf("%s: %v", what, rows)
		}
	}
	w.stop()
	w.operatorCommand(t, 0, "audit", "verify", "--key", key, "--checkpoint", filepath.Join(w.data, "checkpoints"))
}

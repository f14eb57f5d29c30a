package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// onlyMain is a rule that denies what branch builds were allowed.
const onlyMain = `package sallyport.egress

deny contains {"rule": "only-main", "message": "Branches stay inside for now."} if input.principal.branch != "main"
`

// rule writes one more file of the policy and has it loaded.
func (w *fixture) rule(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "later.rego"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.operatorCommand(t, 0, "policy", "reload")
}

// websocketTap accepts one handshake of this key, and echoes.
func websocketTap(t testing.TB) *tap {
	return newTap(t, "127.0.0.1:0", func(c net.Conn) {
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		_, _ = io.Copy(c, in)
	})
}

// webSocket opens a WebSocket without TLS.
func (w *fixture) webSocket(t testing.TB, c caller, authority string) *rawResponse {
	t.Helper()
	conn, err := net.Dial("tcp", w.proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET http://"+authority+"/chat HTTP/1.1\r\nHost: "+authority+"\r\nProxy-Authorization: "+c.basic()+
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered with %v, %v", resp, err)
	}
	return &rawResponse{Response: resp, conn: conn, in: in}
}

// TestPolicyChangeCutsTunnels: within two seconds of a change of policy what it
// does not allow any more is closed and recorded, and the rest continues.
func TestPolicyChangeCutsTunnels(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target, chat := echo(t), websocketTap(t)
	branch, main := w.caller(w.Payments, nil, "feature/x"), w.anybody()
	cut := w.tunnel(t, branch, "raw.partner.example:"+target.port)
	spoken := w.webSocket(t, branch, "raw.partner.example:"+chat.port)
	kept := w.tunnel(t, main, "raw.partner.example:"+target.port)
	for _, a := range []*rawResponse{cut, spoken, kept} {
		a.echoes(t, "open")
	}
	before := w.decisions(t, branch.step.UUID)
	if len(before) != 2 || before[0]["closed_at"] != nil {
		t.Fatalf("before the change: %v", before)
	}

	w.rule(t, onlyMain)
	changed := time.Now()
	cut.cut(t)
	spoken.cut(t)
	if took := time.Since(changed); took > 2*time.Second {
		t.Errorf("the ends came after %v", took)
	}
	kept.echoes(t, "still here")
	w.connect(t, branch, "raw.partner.example:"+target.port).refused(t, 403, "policy_denied")

	eventually(t, "both ends are on record", func() bool {
		return len(w.query(t, `SELECT 1 AS one FROM audit.events WHERE decision_id IN (SELECT decision_id FROM audit.decisions WHERE step_uuid = $1::text::uuid) AND close_reason = 'policy_changed'`, branch.step.UUID)) == 2
	})
	if took := time.Since(changed); took > 2*time.Second+500*time.Millisecond {
		t.Errorf("the ends were on record after %v", took)
	}
	ends := w.query(t, `SELECT kind, close_reason, reason, rule, message, revision, bytes_sent, bytes_received FROM audit.events
		WHERE decision_id IN (SELECT decision_id FROM audit.decisions WHERE step_uuid = $1::text::uuid) AND kind IN ('tunnel_closed', 'request_closed') ORDER BY kind`, branch.step.UUID)
	now := w.query(t, `SELECT revision FROM audit.policy_changes ORDER BY time DESC LIMIT 1`)[0]["revision"]
	for i, kind := range []string{"request_closed", "tunnel_closed"} {
		check(t, kind, ends[i], fields{"kind": kind, "close_reason": "policy_changed", "reason": "policy_denied", "rule": "only-main",
			"message": "Branches stay inside for now.", "revision": now})
	}
	check(t, "tunnel_closed", ends[1], fields{"bytes_sent": 4, "bytes_received": 4}) // those of a request count its head
	for _, row := range w.decisions(t, branch.step.UUID) {
		if row["verdict"] == "allow" && (row["close_reason"] != "policy_changed" || row["revision"] != before[0]["revision"]) {
			t.Errorf("the decision has become %v", row)
		}
	}
	applied := w.query(t, `SELECT revision, convert_from(record, 'UTF8')::json -> 'attributes' ->> 'closed' AS closed FROM audit.events WHERE kind = 'policy_reevaluated'`)
	if len(applied) != 1 || applied[0]["revision"] != now || applied[0]["closed"] != "2" {
		t.Errorf("the change's own event: %v", applied)
	}
	if _, metrics := w.get("/metrics"); !strings.Contains(metrics, `cause="policy_changed"`) || !strings.Contains(metrics, "\nsallyport_reevaluation_errors 0\n") {
		t.Error("the metrics do not tell")
	}
}

// attackRedecision: continue with a tunnel that the policy no longer allows.
func attackRedecision(t *testing.T, w *fixture) bool {
	target := echo(t)
	a := w.tunnel(t, w.caller(w.Payments, nil, "feature/x"), "raw.partner.example:"+target.port)
	a.echoes(t, "open")
	w.rule(t, onlyMain)
	eventually(t, "it was put to the new policy", func() bool {
		_, metrics := w.get("/metrics")
		return strings.Contains(metrics, "\nsallyport_reevaluations_total 1\n")
	})
	_, _ = io.WriteString(a.conn, "on")
	_, err := io.ReadFull(a.in, make([]byte, 2))
	return err == nil
}

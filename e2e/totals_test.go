package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestUnrecordedTotals: refusals without an event of their own are recorded as totals by
// reason at the end of the process.
func TestUnrecordedTotals(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	w.sealed(t) // there is a key
	for request, statuses := range map[string][]int{
		"CONNECT api.partner.example:443 HTTP/1.1\r\nHost: api.partner.example:443\r\n\r\n": {407, 407, 407},
		"CONNECT\r\n\r\n": {400, 400},
	} {
		for _, want := range statuses {
			if got := w.raw(t, request); got != want {
				t.Errorf("%q was answered %d, not %d", request, got, want)
			}
		}
	}
	if rows := w.query(t, `SELECT 1 AS one FROM audit.denials`); len(rows) != 0 {
		t.Errorf("%d of them have an event", len(rows))
	}
	w.stop()
	rows := w.query(t, `SELECT total, reasons, since, time > since::timestamptz AS forward FROM audit.unrecorded_totals`)
	if len(rows) != 1 || rows[0]["forward"] != true {
		t.Fatalf("totals: %v", rows)
	}
	reasons, err := json.Marshal(rows[0]["reasons"])
	if err != nil {
		t.Fatal(err)
	}
	check(t, "totals", rows[0], fields{"total": 5})
	if string(reasons) != `{"credential_missing":"3","request_invalid":"2"}` {
		t.Errorf("reasons: %s", reasons)
	}
	testWriterEnded(t, w)
	if unsealed := w.query(t, `SELECT 1 AS one FROM audit.events e WHERE kind = 'unrecorded_totals' AND NOT EXISTS (
		SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`); len(unsealed) > 0 {
		t.Error("they are not sealed")
	}
}

// raw sends a head as it is and returns the status of the answer.
func (w *fixture) raw(t *testing.T, head string) int {
	t.Helper()
	conn, err := net.Dial("tcp", w.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

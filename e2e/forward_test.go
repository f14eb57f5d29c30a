package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testForward: every request is decided and recorded for itself, also on one
// connection.
func testForward(t *testing.T, w *fixture) {
	c := w.anybody()
	conn, err := net.Dial("tcp", w.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	ask := func(method, host, path string) (*http.Response, string) {
		t.Helper()
		// The Host field names another host: it is not the target.
		head := method + " " + w.http(host, path) + " HTTP/1.1\r\nHost: paste.unlisted.example\r\nProxy-Authorization: " + c.basic() + "\r\n\r\n"
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for _, path := range []string{"/one?token=s3cret-of-a-query", "/two", "/three%2Fand"} {
		resp, body := ask("GET", "files.partner.example", path)
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(body, "files.partner.example:"+strconv.Itoa(w.HTTPPort)+" saw GET /") {
			t.Fatalf("GET %s: %s %q", path, resp.Status, body)
		}
	}
	w.addSecret("s3cret-of-a-query")
	resp, body := ask("GET", "nobody.listed.example", "/four")
	if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Sallyport-Reason") != "no_rule_matched" || !strings.HasPrefix(body, "sallyport: no_rule_matched") {
		t.Fatalf("the refused request: %s %q", resp.Status, body)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on behind a refusal: %v", err)
	}

	rows := w.closed(t, c, 4)
	var paths []string
	for _, row := range rows[:3] {
		w.both(t, row, fields{
			"verdict": "allow", "reason": "policy_allowed", "rule": "everybody", "action": "request", "scheme": "http",
			"host": "files.partner.example", "port": w.HTTPPort, "method": "GET", "upstream_status": 200, "close_reason": "finished",
		})
		paths = append(paths, row["path"].(string))
		line := w.log.wait(t, "the request's end", message("request_closed", fields{"decision_id": row["decision_id"]}))
		check(t, "log line", line, fields{"close_reason": "finished", "upstream_status": 200, "bytes_received": row["bytes_received"], "bytes_sent": row["bytes_sent"]})
		if sent, _ := row["bytes_sent"].(float64); sent < float64(len("GET /one HTTP/1.1\r\nHost: files.partner.example\r\n\r\n")) {
			t.Errorf("%v bytes were sent, less than the request's head", row["bytes_sent"])
		}
	}
	if !slices.Contains(paths, "/one") || !slices.Contains(paths, "/two") {
		t.Errorf("the paths on record are %q", paths)
	}
	w.both(t, rows[3], fields{"decision_id": resp.Header.Get("Sallyport-Decision"), "verdict": "deny", "action": "request",
		"host": "nobody.listed.example", "path": "/four", "status": 403, "closed_at": nil})
	closings := w.query(t, `SELECT decision_id FROM audit.events WHERE kind = 'request_closed'
		AND decision_id IN (SELECT decision_id FROM audit.decisions WHERE step_uuid = $1::text::uuid)`, c.step.UUID)
	if len(closings) != 3 {
		t.Errorf("%d requests were closed on record, not 3", len(closings))
	}
}

func testForwardRefused(t *testing.T, w *fixture) {
	c := w.caller(w.Payments, nil, "feature/x")
	v := w.curl(t, c.proxyURL(w.proxy), w.http("api.partner.example", "/v1/payments"))
	if v.exit != 0 || v.status != "403" || v.header("Sallyport-Reason") != "no_rule_matched" {
		t.Fatalf("curl ended with %d after %s\n%s", v.exit, v.status, v.verbose)
	}
	id := v.header("Sallyport-Decision")
	if !strings.HasPrefix(v.body, "sallyport: no_rule_matched") || !strings.Contains(v.body, id) {
		t.Errorf("curl shows %q", v.body)
	}
	w.both(t, w.decision(t, c), fields{"decision_id": id, "verdict": "deny", "action": "request", "scheme": "http",
		"host": "api.partner.example", "method": "GET", "path": "/v1/payments", "reason": "no_rule_matched"})

	// The same with a body, through the production deployment.
	by := w.production()
	v = w.curl(t, by.proxyURL(w.proxy), "--data", "amount=1", w.http("api.partner.example", "/v1/payments"))
	if v.exit != 0 || v.status != "200" || !strings.Contains(v.body, "saw POST /v1/payments") {
		t.Fatalf("curl ended with %d after %s: %q\n%s", v.exit, v.status, v.body, v.verbose)
	}
	w.both(t, w.decision(t, by), fields{"verdict": "allow", "method": "POST", "upstream_status": 200})

	// A prohibited address is no better without a tunnel.
	target := newTap(t, "127.0.0.2:0", nil)
	to := w.production()
	v = w.curl(t, to.proxyURL(w.proxy), "http://loopback.partner.example:"+target.port+"/")
	if v.status != "403" || v.header("Sallyport-Reason") != "address_prohibited" {
		t.Fatalf("curl ended with %d after %s\n%s", v.exit, v.status, v.verbose)
	}
	target.untouched(t)
	w.both(t, w.decision(t, to), fields{"verdict": "deny", "reason": "address_prohibited", "action": "request"})
}

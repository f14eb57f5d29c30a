package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// testKeptConnections: a target that ends the connections that it has kept open fails no
// GET, however and whenever it ends them.
func testKeptConnections(t *testing.T, w *fixture) {
	const requests = 10
	for name, c := range map[string]struct {
		pace   time.Duration // between two requests of the client
		after  func(net.Conn)
		second func(net.Conn) // on the second request of a connection, instead of a response
		fresh  bool           // the client, too, opens a connection for each request
	}{
		// The target's timer and the client's pace are the input here, and not a wait for
		// something.
		"50 ms after each response":             {pace: 20 * time.Millisecond, after: closesAfter(50 * time.Millisecond)},
		"50 ms after each response, new client": {pace: 20 * time.Millisecond, after: closesAfter(50 * time.Millisecond), fresh: true},
		"as fast as the client asks":            {pace: 20 * time.Millisecond, after: closesAfter(20 * time.Millisecond)},
		"at once":                               {after: closes},
		"at once, by a reset":                   {after: resets},
		"its sending side only":                 {after: func(c net.Conn) { _ = c.(counted).CloseWrite() }},
		"on the next request":                   {second: closes},
		"on the next request, by a reset":       {second: resets},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended atomic.Int64
			target := newTap(t, "127.0.0.1:0", func(conn net.Conn) {
				in := bufio.NewReader(conn)
				for n := 1; ; n++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if n == 2 && c.second != nil {
						ended.Add(1)
						c.second(conn)
						return
					}
					if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
						return
					}
					if c.after != nil {
						ended.Add(1)
						c.after(conn)
					}
				}
			})
			by := w.anybody()
			client := w.client(t, by)
			client.Transport.(*http.Transport).DisableKeepAlives = c.fresh
			for n := range requests {
				if n > 0 && c.pace > 0 {
					<-time.After(c.pace)
				}
				resp, err := client.Get(fmt.Sprintf("http://files.partner.example:%s/%d", target.port, n))
				if err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK || string(body) != "ok" || err != nil {
					t.Errorf("request %d: %s %q: %v", n, resp.Status, body, err)
				}
			}
			if ended.Load() == 0 {
				t.Error("the target has ended no connection")
			}
			for _, row := range w.closed(t, by, requests) {
				check(t, "audit row", row, fields{"verdict": "allow", "upstream_status": 200, "close_reason": "finished"})
			}
			if c.second == nil {
				return
			}
			repeated := w.query(t, `SELECT count(*) AS n FROM audit.events WHERE kind = 'request_closed' AND record_rest LIKE '%"repeated":"true"%'
				AND decision_id IN (SELECT decision_id FROM audit.decisions WHERE step_uuid = $1::text::uuid)`, by.step.UUID)
			check(t, "repeated requests", repeated[0], fields{"n": ended.Load()})
		})
	}
}

func closesAfter(d time.Duration) func(net.Conn) {
	return func(c net.Conn) { time.AfterFunc(d, func() { closes(c) }) }
}

func closes(c net.Conn) { _ = c.Close() }

// resets closes a connection so that its peer receives a reset.
func resets(c net.Conn) {
	_ = c.(counted).SetLinger(0)
	_ = c.Close()
}

package goproxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

const (
	shortAnswer   = "HTTP/1.1 200 OK\r\nX-Filler: 0123456789\r\nContent-Length: 5\r\n\r\nabcde"
	chunkedAnswer = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;ext=1\r\nabcde\r\n0\r\nX-Sum: 12\r\n\r\n"
)

var longAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("a", 200_000)

func answering(t *testing.T, raw string) *target {
	t.Helper()
	return serve(t, func(int, *http.Request) (string, bool) { return raw, false })
}

// unannounced is a body of unknown length, which is sent in chunks.
type unannounced struct{ io.Reader }

func (unannounced) Close() error { return nil }

// TestBytesAreThoseOnTheWire: the event of an end has each byte that the target
// got and gave, request line, fields, framing, interim answers and trailers
// included, on new and on kept connections.
func TestBytesAreThoseOnTheWire(t *testing.T) {
	for name, test := range map[string]struct {
		method, body, answer string
		chunked              bool
	}{
		"without content":   {"GET", "", shortAnswer, false},
		"with content":      {"POST", "hello", shortAnswer, false},
		"with much content": {"POST", strings.Repeat("x", 100_000), shortAnswer, false},
		"in chunks":         {"POST", "hello", shortAnswer, true},
		"answer in chunks":  {"PUT", "hello", chunkedAnswer, false},
	} {
		t.Run(name, func(t *testing.T) {
			up, s := answering(t, test.answer), start(t, Config{})
			for range 2 {
				a := s.admit(t, "one", "http://up.test:"+up.Port+"/path?q")
				r := request(t, a, test.method, http.Header{"X-Long": {strings.Repeat("h", 9000)}}, test.body)
				if test.chunked {
					r.Body, r.ContentLength = unannounced{strings.NewReader(test.body)}, -1
				}
				w := &answer{header: http.Header{}}
				s.forwarder.Forward(w, r, a)
				if w.status != 200 || w.body.String() != "abcde" {
					t.Fatalf("%+v", w)
				}
				e, seen := s.last(t), up.seen()
				if want := int64(len(seen[len(seen)-1])); e.BytesSent != want || want < 9000 {
					t.Errorf("%d bytes sent are on record, and the target got %d", e.BytesSent, want)
				}
				if want := int64(len(test.answer)); e.BytesReceived != want {
					t.Errorf("%d bytes received are on record, and the target sent %d", e.BytesReceived, want)
				}
			}
		})
	}
}

// TestByteLimitsOfRequests: each limit is refused with its reason, and not a byte
// over it reaches the target or the client. A head is sent as a whole or not at all.
func TestByteLimitsOfRequests(t *testing.T) {
	const head = 70 // at least, of the request below
	body := strings.Repeat("x", 20_000)
	for name, test := range map[string]struct {
		limits policy.Limits
		long   int // bytes of a field
		answer string
		status int // of the refusal; 0: the answer was cut
		reason policy.Reason
		cause  proxy.Cause
		none   bool // nothing reaches the target
	}{
		"head":               {policy.Limits{Sent: 10}, 10, shortAnswer, 413, "byte_limit", "bytes_sent_limit", true},
		"long head":          {policy.Limits{Sent: 20_000}, 60_000, shortAnswer, 413, "byte_limit", "bytes_sent_limit", true},
		"content":            {policy.Limits{Sent: 20_000}, 10, shortAnswer, 413, "byte_limit", "bytes_sent_limit", false},
		"step, head":         {policy.Limits{StepSent: 10}, 10, shortAnswer, 429, "step_limit", "step_bytes_sent_limit", true},
		"step, long head":    {policy.Limits{StepSent: 20_000}, 60_000, shortAnswer, 429, "step_limit", "step_bytes_sent_limit", true},
		"step, content":      {policy.Limits{StepSent: 20_000}, 10, shortAnswer, 429, "step_limit", "step_bytes_sent_limit", false},
		"the step's is less": {policy.Limits{Sent: 20_000, StepSent: 19_000}, 10, shortAnswer, 429, "step_limit", "step_bytes_sent_limit", false},
		"answer's head":      {policy.Limits{Received: 20}, 10, shortAnswer, 502, "byte_limit", "bytes_received_limit", false},
		"answer's content":   {policy.Limits{Received: int64(len(shortAnswer)) - 1}, 10, shortAnswer, 502, "byte_limit", "bytes_received_limit", false},
		"answer's trailer":   {policy.Limits{Received: int64(len(chunkedAnswer)) - 3}, 10, chunkedAnswer, 502, "byte_limit", "bytes_received_limit", false},
		"long answer":        {policy.Limits{Received: 100_000}, 10, longAnswer, 0, "", "bytes_received_limit", false},
		"step, answer":       {policy.Limits{StepReceived: 20}, 10, shortAnswer, 429, "step_limit", "step_bytes_received_limit", false},
	} {
		t.Run(name, func(t *testing.T) {
			up, s := counting(t, test.answer), start(t, Config{})
			s.limits = test.limits
			w := s.do(t, nil, "POST", "http://up.test:"+up.Port+"/", http.Header{"X-Long": {strings.Repeat("h", test.long)}}, body)
			switch {
			case test.status == 0 && (!w.aborted || w.refusal != nil), w.finished:
				t.Errorf("%+v", w)
			case test.status != 0 && (w.refusal == nil || w.refusal.Status != test.status || w.refusal.Reason != test.reason):
				t.Errorf("%+v", w.refusal)
			}
			e := s.last(t)
			if e.CloseReason != string(test.cause) {
				t.Errorf("ended with %s", e.CloseReason)
			}
			s.forwarder.Close()
			got := up.wait()
			if most := test.limits.Sent + test.limits.StepSent; most > 0 && (got > most || e.BytesSent != got) {
				t.Errorf("the target got %d bytes of at most %d; %d are on record", got, most, e.BytesSent)
			}
			if test.none != (got == 0) || got > 0 && got < head {
				t.Errorf("the target got %d bytes", got)
			}
			if most := test.limits.Received + test.limits.StepReceived; most > 0 && e.BytesReceived > most {
				t.Errorf("%d bytes of at most %d were received", e.BytesReceived, most)
			}
		})
	}
}

// TestHeaderBytesAreNeeded is the attack: 50 GETs carry 3 MB out in their header
// fields under a limit of 10 bytes. With connections that are not counted, as
// before, all of it gets out.
func TestHeaderBytesAreNeeded(t *testing.T) {
	attack := func(uncounted bool) int64 {
		up, s := counting(t, shortAnswer), start(t, Config{})
		s.limits = policy.Limits{Sent: 10, StepSent: 10}
		if uncounted {
			counted := s.forwarder.pools.transport
			s.forwarder.pools.transport = func(maxIdle int) *http.Transport {
				transport := counted(maxIdle)
				transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dialPinned(ctx, network, address)
					if err != nil {
						return nil, err
					}
					return conn.(*connection).Stream, nil
				}
				return transport
			}
		}
		for range 50 {
			s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", http.Header{"X-Data": {strings.Repeat("d", 60_000)}}, "")
		}
		s.gate.Wait()
		s.forwarder.Close()
		return up.wait()
	}
	if got := attack(true); got < 3_000_000 {
		t.Errorf("without the control %d bytes got out: the test cannot fail", got)
	}
	if got := attack(false); got != 0 {
		t.Errorf("%d bytes got out under a limit of 10", got)
	}
}

package forwarder

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// recorder is an Upstream that denies every tunnel and answers every request.
type recorder struct {
	mu       sync.Mutex
	connects []string
	requests []*http.Request
}

func (r *recorder) Connect(_ context.Context, target string) (upstream.Stream, *upstream.Refusal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connects = append(r.connects, target)
	return nil, &upstream.Refusal{Status: 403, Reason: "policy_denied"}, nil
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, io.LimitReader(request.Body, 1<<20))
	_ = request.Body.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
	return &http.Response{StatusCode: 204, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: request}, nil
}

// FuzzTool: no bytes of a tool make the forwarder panic or keep its connection open. What
// it sends on has the tool's target and no credential of the tool's, and nothing behind a
// refused CONNECT is a request.
func FuzzTool(f *testing.F) {
	for _, seed := range []string{
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\nGET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
		"GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\nProxy-Authorization: Basic dG9vbDp0b29s\r\n\r\nGET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
		"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Proxy-Authorization\r\n\r\n1\r\nx\r\n0\r\nProxy-Authorization: tool\r\n\r\n",
		"POST http://a.test/ HTTP/1.1\nHost: a\nContent-Length: 1\nConnection: Proxy-Authorization, X\nX: y\n\nz",
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "GET https://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://u:p@a.test:80/%zz HTTP/1.0\r\n\r\n",
		"CONNECT [::1]:443 HTTP/1.0\r\n\r\n", "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
		socksRequest("a.test", "443") + "rest", "\x05\x01\x00\x05\x01\x00\x04", "\x04\x01", "\x16\x03\x01",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		up := &recorder{}
		var lines []string
		var mu sync.Mutex
		fw, err := New(Config{Upstream: up, Admit: func(uint32) bool { return true }, peerUID: func(net.Conn) (uint32, error) { return 0, nil },
			Refused: func(r Refusal) { mu.Lock(); defer mu.Unlock(); lines = append(lines, r.Line()) }})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- fw.Serve(l) }()
		exchange(t, l.Addr().String(), sent)
		fw.Close()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		up.check(t, sent)
		for _, line := range lines {
			if strings.Count(line, "\n") != 1 || strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) >= 0 || len(line) > 4000 {
				t.Fatalf("printed %q", line)
			}
		}
	})
}

// exchange sends bytes, ends its direction, and reads to the end.
func exchange(t *testing.T, address string, sent []byte) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(sent); err == nil {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the connection stays open: %v", err)
	}
}

func (r *recorder) check(t *testing.T, sent []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.connects) > 1 {
		t.Fatalf("two CONNECT on one connection: %q", r.connects)
	}
	for _, target := range r.connects {
		if sent[0] != 5 && !bytes.Contains(sent, []byte(target)) {
			t.Fatalf("target %q is not the tool's", target)
		}
	}
	if bytes.HasPrefix(sent, []byte("CONNECT ")) && len(r.requests) > 0 {
		t.Fatalf("a request behind a CONNECT was sent: %v", r.requests[0])
	}
	for _, request := range r.requests {
		var wire bytes.Buffer
		request.Body = nil
		request.ContentLength = 0
		if err := request.WriteProxy(&wire); err != nil {
			continue // the transport refuses it in the same way
		}
		line, _, _ := strings.Cut(wire.String(), "\r\n")
		if head := strings.ToLower(wire.String()); strings.Contains(head, "\nproxy-") || !bytes.Contains(sent, []byte(strings.Fields(line)[1])) {
			t.Fatalf("sent %q", wire.String())
		}
		if request.URL.Scheme != "http" || request.Trailer != nil {
			t.Fatalf("sent %v with trailer %v", request.URL, request.Trailer)
		}
	}
}

package frontend

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// insideTunnel opens a tunnel that must carry TLS.
func insideTunnel(t *testing.T, s *env, authority, credential string) *client {
	t.Helper()
	c := s.dial(t).send("CONNECT " + authority + " HTTP/1.1\r\n" + credential + "\r\n")
	if resp, body := c.answer("CONNECT"); resp.StatusCode != 200 {
		t.Fatalf("%v %s", resp, body)
	}
	return c
}

func startTLSOnly(t *testing.T) (s *env, port string, sent func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	received := make(chan int, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				n, _ := io.Copy(io.Discard, conn)
				_ = conn.Close()
				received <- int(n)
			}()
		}
	}()
	s = start(t, func(s *env, _ *Config, _ *ListenerConfig) { s.protocol = policy.ProtocolTLS })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return s, port, func() int { return <-received }
}

// TestRequestsInsideATunnel: plain HTTP requests inside a tunnel that must carry
// TLS are each decided by themselves, for the CONNECT's target and with its
// credential; the tunnel itself carries nothing.
func TestRequestsInsideATunnel(t *testing.T) {
	s, port, sent := startTLSOnly(t)
	s.forward.handler = func(w proxy.ResponseWriter, r *http.Request, _ *proxy.Admission) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" "+string(body))
	}
	c := insideTunnel(t, s, "up.test:"+port, good)
	for _, test := range []struct{ raw, want string }{
		{"GET /a?b HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n", "GET http://up.test:" + port + "/a?b "},
		{"POST /p HTTP/1.1\r\nHost: up.test:" + port + "\r\nContent-Length: 3\r\n\r\nabc", "POST http://up.test:" + port + "/p abc"},
		{"GET http://up.test:" + port + "/abs HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n", "GET http://up.test:" + port + "/abs "},
		{"GET /step HTTP/1.1\r\nHost: UP.test.:" + port + "\r\n\r\n", "GET http://up.test:" + port + "/step "}, // the target's, not ours
		{"GET /ours HTTP/1.1\r\nHost: up.test:" + port + "\r\nProxy-Authorization: Bearer other\r\n\r\n", "GET http://up.test:" + port + "/ours "},
	} {
		if resp, body := c.send(test.raw).answer("GET"); resp.StatusCode != 200 || body != test.want {
			t.Errorf("%q: %d %q, want %q", test.raw, resp.StatusCode, body, test.want)
		}
	}
	if n := sent(); n != 0 {
		t.Errorf("the tunnel's own connection carried %d bytes", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) != 6 || s.requests[0].Action != policy.Connect {
		t.Fatalf("%d decisions", len(s.requests))
	}
	for _, r := range s.requests[1:] {
		if r.Action != policy.Forward || r.Target.Host != "up.test" || r.Principal.Step.UUID != "step-good" {
			t.Errorf("%+v", r)
		}
	}
}

// TestRequestsInsideATunnelAreBound: nothing inside a tunnel reaches another
// target, and what is not an HTTP request is cut like other bytes that are not TLS.
func TestRequestsInsideATunnelAreBound(t *testing.T) {
	s, port, _ := startTLSOnly(t)
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: up.test:1\r\n\r\n",
		"GET http://other.test/ HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n",
		"GET http://user@up.test:" + port + "/ HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n",
		"CONNECT /x HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\nHost: up.test\n\n",
	} {
		got := insideTunnel(t, s, "up.test:"+port, good).send(raw).rest()
		if !strings.HasPrefix(got, "HTTP/1.1 400 Sallyport request_invalid\r\n") && !strings.HasPrefix(got, "HTTP/1.1 501 Sallyport request_invalid\r\n") {
			t.Errorf("%q: got %q", raw, got)
		}
	}
	for _, raw := range []string{"GET https://up.test:" + port + "/ HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n"} {
		if got, _ := io.ReadAll(insideTunnel(t, s, "up.test:"+port, good).send(raw).r); len(got) > 0 {
			t.Errorf("%q: got %q", raw, got)
		}
	}
	if len(s.forward.requests) > 0 {
		t.Errorf("%d requests were forwarded", len(s.forward.requests))
	}
}

// TestCredentialInsideATunnel: the credential of the CONNECT is checked again for
// each request, and its loss is a refusal that no client answers with a
// proxy's credential.
func TestCredentialInsideATunnel(t *testing.T) {
	s, port, _ := startTLSOnly(t)
	request := "GET / HTTP/1.1\r\nHost: up.test:" + port + "\r\n\r\n"
	c := insideTunnel(t, s, "up.test:"+port, good)
	if resp, _ := c.send(request).answer("GET"); resp.StatusCode != 200 {
		t.Fatalf("%v", resp)
	}
	s.revoked.Store(true)
	resp, _ := c.send(request).answer("GET")
	if resp.StatusCode != 403 || resp.Header.Get("Sallyport-Reason") != "credential_revoked" || resp.Header.Get("Proxy-Authenticate") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestWebSocketInsideATunnel: ws:// targets work inside a tunnel too, and the
// connection's places and routines are all given back.
func TestWebSocketInsideATunnel(t *testing.T) {
	s, port, _ := startTLSOnly(t)
	far, near := net.Pipe()
	defer far.Close()
	s.forward.handler = func(w proxy.ResponseWriter, _ *http.Request, a *proxy.Admission) {
		w.Header().Set("Sec-WebSocket-Accept", "x")
		w.Upgrade(halfCloser{near}, []byte("hello "))
	}
	c := insideTunnel(t, s, "up.test:"+port, good).send("GET /ws HTTP/1.1\r\nHost: up.test:" + port + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	go func() { _, _ = io.WriteString(far, "world"); _ = far.Close() }()
	if got := c.rest(); got != "hello world" {
		t.Errorf("got %q", got)
	}
	_ = c.CloseWrite()
	for until := time.Now().Add(10 * time.Second); s.server.Connections() > 0; {
		if time.Now().After(until) {
			t.Fatalf("%d connections are open", s.server.Connections())
		}
		runtime.Gosched()
	}
}

type halfCloser struct{ net.Conn }

func (halfCloser) CloseWrite() error { return nil }

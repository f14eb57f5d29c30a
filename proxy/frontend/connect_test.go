package frontend

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/proxy"
)

func TestConnect(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	for _, version := range []string{"1.0", "1.1"} {
		for _, early := range []string{"", "sent with the CONNECT "} {
			t.Run(version+" "+early, func(t *testing.T) {
				s := start(t, nil)
				// HTTP/1.0 comes without Host, as from Python's clients.
				c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/" + version + "\r\n" + good + "\r\n" + early)
				resp, _ := c.answer("CONNECT")
				if resp.StatusCode != 200 || resp.Proto != "HTTP/"+version {
					t.Fatalf("%s %s", resp.Proto, resp.Status)
				}
				c.send("and then this")
				_ = c.CloseWrite()
				if got := c.rest(); got != early+"and then this" {
					t.Errorf("through the tunnel came %q", got)
				}
				events := s.await(t, 2)
				if events[0].Verdict != "allow" || events[1].BytesSent != int64(len(early)+13) || events[1].CloseReason != "finished" {
					t.Errorf("events %+v, %+v", events[0], events[1])
				}
			})
		}
	}
}

// A client that half-closes after its request still gets its answer, however
// long the other side takes to begin (RFC 9112 section 9.6 of the tunnel's ends).
func TestHalfClose(t *testing.T) {
	target := proxytest.Serve(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		_, _ = io.WriteString(c, "read to the end: "+string(all))
	})
	for _, secure := range []bool{false, true} {
		s := start(t, func(s *env, _ *Config, lc *ListenerConfig) {
			if secure {
				s.tls, lc.TLS = certificate(t)
			}
		})
		c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
		c.answer("CONNECT")
		c.send("question")
		_ = c.CloseWrite()
		if got := c.rest(); got != "read to the end: question" {
			t.Errorf("TLS %v: got %q", secure, got)
		}
	}
}

// What stands behind a refused CONNECT must never be read as a request.
func TestRefusedConnectEndsTheConnection(t *testing.T) {
	for _, credential := range []string{"", good, basic("forged")} {
		s := start(t, nil)
		target := proxytest.Serve(t, proxytest.Echo)
		c := s.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n" + credential + "\r\n" +
			"GET http://up.test:" + target.Port + "/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n")
		resp, body := c.answer("CONNECT")
		if rest := c.rest(); rest != "" {
			t.Errorf("%s: and then %q", resp.Status, rest)
		}
		if !strings.HasPrefix(body, "sallyport: ") || resp.Header.Get("Connection") != "close" && !resp.Close {
			t.Errorf("answer %v %q", resp, body)
		}
		if len(s.forward.seen()) > 0 || target.Accepted() > 0 {
			t.Error("the request behind the refused CONNECT was forwarded")
		}
	}
}

func TestRefusal(t *testing.T) {
	s := start(t, nil)
	resp, body := s.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT")
	event := s.await(t, 1)[0]
	for name, want := range map[string]string{
		"Proxy-Status":       `sallyport; error=http_request_denied; details="policy_denied"`,
		"Sallyport-Reason":   "policy_denied",
		"Sallyport-Decision": event.DecisionID,
		"Sallyport-Rule":     "no-denied",
		"Content-Type":       "text/plain; charset=utf-8",
		"Cache-Control":      "no-store",
		"Proxy-Authenticate": "",
		"Injected":           "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if resp.Status != "403 Sallyport policy_denied" {
		t.Errorf("status line says %q", resp.Status)
	}
	want := `sallyport: policy_denied: ask "them"??Injected: yes (rule no-denied, decision ` + event.DecisionID + `). What to do: `
	if !strings.HasPrefix(body, want) || strings.Count(body, "\n") != 1 {
		t.Errorf("body %q", body)
	}

	resp, _ = s.dial(t).send("CONNECT up.test:443 HTTP/1.1\r\n\r\n").answer("CONNECT")
	if resp.StatusCode != 407 || resp.Header.Get("Proxy-Authenticate") != `Basic realm="sallyport"` {
		t.Errorf("without a credential: %v", resp)
	}
	s.away.Store(true)
	resp, _ = s.dial(t).send("CONNECT up.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "5" {
		t.Errorf("with the log away: %v", resp)
	}
}

func TestUnreachableTarget(t *testing.T) {
	s := start(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	resp, body := s.dial(t).send("CONNECT up.test:" + port(nobody) + " HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT")
	if resp.StatusCode != 502 || strings.Contains(body, "127.0.0.1") || strings.Contains(body, "refused") {
		t.Errorf("%s %q", resp.Status, body)
	}
	if e := s.await(t, 2)[1]; e.CloseReason != "target_unreachable" || e.Status != 502 {
		t.Errorf("end %+v", e)
	}
}

// A client that hangs up while it is decided upon gets no tunnel opened.
func TestClientGoneBeforeTheTunnel(t *testing.T) {
	s := start(t, func(s *env, _ *Config, _ *ListenerConfig) {
		s.entered, s.hold = make(chan struct{}, 1), make(chan struct{})
	})
	target := proxytest.Serve(t, proxytest.Echo)
	c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
	<-s.entered
	_ = c.Close()
	close(s.hold)
	if e := s.await(t, 2)[1]; e.CloseReason != "client_closed" {
		t.Errorf("end %+v", e)
	}
	if target.Accepted() > 0 {
		t.Error("the target was dialed without a client")
	}
}

func TestTooManyConnections(t *testing.T) {
	s := start(t, func(_ *env, c *Config, _ *ListenerConfig) { c.MaxConnections = 1 })
	s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n").answer("GET")
	resp, body := s.dial(t).answer("GET")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, "overloaded") {
		t.Errorf("%v %q", resp, body)
	}
}

func TestPanicEndsOneConnection(t *testing.T) {
	s := start(t, func(s *env, _ *Config, _ *ListenerConfig) { s.panics = true })
	if got := s.dial(t).send("CONNECT up.test:443 HTTP/1.1\r\n" + good + "\r\n").rest(); !strings.HasPrefix(got, "HTTP/1.1 500 Sallyport internal_error\r\n") {
		t.Errorf("got %q", got)
	}
	if got := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n").rest(); got != "" {
		t.Errorf("got %q", got)
	}
	settle(t, s.server)
	if s.panicked.Load() != 2 {
		t.Errorf("%d panics counted", s.panicked.Load())
	}
	log := s.log.String()
	if !strings.Contains(log, "closed by a panic") || strings.Contains(log, "secret-in-a-panic") || strings.Contains(log, "Basic ") {
		t.Errorf("log: %s", log)
	}
}

// settle waits until no connection is left.
func settle(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdown(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	s := start(t, nil)
	target := proxytest.Serve(t, proxytest.Echo)

	idle := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n")
	idle.answer("GET")
	tunnel := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
	tunnel.answer("CONNECT")
	if b, err := tunnel.send("x").r.ReadByte(); b != 'x' || err != nil {
		t.Fatal(b, err)
	}
	s.forward.handler = blocking(entered, finish)
	busy := s.dial(t).send("GET http://up.test/busy HTTP/1.1\r\nHost: x\r\n" + good + "\r\n")
	<-entered

	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- s.server.Shutdown(ctx) }()
	if got := idle.rest(); got != "" {
		t.Errorf("the idle connection got %q", got)
	}
	close(finish)
	if resp, _ := busy.answer("GET"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("the request in flight got %v", resp)
	}
	if n := s.tracker.Len(); n != 1 {
		t.Errorf("%d tunnels are open before the deadline", n)
	}
	cancel()
	if err := <-down; err == nil {
		t.Error("Shutdown does not say that it had to close a tunnel")
	}
	if _, err := net.Dial("tcp", s.address); err == nil {
		t.Error("the listener is still there")
	}
	events := s.await(t, 6)
	if last := events[len(events)-1]; last.CloseReason != string(proxy.CauseShutdown) {
		t.Errorf("the tunnel's end is %+v", last)
	}
}

// TestEstablishedAnswer: the answer to an admitted CONNECT has a header field,
// which apk of Alpine 3.13.0 waits for, and nothing that would give it content
// (RFC 9110 section 9.3.6).
func TestEstablishedAnswer(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	s := start(t, nil)
	for _, version := range []string{"1.0", "1.1"} {
		c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/" + version + "\r\n" + good + "\r\nhello")
		_ = c.CloseWrite()
		if got, want := c.rest(), "HTTP/"+version+" 200 Connection established\r\nProxy-Status: sallyport\r\n\r\nhello"; got != want {
			t.Errorf("%s: got %q, want %q", version, got, want)
		}
	}
}

// TestConnectIsAlwaysAnswered: whatever ends a CONNECT, the client reads a response.
func TestConnectIsAlwaysAnswered(t *testing.T) {
	const request = "CONNECT up.test:443 HTTP/1.1\r\n" + "Proxy-Authorization: Bearer good\r\n\r\n"
	t.Run("a shutdown that does not wait, while it is decided", func(t *testing.T) {
		s := start(t, func(s *env, c *Config, _ *ListenerConfig) {
			s.entered, s.hold = make(chan struct{}, 1), make(chan struct{})
			c.LingerTimeout = time.Minute // the decision ends long before
		})
		c := s.dial(t).send(request)
		<-s.entered
		down := make(chan struct{})
		go func() {
			defer close(down)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.gate.CloseAdmission()
			_ = s.server.Shutdown(ctx)
		}()
		proxytest.Eventually(t, "requests are canceled", func() bool { return s.server.context.Err() != nil })
		close(s.hold)
		if resp, _ := c.answer("CONNECT"); resp.StatusCode == 0 {
			t.Errorf("answered %s", resp.Status)
		}
		_ = c.Close()
		<-down
	})
	t.Run("a shutdown that does not wait, within the head", func(t *testing.T) {
		s := start(t, nil)
		c := s.dial(t).send(request[:20])
		proxytest.Eventually(t, "the connection is served", func() bool { return s.server.Connections() == 1 })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.server.Shutdown(ctx)
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 503 Sallyport shutting_down\r\n") {
			t.Errorf("got %q", got)
		}
	})
	for name, c := range map[string]struct {
		change func(*env)
		reason string
	}{
		"closed admission": {func(s *env) { s.gate.CloseAdmission() }, "shutting_down"},
		"emergency stop":   {func(s *env) { s.gate.Stop() }, "emergency_stop"},
		"the log":          {func(s *env) { s.away.Store(true) }, "audit_unavailable"},
		"a revoked step":   {func(s *env) { s.revoked.Store(true) }, "credential_revoked"},
		"a panic":          {func(s *env) { s.panics = true }, "internal_error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, nil)
			c.change(s)
			if resp, _ := s.dial(t).send(request).answer("CONNECT"); resp.Header.Get("Sallyport-Reason") != c.reason {
				t.Errorf("answered %s", resp.Status)
			}
		})
	}
	t.Run("too many connections", func(t *testing.T) {
		s := start(t, func(_ *env, c *Config, _ *ListenerConfig) { c.MaxConnections = 1 })
		s.dial(t)
		proxytest.Eventually(t, "the first is open", func() bool { return s.server.Connections() == 1 })
		if resp, _ := s.dial(t).send(request).answer("CONNECT"); resp.Header.Get("Sallyport-Reason") != "overloaded" {
			t.Errorf("answered %s", resp.Status)
		}
	})
}

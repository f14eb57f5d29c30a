package frontend

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// certificate makes a certificate for the listener, and what a client needs to
// trust it.
func certificate(t *testing.T) (client, server *tls.Config) {
	t.Helper()
	own, roots := proxytest.Certificate(t, "proxy.test")
	return &tls.Config{RootCAs: roots, ServerName: "proxy.test"},
		&tls.Config{NextProtos: []string{"h2"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }}
}

func TestTLSListener(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
		s.tls, lc.TLS = certificate(t)
		c.HandshakeTimeout = 200 * time.Millisecond
	})
	s.tls.NextProtos = []string{"h2", "http/1.1"}
	c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\nearly ")
	if resp, _ := c.answer("CONNECT"); resp.StatusCode != 200 {
		t.Fatalf("got %v", resp)
	}
	if got := c.Stream.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("ALPN is %q", got)
	}
	c.send("late")
	_ = c.CloseWrite()
	if got := c.rest(); got != "early late" {
		t.Errorf("got %q", got)
	}
	if resp, _ := s.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT"); resp.StatusCode != 403 {
		t.Errorf("got %v", resp)
	}
	// Silence on a TLS listener comes to an end.
	s.tls = nil
	if got := s.dial(t).rest(); got != "" {
		t.Errorf("silence got %q", got)
	}
}

// TestALPN: a client is never refused for the protocols that it offers, and only
// http/1.1 is ever selected.
func TestALPN(t *testing.T) {
	var trust *tls.Config
	s := start(t, func(s *env, _ *Config, lc *ListenerConfig) { trust, lc.TLS = certificate(t) })
	for _, test := range []struct {
		offered  []string
		selected string
	}{
		{nil, ""},
		{[]string{"http/1.1"}, "http/1.1"},
		{[]string{"h2", "http/1.1"}, "http/1.1"},
		{[]string{"http 1.1"}, ""}, // https-proxy-agent 2 to 5, and so pnpm
		{[]string{"http/1.0"}, ""},
		{[]string{"h2"}, ""},
		{[]string{"HTTP/1.1"}, ""}, // RFC 7301 section 6: names are octets
	} {
		s.tls = trust.Clone()
		s.tls.NextProtos = test.offered
		c := s.dial(t)
		if resp, _ := c.send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT"); resp.StatusCode != 403 {
			t.Errorf("%q: got %v", test.offered, resp)
		}
		if got := c.Stream.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != test.selected {
			t.Errorf("%q: %q was selected, want %q", test.offered, got, test.selected)
		}
	}
	// A session is resumed whatever was selected.
	s.tls = trust.Clone()
	s.tls.NextProtos, s.tls.ClientSessionCache = []string{"http 1.1"}, tls.NewLRUClientSessionCache(1)
	for _, resumed := range []bool{false, true} {
		c := s.dial(t)
		c.send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT")
		if got := c.Stream.(*tls.Conn).ConnectionState().DidResume; got != resumed {
			t.Errorf("the session was resumed: %v, want %v", got, resumed)
		}
	}
}

// TestCleartextOnTLSListener: a plain request on a TLS listener gets one line of
// help and nothing else, is counted, and is logged without its credential. What
// is neither plain HTTP nor TLS gets nothing.
func TestCleartextOnTLSListener(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"in service": func(*Config) {},
		"full":       func(c *Config) { c.MaxConnections = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
				_, lc.TLS = certificate(t)
				c.LingerTimeout = 200 * time.Millisecond
				change(c)
			})
			if name == "full" {
				s.dial(t) // a silent connection takes the one place
				for s.server.Connections() == 0 {
					runtime.Gosched()
				}
			}
			long := strings.Repeat("x", 100_000) // as long as a client may write before it reads
			for i, request := range []string{
				"CONNECT a.example:443 HTTP/1.1\r\n" + good + "\r\n",
				"GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + good + "\r\n",
				"POST http://up.test/ HTTP/1.0\r\n" + good + "Content-Length: 100000\r\n\r\n" + long,
				"BREW http://up.test/ HTTP/1.1\r\n\r\n",
				// The target begins within the five bytes of a record header.
				"GET /step HTTP/1.1\r\n" + good + "\r\n",
				"PUT / HTTP/1.1\r\n\r\n",
				"X / HTTP/1.1\r\n\r\n",
			} {
				before := s.counter.count(policy.TLSRequired)
				got := s.dial(t).send(request).rest()
				if !strings.HasPrefix(got, "HTTP/1.1 400 Sallyport tls_required\r\n") || !strings.Contains(got, "begin the proxy's URL with https://") {
					t.Errorf("%d: got %q", i, got)
				}
				if n := s.counter.count(policy.TLSRequired); n != before+1 {
					t.Errorf("%d: counted %d times", i, n-before)
				}
			}
			for _, other := range []string{"\x00\x00\x00\x08\x04\xd2\x16\x2f", "     ", "GET \x01", "GET  /x", "(GET)", "\x80\x2e\x01\x00\x02"} {
				// A reset is as good as an end here.
				if got, _ := io.ReadAll(s.dial(t).send(other).Stream); strings.Contains(string(got), "HTTP") {
					t.Errorf("%q got %q", other, got)
				}
			}
			log := s.log.String()
			if strings.Count(log, "plain HTTP request on a TLS listener") != 1 || strings.Contains(log, "good") {
				t.Errorf("the log has %s", log)
			}
			if len(s.kinds()) > 0 {
				t.Errorf("recorded %v: an unread request is of nobody", s.kinds())
			}
		})
	}
}

// TestCleartextWhileDraining: a plain request on a TLS listener is answered also while
// the server ends.
func TestCleartextWhileDraining(t *testing.T) {
	s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
		_, lc.TLS = certificate(t)
		c.LingerTimeout = 200 * time.Millisecond
	})
	c := s.dial(t)
	for s.server.Connections() == 0 {
		runtime.Gosched()
	}
	down := make(chan error, 1)
	go func() { down <- s.server.Shutdown(t.Context()) }()
	for {
		again, err := net.Dial("tcp", s.address)
		if err != nil {
			break // the listener is closed: it drains
		}
		_ = again.Close()
	}
	if got := c.send("GET / HTTP/1.1\r\n" + good + "\r\n").rest(); !strings.HasPrefix(got, "HTTP/1.1 400 Sallyport tls_required\r\n") {
		t.Errorf("got %q", got)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestProxyURLOfTheListener: the remedy for a bad token shows the scheme of the
// listener that the client has reached.
func TestProxyURLOfTheListener(t *testing.T) {
	client, server := certificate(t)
	for scheme, secured := range map[string]bool{"http": false, "https": true} {
		s := start(t, func(s *env, _ *Config, lc *ListenerConfig) {
			if secured {
				s.tls, lc.TLS = client, server
			}
		})
		_, body := s.dial(t).send("CONNECT a.test:443 HTTP/1.1\r\nProxy-Authorization: Basic c3RlcDo=\r\n\r\n").answer("CONNECT")
		if !strings.Contains(body, "HTTPS_PROXY="+scheme+"://step:") {
			t.Errorf("%s: %s", scheme, body)
		}
	}
}

// TestChallenges: a client without a credential is challenged for Basic, and one
// that presented a bad token learns that repeating it is of no use (RFC 6750
// section 3.1).
func TestChallenges(t *testing.T) {
	s := start(t, nil)
	for credential, want := range map[string]string{
		"":                                       `Basic realm="sallyport"`,
		"Proxy-Authorization: Bearer forged\r\n": `Bearer realm="sallyport", error="invalid_token"`,
		"Proxy-Authorization: Bearer reason.credential_expired\r\n": `Bearer realm="sallyport", error="invalid_token"`,
		"Proxy-Authorization: Basic c3RlcDo=\r\n":                   `Bearer realm="sallyport", error="invalid_token"`,
	} {
		resp, _ := s.dial(t).send("CONNECT a.test:443 HTTP/1.1\r\n" + credential + "\r\n").answer("CONNECT")
		if got := resp.Header.Values("Proxy-Authenticate"); resp.StatusCode != 407 || len(got) != 1 || got[0] != want {
			t.Errorf("%q: %d with %q, want %q", credential, resp.StatusCode, got, want)
		}
	}
}

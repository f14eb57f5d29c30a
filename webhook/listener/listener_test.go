package listener

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// listenerEnv is a server on loopback whose handler answers with the client's address.
type listenerEnv struct {
	*Server
	address string
	client  *tls.Config
	panics  atomic.Int32
	entered chan struct{} // a request to /wait is being handled
	proceed chan struct{} // lets it be answered
}

func newListenerEnv(t *testing.T, change func(*Config, *http.Server), prepare ...func(*Server)) *listenerEnv {
	t.Helper()
	e := &listenerEnv{entered: make(chan struct{}, 100), proceed: make(chan struct{})}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s %s", r.Proto, host)
	})
	certificate, authorities := proxytest.Certificate(t, "hooks.example")
	e.client = &tls.Config{RootCAs: authorities, ServerName: "hooks.example"}
	c := Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}},
		Handlers: map[string]http.Handler{
			"/hooks/policy": echo,
			"/panic":        http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }),
			"/wait": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				e.entered <- struct{}{}
				<-e.proceed
				_, _ = io.WriteString(w, "answered")
			}),
		},
		Prefixes: map[string]http.Handler{"/agent/v1/": echo},
		Panicked: func(any) { e.panics.Add(1) },
	}
	e.Server = New(c)
	if change != nil {
		change(&c, e.http)
		timeout := e.http.ReadHeaderTimeout
		e.Server = New(c)
		e.http.ReadHeaderTimeout = timeout
	}
	for _, p := range prepare {
		p(e.Server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		_ = e.http.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return e
}

// get requests a path and returns the status and the body.
func (e *listenerEnv) get(t *testing.T, http2 bool, path string) (int, string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: e.client.Clone(), ForceAttemptHTTP2: http2}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(e.request(t, path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (e *listenerEnv) request(t *testing.T, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+e.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dial connects, sends a header of the PROXY protocol, and speaks TLS then.
func (e *listenerEnv) dial(t *testing.T, header string) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(raw, header)
	return tls.Client(raw, e.client)
}

// over sends a request over a connection; it returns an error if the server closes it.
func over(conn net.Conn, path string) (string, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: hooks.example\r\n\r\n", path); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, nil)
	for http2, proto := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		if status, text := e.get(t, http2, "/hooks/policy"); status != 200 || text != proto+" 127.0.0.1" {
			t.Errorf("answered %d %q", status, text)
		}
		if status, text := e.get(t, http2, "/agent/v1/poll"); status != 200 || !strings.HasPrefix(text, proto) {
			t.Errorf("a path below a prefix: answered %d %q", status, text)
		}
	}
}

// TestOtherPaths: a path that no receiver has gets one response without detail, and a path
// has one spelling.
func TestOtherPaths(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, nil)
	for _, http2 := range []bool{false, true} {
		for _, path := range []string{"/", "/hooks", "/hooks/", "/hooks/policy/", "/hooks/policy/x", "/hooks/Policy", "/hooks//policy", "/hooks/%70olicy", "/hooks%2fpolicy", "/x/../hooks/policy", "/agent/v1", "/agent/v1/", "/metrics", "/readyz"} {
			if status, text := e.get(t, http2, path); status != 404 || text != "not found\n" {
				t.Errorf("%s: answered %d %q", path, status, text)
			}
		}
	}
	if e.Stats().UnknownPath != 28 {
		t.Errorf("counted %+v", e.Stats())
	}
}

// TestPanicEndsOneRequest: a panic is answered, and its connection continues.
func TestPanicEndsOneRequest(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, nil)
	for _, http2 := range []bool{false, true} {
		if status, text := e.get(t, http2, "/panic"); status != 500 || text != "internal error\n" {
			t.Errorf("answered %d %q", status, text)
		}
		if status, _ := e.get(t, http2, "/hooks/policy"); status != 200 {
			t.Errorf("afterwards %d", status)
		}
	}
	if e.panics.Load() != 2 {
		t.Errorf("%d panics are reported", e.panics.Load())
	}
}

// TestPROXYProtocol: from configured networks the header is required, and its address is
// the client's. From others it is refused.
func TestPROXYProtocol(t *testing.T) {
	t.Parallel()
	from := func(network string) *listenerEnv {
		return newListenerEnv(t, func(c *Config, _ *http.Server) { c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix(network)} })
	}
	const header = "PROXY TCP4 203.0.113.9 10.0.0.1 56789 443\r\n"
	for _, row := range []struct{ network, header, want string }{
		{"127.0.0.0/8", header, "203.0.113.9"},
		{"127.0.0.0/8", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"127.0.0.0/8", "", ""},
		{"127.0.0.0/8", "PROXY TCP4 nonsense\r\n", ""},
		{"10.0.0.0/8", "", "127.0.0.1"},
		{"10.0.0.0/8", header, ""},
	} {
		text, err := over(from(row.network).dial(t, row.header), "/hooks/policy")
		if row.want == "" && err == nil || row.want != "" && text != "HTTP/1.1 "+row.want {
			t.Errorf("from %s with %q: answered %q: %v, want %q", row.network, row.header, text, err, row.want)
		}
	}
}

// TestConnectionsAreBounded: one address has its share of the connections, all have the
// total, and a closed connection makes room. Eviction would make room too.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.MaxConnections, c.MaxPerClient = 5, 2
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}, withoutEviction)
	header := func(last int) string { return fmt.Sprintf("PROXY TCP4 203.0.113.%d 10.0.0.1 1 443\r\n", last) }
	open := func(last int) (*tls.Conn, bool) {
		conn := e.dial(t, header(last))
		_, err := over(conn, "/hooks/policy")
		return conn, err == nil
	}
	first, ok1 := open(1)
	_, ok2 := open(1)
	if _, ok := open(1); !ok1 || !ok2 || ok {
		t.Fatal("one address does not have exactly two connections")
	}
	proxytest.Eventually(t, "the refused connection is still counted", func() bool { return e.Stats().Connections == 2 })
	_, ok3 := open(2)
	_, ok4 := open(2)
	_, ok5 := open(3)
	if !ok3 || !ok4 || !ok5 {
		t.Fatal("other addresses are refused")
	}
	if _, ok := open(4); ok {
		t.Error("there are more than five connections")
	}
	_ = first.Close()
	proxytest.Eventually(t, "a closed connection is still counted", func() bool { return e.Stats().Connections == 4 })
	if _, ok := open(4); !ok {
		t.Error("a closed connection makes no room")
	}
	if e.Stats().Refused != 2 {
		t.Errorf("%d connections are refused", e.Stats().Refused)
	}
	_ = e.http.Close()
	proxytest.Eventually(t, "connections remain", func() bool { return e.Stats().Connections == 0 })
	e.connections.mu.Lock()
	defer e.connections.mu.Unlock()
	if len(e.connections.clients) > 0 {
		t.Errorf("addresses remain: %v", e.connections.clients)
	}
}

// TestPerClientLimitIsNeeded: without a limit per address, one address takes all
// connections, and others depend on eviction.
func TestPerClientLimitIsNeeded(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.MaxConnections, c.MaxPerClient = 3, 3
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}, withoutEviction)
	for range 3 {
		if _, err := over(e.dial(t, "PROXY TCP4 203.0.113.1 10.0.0.1 1 443\r\n"), "/hooks/policy"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := over(e.dial(t, "PROXY TCP4 203.0.113.2 10.0.0.1 1 443\r\n"), "/hooks/policy"); err == nil {
		t.Error("another address is served")
	}
}

// TestSilentConnectionsEnd: a connection that sends no TLS, no head or half a head ends.
func TestSilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, func(_ *Config, s *http.Server) { s.ReadHeaderTimeout = 50 * time.Millisecond })
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	half := e.dial(t, "")
	_, _ = io.WriteString(half, "POST /hooks/policy HTTP/1.1\r\nHost: x\r\nX-")
	for name, conn := range map[string]net.Conn{"silent": raw, "half a head": half} {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays open", name)
		}
	}
	proxytest.Eventually(t, "connections remain", func() bool { return e.Stats().Connections == 0 })
}

// TestShutdownAnswers: a request in progress is answered before Shutdown returns.
func TestShutdownAnswers(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		e := newListenerEnv(t, nil)
		answered := make(chan string, 1)
		go func() {
			_, text := e.get(t, http2, "/wait")
			answered <- text
		}()
		<-e.entered
		done := make(chan error, 1)
		go func() { done <- e.Shutdown(context.Background()) }()
		proxytest.Eventually(t, "still accepting", func() bool {
			conn, err := net.Dial("tcp", e.address)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
		close(e.proceed)
		if text := <-answered; text != "answered" {
			t.Errorf("answered %q", text)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestBodiesAreBounded: the bodies of one address have their share of the memory, and all
// have the total.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	var releases []func()
	for n := 1; ; n++ {
		release, ok := s.Reserve(netip.MustParseAddr("192.0.2.1"), 1<<20)
		if !ok {
			break
		}
		releases = append(releases, release)
		if n > bodyBytesPerClient>>20 {
			t.Fatalf("%d MiB for one address", n)
		}
	}
	if _, ok := s.Reserve(netip.MustParseAddr("192.0.2.2"), 1<<20); !ok {
		t.Error("another address is refused")
	}
	total := len(releases) + 1
	for n := range 100 {
		for range 20 {
			if _, ok := s.Reserve(addressNumber(n), 1<<20); ok {
				total++
			}
		}
	}
	if total != bodyBytes>>20 {
		t.Errorf("%d MiB in total, want %d", total, bodyBytes>>20)
	}
	for _, release := range releases {
		release()
	}
	if _, ok := s.Reserve(netip.MustParseAddr("192.0.2.1"), 1<<20); !ok {
		t.Error("released memory is not free")
	}
}

func TestHeadsAreBounded(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, nil)
	conn := e.dial(t, "")
	_, _ = fmt.Fprintf(conn, "GET /hooks/policy HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", bytes.Repeat([]byte("x"), 2*maxHeaderBytes))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %v: %v", response, err)
	}
}

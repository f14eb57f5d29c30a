package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
	"github.com/sallyport/sallyport/step/token"
)

// echo opens a tunnel to an echo server and checks it.
func echo(t testing.TB, c *Client, target string) {
	t.Helper()
	s, refusal, err := c.Connect(t.Context(), target)
	if err != nil || refusal != nil {
		t.Fatalf("refused: %+v, error: %v", refusal, err)
	}
	defer func() { _ = s.Close() }()
	_ = s.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "hello" {
		t.Fatalf("read %q, %v", b, err)
	}
}

// TestReadyConnection: the second tunnel uses a ready connection, which resumed the TLS
// session of the first.
func TestReadyConnection(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	c := client(t, s, nil)
	target := "allowed.test:" + proxytest.Serve(t, proxytest.Echo).Port
	echo(t, c, target)
	proxytest.Eventually(t, "a connection is ready", func() bool { return c.pool.len() > 0 })
	echo(t, c, target)
	proxytest.Eventually(t, "a resumed connection is ready", func() bool {
		conn, err := c.pool.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.pool.refill()
		defer func() { _ = conn.Close() }()
		return conn.Stream.(*tls.Conn).ConnectionState().DidResume
	})
}

// TestDeadReadyConnection: a ready connection that the server closed is not used.
func TestDeadReadyConnection(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	c := client(t, s, nil)
	c.Warm()
	proxytest.Eventually(t, "a connection is ready", func() bool { return c.pool.len() == 1 })
	s.Stop()
	proxytest.Eventually(t, "the closed connection is removed", func() bool { return c.pool.len() == 0 })
	s.Restart()
	echo(t, c, "allowed.test:"+proxytest.Serve(t, proxytest.Echo).Port)
}

// TestReadyAge: an unused connection is closed at its maximum age, and not replaced.
func TestReadyAge(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	c := client(t, s, func(c *Config) { c.MaxReadyAge = 50 * time.Millisecond })
	c.Warm()
	proxytest.Eventually(t, "a connection is ready", func() bool { return c.pool.len() == 1 })
	proxytest.Eventually(t, "the old connection is closed", func() bool { return c.pool.len() == 0 })
}

// TestManyAtOnce: tunnels that find no ready connection wait for those that are opened, and
// only as many connections are opened as needed; a request that gives up leaves its
// connection to the others.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	c := client(t, s, func(c *Config) { c.MaxReady, c.MaxReadyAge = 2, patience })
	target := "allowed.test:" + proxytest.Serve(t, proxytest.Echo).Port
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() { echo(t, c, target) })
	}
	all.Wait()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 8 {
		if conn, err := c.pool.get(gone); err == nil {
			_ = conn.Close() // it was ready
		}
	}
	echo(t, c, target)
	proxytest.Eventually(t, "no more is kept than permitted", func() bool {
		c.pool.refill() // the server closes those without a request
		c.pool.mu.Lock()
		defer c.pool.mu.Unlock()
		return c.pool.dialing == 0 && len(c.pool.waiters) == 0 && len(c.pool.ready) == 2
	})
}

// TestRestart: a CONNECT during a restart of the proxy waits for it.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	c := client(t, s, func(c *Config) { c.RetryFor = patience })
	target := "allowed.test:" + proxytest.Serve(t, proxytest.Echo).Port
	echo(t, c, target)
	s.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		echo(t, c, target)
	}()
	proxytest.Eventually(t, "an attempt failed", func() bool {
		c.proxies.mu.Lock()
		defer c.proxies.mu.Unlock()
		return len(c.proxies.down) > 0
	})
	s.Restart()
	<-done
}

// TestFailOver: the second proxy is used while the first is unreachable, or shuts down.
func TestFailOver(t *testing.T) {
	t.Parallel()
	first, second := steptest.Start(t), steptest.Start(t)
	both := joined(t, first.CAFile, second.CAFile)
	c := client(t, first, func(c *Config) { c.Proxies, c.CAFile, c.RetryFor = []string{first.URL, second.URL}, both, patience })
	target := "allowed.test:" + proxytest.Serve(t, proxytest.Echo).Port
	echo(t, c, target)
	if first.Decisions() != 1 {
		t.Fatalf("the first proxy decided %d times", first.Decisions())
	}
	first.CloseAdmission()
	echo(t, c, target)
	first.Stop()
	echo(t, c, target)
	if n := second.Decisions(); n != 2 {
		t.Errorf("the second proxy decided %d times", n)
	}
}

func joined(t *testing.T, files ...string) string {
	t.Helper()
	var all []byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	name := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(name, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBudget: attempts end, and the error names the proxy and the cause.
func TestBudget(t *testing.T) {
	t.Parallel()
	l := proxytest.Listen(t, "127.0.0.1:0")
	_ = l.Close()
	c, err := New(Config{Proxies: []string{"https://" + l.Addr().String()}, Token: static(t, steptest.Token), RetryFor: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _, err = c.Connect(t.Context(), "allowed.test:443")
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error: %v", err)
	}
}

// TestOutageIsShared: requests of one outage share the time for a restart; a response ends
// the outage.
func TestOutageIsShared(t *testing.T) {
	t.Parallel()
	list, err := parseProxies([]string{"https://a.example"}, false)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	expect := func(at, want time.Duration) {
		t.Helper()
		if got := list.retryUntil(now.Add(at), 15*time.Second).Sub(now); got != want {
			t.Errorf("after %v: until %v, want %v", at, got, want)
		}
	}
	expect(0, 15*time.Second)
	list.failed(list.all[0])
	list.failing = now
	expect(4*time.Second, 15*time.Second)
	expect(14*time.Second, 16*time.Second)
	expect(time.Minute, time.Minute+2*time.Second)
	list.failed(list.all[0])
	expect(time.Minute, time.Minute+2*time.Second)
	list.responded()
	expect(time.Minute, time.Minute+15*time.Second)
}

// collector accepts TLS with a certificate that the client does not trust, and returns
// what it receives after the handshake.
func collector(t *testing.T) (url string, received <-chan string) {
	certificate, _ := steptest.Certificate(t, "127.0.0.1")
	got := make(chan string, 1)
	s := proxytest.Serve(t, func(raw *net.TCPConn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}})
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		select {
		case got <- string(b[:n]):
		default:
		}
	})
	return "https://" + s.Address, got
}

// TestCertificateIsVerified: a proxy with another authority's certificate, or with a
// certificate for another name, receives nothing, and the attempt is not repeated.
func TestCertificateIsVerified(t *testing.T) {
	t.Parallel()
	trusted := steptest.Start(t)
	url, received := collector(t)
	c := client(t, trusted, func(c *Config) { c.Proxies, c.RetryFor = []string{url}, patience })
	_, _, err := c.Connect(t.Context(), "allowed.test:443")
	if err == nil || !strings.Contains(err.Error(), "CA file") {
		t.Errorf("error: %v", err)
	}
	if got := <-received; got != "" {
		t.Errorf("an unverified proxy received %q", got)
	}
	named := client(t, trusted, nil)
	named.proxies.all[0].tls.ServerName = "proxy.example"
	if _, _, err := named.Connect(t.Context(), "allowed.test:443"); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("another name: %v", err)
	}
}

// TestCertificateIsNeeded: without the verification, another proxy receives the token.
func TestCertificateIsNeeded(t *testing.T) {
	t.Parallel()
	trusted := steptest.Start(t)
	url, received := collector(t)
	c := client(t, trusted, func(c *Config) { c.Proxies, c.MaxReady, c.RetryFor = []string{url}, -1, time.Nanosecond })
	for _, p := range c.proxies.all {
		p.tls.InsecureSkipVerify = true
	}
	_, _, _ = c.Connect(t.Context(), "allowed.test:443")
	if got := <-received; !strings.Contains(got, steptest.Token) {
		t.Errorf("received %q: the attack does not succeed", got)
	}
}

// TestProxyURLs: a URL that would send the token without encryption, or that contains a
// credential, is refused, and the error does not repeat a credential.
func TestProxyURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want string }{
		{"http://proxy.example:3128", "without encryption"},
		{"https://step:secret@proxy.example:3129", "user information"},
		{"https://proxy.example:3129/path", "not a URL"},
		{"https://proxy.example:3129?x", "not a URL"},
		{"socks5://proxy.example", "scheme"},
		{"proxy.example:3129", "not a URL"},
		{"", "not a URL"},
	} {
		_, err := New(Config{Proxies: []string{c.url}, Token: static(t, steptest.Token)})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", c.url, err)
		}
	}
	list, err := parseProxies([]string{"https://a.example", "https://[::1]:3129/", "http://b.example:3128"}, true)
	if err != nil || list.all[0].address != "a.example:443" || list.all[1].address != "[::1]:3129" || !list.all[2].plain {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestPlainProxy: with Config.Plaintext, a listener without TLS is used.
func TestPlainProxy(t *testing.T) {
	t.Parallel()
	s := steptest.StartPlain(t)
	c := client(t, s, func(c *Config) { c.Plaintext = true })
	target := "allowed.test:" + proxytest.Serve(t, proxytest.Echo).Port
	echo(t, c, target)
	echo(t, c, target)
}

// source returns tokens in order, the next one at each renewal.
type source struct {
	tokens []token.Token
	renews int
}

func (s *source) Token(context.Context) (token.Token, error) { return s.tokens[0], nil }

func (s *source) Renew(context.Context, token.Token) (token.Token, error) {
	s.renews++
	if len(s.tokens) > 1 {
		s.tokens = s.tokens[1:]
	}
	return s.tokens[0], nil
}

// TestExpiredToken: a token that the proxy refuses as expired is renewed once. Without
// another token its refusal is remembered for every request, until there is one.
func TestExpiredToken(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	s.Expire("expired.token.1")
	old, _ := token.Parse("expired.token.1")
	good, _ := token.Parse(steptest.Token)
	renewable := &source{tokens: []token.Token{old, good}}
	c := client(t, s, func(c *Config) { c.Token = renewable })
	echo(t, c, "allowed.test:"+proxytest.Serve(t, proxytest.Echo).Port)
	final := &source{tokens: []token.Token{old}}
	c = client(t, s, func(c *Config) { c.Token = final })
	_, refusal, err := c.Connect(t.Context(), "allowed.test:443")
	if err != nil || refusal == nil || refusal.Status != 407 || refusal.Reason != "credential_expired" || final.renews != 1 {
		t.Errorf("%+v, %v, %d renewals", refusal, err, final.renews)
	}
	for range 2 {
		_, again, err := c.Connect(t.Context(), "other.test:443")
		if err != nil || again != refusal || final.renews != 1 {
			t.Errorf("%+v, %v, %d renewals", again, err, final.renews)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://allowed.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RoundTrip(r)
	if e, ok := errors.AsType[*RefusedError](err); !ok || e.Refusal != refusal {
		t.Errorf("a request: %v", err)
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	final.tokens = []token.Token{good}
	echo(t, c, "allowed.test:"+proxytest.Serve(t, proxytest.Echo).Port)
}

// request sends a request with a tool's own credential.
func request(t *testing.T, c *Client) *http.Response {
	t.Helper()
	target := proxytest.Serve(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://allowed.test:"+target.Port+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Proxy-Authorization", "Basic c3RlcDpvbGQ=")
	resp, err := c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

// TestCredentialIsReplaced: the step's token replaces a credential that a tool sent.
func TestCredentialIsReplaced(t *testing.T) {
	t.Parallel()
	if resp := request(t, client(t, steptest.Start(t), nil)); resp.StatusCode != 200 {
		t.Errorf("%s", resp.Status)
	}
}

// TestCredentialReplacementIsNeeded: a tool's credential beside the token makes Sallyport
// refuse the request.
func TestCredentialReplacementIsNeeded(t *testing.T) {
	t.Parallel()
	c := client(t, steptest.Start(t), nil)
	c.setField = http.Header.Add
	if resp := request(t, c); resp.Header.Get("Sallyport-Reason") != "credential_ambiguous" {
		t.Errorf("%s %v: the request was not refused", resp.Status, resp.Header)
	}
}

// TestContentIsSentOnce: a request with content whose connection ends without a response
// is an error; its content is not sent again.
func TestContentIsSentOnce(t *testing.T) {
	t.Parallel()
	contents := &output{}
	s := proxytest.Serve(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = contents.Write(b)
	})
	c, err := New(Config{Proxies: []string{"http://" + s.Address}, Plaintext: true, Token: static(t, steptest.Token)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://allowed.test/", io.MultiReader(strings.NewReader(method+";")))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.RoundTrip(r); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%v, %v", resp, err)
		}
	}
	if got := contents.String(); got != "POST;PUT;" {
		t.Errorf("the proxy received %q", got)
	}
}

// TestTargets: a target that does not fit into a request line is not sent.
func TestTargets(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	c := client(t, s, nil)
	for _, target := range []string{"", "a b:443", "a:443\r\nX: y", "a\x00:443", "ä:443", strings.Repeat("a", 600)} {
		if _, _, err := c.Connect(t.Context(), target); !errors.Is(err, ErrTarget) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if s.Decisions() != 0 {
		t.Error("a target was sent")
	}
}

// TestNotSallyport: a response of another proxy is an error that states this.
func TestNotSallyport(t *testing.T) {
	t.Parallel()
	other := proxytest.Serve(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
	})
	c, err := New(Config{Proxies: []string{"http://" + other.Address}, Plaintext: true, Token: static(t, steptest.Token), RetryFor: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Connect(t.Context(), "allowed.test:443"); err == nil || !strings.Contains(err.Error(), "not Sallyport") {
		t.Errorf("error: %v", err)
	}
}

// FuzzAnswer: no response of a proxy makes the client panic, read without a bound, or
// open a tunnel without a 200.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\nbytes"))
	f.Add([]byte("HTTP/1.1 403 Sallyport policy_denied\r\nSallyport-Reason: policy_denied\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 503 x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 407 x\r\nTransfer-Encoding: chunked\r\nSallyport-Reason: x\r\n\r\nfffffffff\r\n"))
	parsed, _ := token.Parse(steptest.Token)
	c, err := New(Config{Proxies: []string{"https://127.0.0.1:1"}, Token: token.Static(parsed), RetryFor: time.Nanosecond, MaxReady: -1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Read(make([]byte, 4096))
			_, _ = theirs.Write(answer)
			_ = theirs.Close()
		}()
		stream, refusal, err := c.ask(t.Context(), &conn{Stream: pipe{ours}, proxy: c.proxies.all[0]}, "a.test:443", parsed)
		if n := btoi(stream != nil) + btoi(refusal != nil) + btoi(err != nil); n != 1 {
			t.Fatalf("%d results: %v %v %v", n, stream, refusal, err)
		}
		if stream != nil && !strings.Contains(string(answer), " 200") {
			t.Fatalf("a tunnel without a 200: %q", answer)
		}
		if refusal != nil && (refusal.Reason == "" || len(refusal.Message) > maxRefusalText) {
			t.Fatalf("refusal %+v", refusal)
		}
		if err != nil && strings.Contains(err.Error(), steptest.Token) {
			t.Fatal("the error contains the token")
		}
		_ = ours.Close()
	})
}

// pipe is a stream in memory. Unlike a socket, [net.Pipe] has no deadline after its other
// end was closed.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error           { return p.Close() }
func (p pipe) SetDeadline(time.Time) error { return nil }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

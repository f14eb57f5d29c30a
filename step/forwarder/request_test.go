package forwarder

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// web is a target that speaks HTTP.
func web(t testing.TB, handler http.HandlerFunc) (host string) {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return "allowed.test:" + port(s.Listener.Addr().String())
}

// TestRequest: several requests on one connection, with contents of known and unknown
// length, reach the target unchanged and without a tool's proxy credential.
func TestRequest(t *testing.T) {
	t.Parallel()
	host := web(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name := range r.Header {
			if strings.HasPrefix(name, "Proxy-") || name == "Te" || name == "Trailer" {
				t.Errorf("the target received %s", name)
			}
		}
		if len(r.Trailer) > 0 {
			t.Errorf("the target received a trailer: %v", r.Trailer)
		}
		w.Header().Set("Trailer", "X-Sum")
		_, _ = fmt.Fprintf(w, "%s %s %s|%s|%s|%s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For"), r.Header.Get("Authorization"), body)
		w.Header().Set("X-Sum", "7")
	})
	e := start(t, nil)
	c := e.dial(t)
	basic := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("step:old")) + "\r\nProxy-Connection: keep-alive\r\n"
	common := "Host: " + host + "\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer of-the-target\r\n" + basic
	for _, r := range []struct{ method, path, rest, body string }{
		{"GET", "/a%2Fb/%7Bx%7D?q={1}&q=%20;", "\r\n", ""},
		{"POST", "/post", "Content-Length: 4\r\n\r\nbody", "body"},
		{"PUT", "/put", "Transfer-Encoding: chunked\r\nTrailer: X-Check\r\nTE: trailers\r\n\r\n3\r\nabc\r\n0\r\nX-Check: 1\r\n\r\n", "abc"},
		{"POST", "/expect", "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nxyz", "xyz"},
	} {
		c.send(r.method + " http://" + host + r.path + " HTTP/1.1\r\n" + common + r.rest)
		resp, text := c.answer(r.method)
		if resp.StatusCode == http.StatusContinue {
			resp, text = c.answer(r.method)
		}
		want := fmt.Sprintf("%s %s %s|192.0.2.1|Bearer of-the-target|%s", r.method, host, r.path, r.body)
		if resp.StatusCode != 200 || text != want || resp.Trailer.Get("X-Sum") != "7" {
			t.Errorf("%s: %s\n got %s\nwant %s, trailer %v", r.path, resp.Status, text, want, resp.Trailer)
		}
	}
	if r := e.Report(); r.Allowed != 4 || len(r.Targets) != 1 || r.Targets[0].Name != host {
		t.Errorf("report %+v", r)
	}
}

// TestFlush: each part of a response reaches the tool before the next is sent.
func TestFlush(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	host := web(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-more
		_, _ = io.WriteString(w, "two")
	})
	c := start(t, nil).dial(t).send("GET http://" + host + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "one" {
		t.Fatalf("read %q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two" {
		t.Fatalf("read %q, %v", rest, err)
	}
}

// TestHalfClosedRequest: a tool that ends its direction after the request gets the response.
func TestHalfClosedRequest(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	host := web(t, func(w http.ResponseWriter, _ *http.Request) {
		<-ended
		_, _ = io.WriteString(w, "still there")
	})
	e := start(t, nil)
	c := e.dial(t).send("GET http://" + host + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(ended)
	if resp, text := c.answer(http.MethodGet); resp.StatusCode != 200 || text != "still there" {
		t.Errorf("%s %q", resp.Status, text)
	}
}

// TestGoneTool: a request whose tool has gone gives up its place, also if the target never
// responds.
func TestGoneTool(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	host := web(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done() // until Sallyport stops
	})
	e := start(t, func(c *Config, _ *upstreamConfig) { c.HalfClosedTimeout = time.Millisecond })
	c := e.dial(t).send("GET http://" + host + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	_ = c.Close()
	proxytest.Eventually(t, "the place is free", func() bool { return len(e.slots) == 0 })
}

// TestTruncatedResponse: a response that ends early ends early for the tool too.
func TestTruncatedResponse(t *testing.T) {
	t.Parallel()
	host := web(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	c := start(t, nil).dial(t).send("GET http://" + host + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a truncated response looks complete: %q", b)
	}
}

// TestWebSocket: an Upgrade is relayed, and each direction ends separately.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	const key, accept = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // RFC 6455 section 1.3
	target := proxytest.Serve(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+accept+"\r\n\r\n")
		b, _ := io.ReadAll(r)
		_, _ = c.Write(append(b, " and back"...))
	})
	c := start(t, nil).dial(t).send("GET http://allowed.test:" + target.Port + "/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	c.send("there")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := c.rest(); rest != "there and back" {
		t.Errorf("read %q", rest)
	}
}

// TestRequestDenied: a denial is remembered for the method and URL, and printed without the
// query, which may be secret.
func TestRequestDenied(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	for range 2 {
		resp, text := e.dial(t).send("GET http://user:word@denied.test/p?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodGet)
		if resp.StatusCode != 400 {
			t.Errorf("user information: %s %q", resp.Status, text)
		}
	}
	for range 3 {
		resp, text := e.dial(t).send("GET http://denied.test/p?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodGet)
		if resp.Status != "403 Sallyport policy_denied" || resp.Header.Get("Sallyport-Reason") != "policy_denied" || !strings.Contains(text, "(rule no-denied, decision ") {
			t.Fatalf("%s %q", resp.Status, text)
		}
	}
	if n := e.sallyport.Decisions(); n != 1 {
		t.Errorf("Sallyport decided %d times", n)
	}
	_, _ = e.dial(t).send("GET http://denied.test/other HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodGet)
	_, _ = e.dial(t).send("HEAD http://denied.test/p?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n").answer(http.MethodHead)
	if n := e.sallyport.Decisions(); n != 3 {
		t.Errorf("another URL or method was not decided: %d decisions", n)
	}
	e.printed.line(t, "sallyport: denied GET http://denied.test/p: policy_denied: ")
	if printed := e.printed.String(); strings.Contains(printed, "secret") || strings.Contains(printed, "word@") {
		t.Errorf("printed %q", printed)
	}
}

// TestDeniedUpload: a tool that is sending a content receives the refusal, and the content
// is not read to its end.
func TestDeniedUpload(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	for range 2 { // decided, and remembered
		c := e.dial(t).send("POST http://denied.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbegin")
		if resp, _ := c.answer(http.MethodPost); resp.StatusCode != 403 {
			t.Errorf("%s", resp.Status)
		}
		if rest := c.rest(); rest != "" {
			t.Errorf("rest %q", rest)
		}
	}
	head := e.dial(t).send("HEAD http://denied.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, _ := head.answer(http.MethodHead); resp.StatusCode != 403 || head.rest() != "" {
		t.Errorf("%s", resp.Status)
	}
}

// TestBrokenUpload: a tool that breaks off its content is not a refusal.
func TestBrokenUpload(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	host := web(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	e := start(t, nil)
	c := e.dial(t).send("POST http://" + host + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbegin")
	<-begun
	_ = c.SetLinger(0)
	_ = c.Close()
	proxytest.Eventually(t, "the place is free", func() bool { return len(e.slots) == 0 })
	if printed := e.printed.String(); printed != "" {
		t.Errorf("printed %q", printed)
	}
}

// TestMemoryEnds: a denial is asked again after its time.
func TestMemoryEnds(t *testing.T) {
	t.Parallel()
	d := newDenials(15 * time.Second)
	now := time.Unix(0, 0)
	d.now = func() time.Time { return now }
	key := denialKey{"", "a:443"}
	d.remember(key, local(403, "policy_denied", "", ""))
	if now = now.Add(15*time.Second - 1); d.recall(key) == nil {
		t.Error("forgotten early")
	}
	if now = now.Add(1); d.recall(key) != nil {
		t.Error("remembered too long")
	}
	for i := range 2 * maxRemembered {
		d.remember(denialKey{"", fmt.Sprint(i)}, local(403, "policy_denied", "", ""))
	}
	if len(d.known) != maxRemembered {
		t.Errorf("%d denials are remembered", len(d.known))
	}
	if now = now.Add(time.Minute); len(d.known) == 0 {
		t.Error("nothing is known")
	}
	d.remember(key, local(403, "policy_denied", "", ""))
	if len(d.known) != 1 {
		t.Errorf("%d denials are remembered", len(d.known))
	}
}

// TestNotRemembered: what the policy did not decide is asked each time.
func TestNotRemembered(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	for range 2 {
		resp, _ := e.dial(t).send("CONNECT unresolved.test:443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
		if resp.Header.Get("Sallyport-Reason") != "name_unresolved" {
			t.Errorf("%s", resp.Status)
		}
	}
	if n := e.sallyport.Decisions(); n != 2 {
		t.Errorf("Sallyport decided %d times", n)
	}
}

// TestNotForAProxy: requests that are not for a proxy are refused with the remedy, and
// reach no one.
func TestNotForAProxy(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	for _, target := range []string{"/", "*", "https://allowed.test/", "ftp://allowed.test/", "http:///path"} {
		resp, text := e.dial(t).send("OPTIONS " + target + " HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n").answer(http.MethodOptions)
		if resp.StatusCode != 400 || text == "" {
			t.Errorf("%q: %s %q", target, resp.Status, text)
		}
	}
	if e.sallyport.Decisions() != 0 {
		t.Error("a request was sent")
	}
}

// TestPlainHTTPInsideConnect: requests inside a tunnel that has to carry TLS are decided
// by Sallyport one by one (undici).
func TestPlainHTTPInsideConnect(t *testing.T) {
	t.Parallel()
	host := web(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	e := start(t, nil)
	e.sallyport.RequireTLS()
	c := e.dial(t).send("CONNECT " + host + " HTTP/1.1\r\n\r\n")
	if resp, _ := c.answer(http.MethodConnect); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	for range 2 {
		if resp, text := c.send("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n").answer(http.MethodGet); resp.StatusCode != 200 || text != host {
			t.Errorf("%s %q", resp.Status, text)
		}
	}
	if n := e.sallyport.Decisions(); n != 3 {
		t.Errorf("Sallyport decided %d times", n)
	}
}

// TestExpiredToken: the refusal of an expired token is remembered, with the status 403.
func TestExpiredToken(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	e.sallyport.Expire(steptest.Token)
	for range 3 {
		resp, text := e.dial(t).send("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
		if resp.StatusCode != 403 || !strings.Contains(text, "credential_expired") {
			t.Errorf("%s %q", resp.Status, text)
		}
	}
	if r := e.Report(); r.Denied != 1 || r.Repeats != 2 {
		t.Errorf("report %+v", r)
	}
}

// TestBadToken: a 407 becomes 403, without a challenge, and is not remembered.
func TestBadToken(t *testing.T) {
	t.Parallel()
	e := withBadToken(t, nil)
	for _, request := range []string{"CONNECT allowed.test:443 HTTP/1.1\r\n\r\n", "GET http://allowed.test/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		method, _, _ := strings.Cut(request, " ")
		resp, text := e.dial(t).send(request).answer(method)
		if resp.StatusCode != 403 || resp.Header.Get("Proxy-Authenticate") != "" || !strings.Contains(text, "credential_signature") {
			t.Errorf("%s %v %q", resp.Status, resp.Header, text)
		}
	}
	e.printed.line(t, "denied allowed.test:443: credential_signature")
	e.printed.line(t, "denied GET http://allowed.test/: credential_signature")
}

func withBadToken(t *testing.T, change func(*Config)) *env {
	return start(t, func(c *Config, u *upstreamConfig) {
		u.Token = static(t, "a.forged.token")
		if change != nil {
			change(c)
		}
	})
}

// TestFinalIsNeeded: without the change of 407 to 403, the tool is asked for a credential.
func TestFinalIsNeeded(t *testing.T) {
	t.Parallel()
	e := withBadToken(t, func(c *Config) { c.final = func(r *refusal) *refusal { return r } })
	resp, _ := e.dial(t).send("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
	if resp.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("%s: the attack does not succeed", resp.Status)
	}
}

// TestUnreachable: a proxy that cannot be reached is an answer with its address.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	e := startAt(t, s, func(_ *Config, u *upstreamConfig) { u.RetryFor = time.Millisecond })
	s.Stop()
	for _, request := range []string{"CONNECT allowed.test:443 HTTP/1.1\r\n\r\n", "POST http://allowed.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"} {
		method, _, _ := strings.Cut(request, " ")
		resp, text := e.dial(t).send(request).answer(method)
		if resp.StatusCode != http.StatusBadGateway || !strings.Contains(text, "proxy_unreachable") || !strings.Contains(text, strings.TrimPrefix(s.URL, "https://")) {
			t.Errorf("%s %q", resp.Status, text)
		}
	}
}

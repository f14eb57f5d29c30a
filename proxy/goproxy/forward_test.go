package goproxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func respondOK(int, *http.Request) (string, bool) { return ok, false }

func TestForward(t *testing.T) {
	up, s := serve(t, respondOK), start(t, Config{})
	w := s.do(t, nil, "POST", "http://Up.test:"+up.Port+"/%7ea//b|c?x=[1]", http.Header{"X": {"y"}}, "body")
	if w.status != 200 || w.body.String() != "ok" || !w.finished || w.aborted {
		t.Fatalf("%+v", w)
	}
	head := up.seen()[0]
	for _, line := range []string{"POST /~a//b|c?x=[1] HTTP/1.1\r\n", "Host: up.test:" + up.Port + "\r\n", "Content-Length: 4\r\n", "X: y\r\n"} {
		if !strings.Contains(head, line) {
			t.Errorf("%q is missing in %q", line, head)
		}
	}
	for _, name := range []string{"User-Agent", "Accept-Encoding", "Transfer-Encoding", "Proxy-"} {
		if strings.Contains(head, name) {
			t.Errorf("%s is in %q", name, head)
		}
	}
	e := s.last(t)
	if e.BytesSent != int64(len(head)) || e.BytesReceived != int64(len(ok)) || e.CloseReason != "finished" || e.Status != 200 || e.UpstreamStatus != 200 || e.DialedAddress.String() != "127.0.0.1" {
		t.Errorf("%+v", e)
	}
}

// A path that begins with two slashes must not become another host's URL.
func TestPathThatLooksLikeAHost(t *testing.T) {
	up, s := serve(t, respondOK), start(t, Config{})
	s.do(t, nil, "GET", "http://up.test:"+up.Port+"//evil.test/x?y", nil, "")
	if head := up.seen()[0]; !strings.HasPrefix(head, "GET //evil.test/x?y HTTP/1.1\r\nHost: up.test:") {
		t.Errorf("%q", head)
	}
}

// An OPTIONS without a path is sent as OPTIONS * (RFC 9112 section 3.2.4).
func TestOptionsOfTheServer(t *testing.T) {
	up, s := serve(t, respondOK), start(t, Config{})
	s.do(t, nil, "OPTIONS", "http://up.test:"+up.Port, nil, "")
	s.do(t, nil, "OPTIONS", "http://up.test:"+up.Port+"/", nil, "")
	for i, want := range []string{"OPTIONS * HTTP/1.1\r\nHost: up.test:", "OPTIONS / HTTP/1.1\r\nHost: up.test:"} {
		if head := up.seen()[i]; !strings.HasPrefix(head, want) {
			t.Errorf("%q, want %q", head, want)
		}
	}
}

func TestRequestsWithoutABody(t *testing.T) {
	up, s := serve(t, respondOK), start(t, Config{})
	for _, method := range []string{"GET", "DELETE", "OPTIONS", "POST", "PUT", "BREW"} {
		s.do(t, nil, method, "http://up.test:"+up.Port+"/", http.Header{"Idempotency-Key": {"1"}}, "")
	}
	for _, head := range up.seen() {
		if strings.Contains(head, "chunked") {
			t.Errorf("%q", head)
		}
	}
}

// Connections are kept for the same credential, target and addresses, and not shared
// otherwise.
func TestKeptConnections(t *testing.T) {
	up, s := serve(t, respondOK), start(t, Config{})
	for range 3 {
		s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
		if e := s.last(t); e.DialedAddress.String() != "127.0.0.1" {
			t.Errorf("the end of a request names the address %s", e.DialedAddress)
		}
	}
	if n := up.Accepted(); n != 1 {
		t.Fatalf("three requests of one step took %d connections", n)
	}
	s.as(t, "two", nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
	if n := up.Accepted(); n != 2 {
		t.Errorf("another step was given a used connection")
	}
	s.do(t, nil, "GET", "http://other.test:"+up.Port+"/", nil, "")
	if n := up.Accepted(); n != 3 {
		t.Errorf("another name was given a used connection")
	}
}

func TestPoolKeyHasTheAddresses(t *testing.T) {
	s := start(t, Config{})
	a, b := s.admit(t, "one", "http://another.test/"), s.admit(t, "one", "http://another.test/")
	if poolKey(a) != poolKey(b) {
		t.Error("the same request has two keys")
	}
	b.Addresses = b.Addresses[:1]
	if poolKey(a) == poolKey(b) {
		t.Error("other addresses have the same key")
	}
	a.Close(proxy.Outcome{})
	b.Close(proxy.Outcome{})
}

// hangsUp answers the first request on a connection and closes it on the second,
// without an answer.
func hangsUp(n int, r *http.Request) (string, bool) {
	if n == 1 && r.Method == http.MethodHead {
		return strings.TrimSuffix(ok, "ok"), false
	}
	if n == 1 {
		return ok, false
	}
	return "", true
}

// TestNothingIsSentTwice: a target that takes a request on a kept connection and
// then hangs up has had it: it must not get it again, unless the request is
// idempotent and has no body.
func TestNothingIsSentTwice(t *testing.T) {
	for name, test := range map[string]struct {
		method, body string
		header       http.Header
		fresh        bool // the request takes no kept connection
	}{
		"not idempotent":              {method: "POST"},
		"a method of the target's":    {method: "BREW"},
		"idempotent, with a body":     {method: "PUT", body: "abc"},
		"safe, with a body":           {method: "GET", body: "abc"},
		"a key that the client chose": {method: "POST", header: http.Header{"Idempotency-Key": {"1"}}, fresh: true},
	} {
		up, s := serve(t, hangsUp), start(t, Config{})
		url := "http://up.test:" + up.Port + "/"
		s.do(t, nil, "GET", url, nil, "")
		w := s.do(t, nil, test.method, url, test.header, test.body)
		if test.fresh {
			if w.status != 200 || up.Accepted() != 2 {
				t.Errorf("%s: %+v after %d connections", name, w, up.Accepted())
			}
			continue
		}
		if w.refusal == nil || w.refusal.Status != 502 || w.refusal.Reason != policy.TargetUnreachable {
			t.Errorf("%s: %+v", name, w)
		}
		if n := len(up.seen()); n != 2 {
			t.Errorf("%s: the target has seen %d requests", name, n)
		}
		if e := s.last(t); e.CloseReason != "target_closed" || e.Status != 502 || len(e.Attributes) > 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestIdempotentRequestIsRepeated: an idempotent request without a body is sent
// once more when the target has closed the kept connection, and the log has it.
func TestIdempotentRequestIsRepeated(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE"} {
		up, s := serve(t, hangsUp), start(t, Config{})
		url := "http://up.test:" + up.Port + "/x"
		s.do(t, nil, "GET", url, nil, "")
		first := s.last(t).BytesSent
		w := s.do(t, nil, method, url, nil, "")
		if w.status != 200 || len(up.seen()) != 3 || up.Accepted() != 2 {
			t.Errorf("%s: %+v after %d requests on %d connections", method, w, len(up.seen()), up.Accepted())
		}
		e := s.last(t)
		if e.CloseReason != "finished" || len(e.Attributes) != 1 || e.Attributes[0] != (audit.Attribute{Name: "repeated", Value: "true"}) {
			t.Errorf("%s: %+v", method, e)
		}
		if want := 2 * (first + int64(len(method)-len("GET"))); e.BytesSent < want || e.BytesSent%2 != 0 { // some methods add a Content-Length
			t.Errorf("%s: %d bytes were sent, want at least %d: both count", method, e.BytesSent, want)
		}
	}
	// It is never sent a third time.
	var requests int
	up, s := serve(t, func(n int, _ *http.Request) (string, bool) {
		requests++
		if requests == 1 {
			return ok, false
		}
		return "", true
	}), start(t, Config{})
	url := "http://up.test:" + up.Port + "/x"
	s.do(t, nil, "GET", url, nil, "")
	if w := s.do(t, nil, "GET", url, nil, ""); w.refusal == nil || w.refusal.Status != 502 || len(up.seen()) != 3 {
		t.Errorf("%+v after %d requests", w, len(up.seen()))
	}
	// Part of an answer is an answer.
	up, s = serve(t, func(n int, _ *http.Request) (string, bool) {
		if n == 1 {
			return ok, false
		}
		return "HTTP/1.1 200", true
	}), start(t, Config{})
	url = "http://up.test:" + up.Port + "/x"
	s.do(t, nil, "GET", url, nil, "")
	if w := s.do(t, nil, "GET", url, nil, ""); w.refusal == nil || w.refusal.Status != 502 || len(up.seen()) != 2 {
		t.Errorf("%+v after %d requests", w, len(up.seen()))
	}
}

// The control above is needed: without our body around it, the transport repeats the
// request.
func TestTransportWouldSendTwice(t *testing.T) {
	up := serve(t, func(n int, _ *http.Request) (string, bool) {
		if n == 1 {
			return ok, false
		}
		return "", true
	})
	plain := &http.Transport{}
	defer plain.CloseIdleConnections()
	for range 2 {
		r, _ := http.NewRequest("GET", "http://127.0.0.1:"+up.Port+"/", nil)
		if resp, err := plain.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	if n := len(up.seen()); n != 3 {
		t.Errorf("the target has seen %d requests, and 3 would show the danger", n)
	}
}

func TestHostileAnswers(t *testing.T) {
	for name, test := range map[string]struct{ raw, cause string }{
		"RFC 9112 4 not HTTP":               {"SSH-2.0-OpenSSH\r\n\r\n", "response_invalid"},
		"RFC 9112 5 no colon":               {"HTTP/1.1 200 OK\r\nX\r\n\r\n", "response_invalid"},
		"RFC 9112 5.1 space before colon":   {"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "response_invalid"},
		"RFC 9110 5.5 NUL in a value":       {"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", "response_invalid"},
		"RFC 9110 5.5 CR in a value":        {"HTTP/1.1 200 OK\r\nX: a\rInjected: b\r\nContent-Length: 0\r\n\r\n", "response_invalid"},
		"RFC 9110 5.5 escape in a value":    {"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\nContent-Length: 0\r\n\r\n", "response_invalid"},
		"RFC 9112 6.3 two lengths":          {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "response_invalid"},
		"RFC 9112 6.2 odd length":           {"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "response_invalid"},
		"RFC 9112 6.1 other coding":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "response_invalid"},
		"RFC 9110 15.2.2 nobody asked":      {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "response_invalid"},
		"RFC 9110 15.5.8 another proxy":     {"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n", "response_invalid"},
		"RFC 9110 15 status out of range":   {"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n", "response_invalid"},
		"RFC 9110 15.2 interim without end": {strings.Repeat("HTTP/1.1 103 X\r\n\r\n", 10000), "response_invalid"},
		"RFC 9110 5.4 endless head":         {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", "response_invalid"},
		"RFC 9112 9.5 nothing":              {"", "target_closed"},
	} {
		t.Run(name, func(t *testing.T) {
			up := serve(t, func(int, *http.Request) (string, bool) { return test.raw, true })
			s := start(t, Config{})
			w := s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
			if w.refusal == nil || w.refusal.Status != 502 || w.refusal.DecisionID == "" || w.body.Len() > 0 || w.finished {
				t.Errorf("%+v", w)
			}
			if e := s.last(t); e.CloseReason != test.cause || e.Status != 502 {
				t.Errorf("%+v", e)
			}
			if r := w.refusal; r != nil && (r.Reason == policy.ResponseInvalid) != (test.cause == "response_invalid") {
				t.Errorf("the client is told %s, %s", r.Reason, r.ProxyError())
			}
			if n := len(up.seen()); n != 1 {
				t.Errorf("the target has seen %d requests", n)
			}
		})
	}
}

// What is wrong with the framing alone is put right: it ends here.
func TestFramingIsNotPassedOn(t *testing.T) {
	up := serve(t, func(int, *http.Request) (string, bool) {
		return "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\nUpgrade: x\r\n\r\n2\r\nok\r\n0\r\n\r\n", true
	})
	s := start(t, Config{})
	w := s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
	if w.body.String() != "ok" || !w.finished || w.header.Get("Content-Length") != "" || w.header.Get("Upgrade") != "" {
		t.Errorf("%+v", w)
	}
}

func TestResponseThatIsCutOff(t *testing.T) {
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
	} {
		up := serve(t, func(int, *http.Request) (string, bool) { return raw, true })
		s := start(t, Config{})
		w := s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
		if !w.aborted || w.finished {
			t.Errorf("%q passes for a whole answer: %+v", raw, w)
		}
		if e := s.last(t); e.CloseReason != "target_closed" || e.Status != 200 {
			t.Errorf("%+v", e)
		}
	}
}

// What a target streams arrives as it is sent.
func TestStreaming(t *testing.T) {
	more := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-more
		_, _ = io.WriteString(w, "two")
	}))
	defer up.Close()
	s := start(t, Config{})
	w := &answer{wrote: make(chan string)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.do(t, w, "GET", strings.Replace(up.URL, "127.0.0.1", "up.test", 1), nil, "")
	}()
	if got := <-w.wrote; got != "one" {
		t.Errorf("got %q", got)
	}
	close(more)
	<-w.wrote
	<-done
}

func TestBounds(t *testing.T) {
	slow := serve(t, func(_ int, r *http.Request) (string, bool) {
		if r.URL.Path == "/half" {
			return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", false
		}
		return "", false
	})
	for name, test := range map[string]struct {
		config Config
		limits policy.Limits
		url    string
		body   string
		status int // of the refusal
		cause  string
	}{
		"silent target":      {Config{ResponseTimeout: 50 * time.Millisecond}, policy.Limits{}, slow.Port + "/", "", 504, "target_timeout"},
		"lifetime":           {Config{}, policy.Limits{Lifetime: 50 * time.Millisecond}, slow.Port + "/", "", 504, "lifetime"},
		"configured life":    {Config{MaxLifetime: 50 * time.Millisecond}, policy.Limits{Lifetime: time.Hour}, slow.Port + "/", "", 504, "lifetime"},
		"lifetime in answer": {Config{}, policy.Limits{Lifetime: 50 * time.Millisecond}, slow.Port + "/half", "", 0, "lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.config)
			s.limits = test.limits
			w := s.do(t, nil, "POST", "http://up.test:"+test.url, nil, test.body)
			if test.status == 0 && !w.aborted || test.status != 0 && (w.refusal == nil || w.refusal.Status != test.status) || w.finished {
				t.Errorf("%+v", w)
			}
			if e := s.last(t); e.CloseReason != test.cause {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, nobody, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	s := start(t, Config{})
	w := s.do(t, nil, "GET", "http://up.test:"+nobody+"/", nil, "")
	if w.refusal == nil || w.refusal.Status != 502 || strings.Contains(w.refusal.Detail, "127.") {
		t.Errorf("%+v", w)
	}
	if e := s.last(t); e.CloseReason != "target_unreachable" {
		t.Errorf("%+v", e)
	}
}

func TestClientGone(t *testing.T) {
	up, s := serve(t, respondOK), start(t, Config{})
	w := s.do(t, &answer{broken: true}, "GET", "http://up.test:"+up.Port+"/", nil, "")
	if !w.aborted {
		t.Errorf("%+v", w)
	}
	if e := s.last(t); e.CloseReason != "client_error" {
		t.Errorf("%+v", e)
	}
}

// The environment must not decide where a request goes.
func TestEnvironmentDoesNotMatter(t *testing.T) {
	trap := serve(t, respondOK)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:"+trap.Port)
	}
	up, s := serve(t, respondOK), start(t, Config{})
	s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
	if len(up.seen()) != 1 || trap.Accepted() != 0 {
		t.Errorf("the target saw %d requests, the environment's proxy %d connections", len(up.seen()), trap.Accepted())
	}
	if s.forwarder.library.ConnectDial != nil || s.forwarder.library.Tr.Proxy != nil || s.forwarder.pools.transport(1).Proxy != nil {
		t.Error("something of the environment is left")
	}
}

// Without an admission nothing leaves; and without our handler everything would.
func TestLibraryFailsClosed(t *testing.T) {
	up := serve(t, respondOK)
	ask := func(p *goproxy.ProxyHttpServer, method, target string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, nil).WithContext(context.Background())
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}
	f := New(Config{})
	defer f.Close()
	if w := ask(f.library, "GET", "http://127.0.0.1:"+up.Port+"/"); w.Code != 403 || up.Accepted() != 0 {
		t.Errorf("without an admission: %d", w.Code)
	}
	if w := ask(f.library, "GET", "/"); w.Code != 400 {
		t.Errorf("origin-form: %d", w.Code)
	}
	if _, err := f.library.Tr.DialContext(t.Context(), "tcp", "127.0.0.1:"+up.Port); err == nil {
		t.Error("the library's own transport dials")
	}
	bare := goproxy.NewProxyHttpServer()
	bare.Tr = &http.Transport{DisableKeepAlives: true}
	if w := ask(bare, "GET", "http://127.0.0.1:"+up.Port+"/"); w.Code != 200 {
		t.Errorf("the bare library refuses by itself (%d): this test does not bite", w.Code)
	}
}

func TestConnectIsRejected(t *testing.T) {
	up := serve(t, respondOK)
	f := New(Config{})
	defer f.Close()
	server := httptest.NewServer(f.library)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "CONNECT 127.0.0.1:"+up.Port+" HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	got, _ := io.ReadAll(conn)
	if strings.Contains(string(got), " 200 ") || up.Accepted() != 0 {
		t.Errorf("CONNECT through the library: %q", got)
	}
}

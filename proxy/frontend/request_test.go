package frontend

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/proxy"
)

func blocking(entered, finish chan struct{}) func(proxy.ResponseWriter, *http.Request, *proxy.Admission) {
	return func(w proxy.ResponseWriter, _ *http.Request, _ *proxy.Admission) {
		close(entered)
		<-finish
		w.WriteHeader(http.StatusOK)
	}
}

func TestKeptAliveRequestsAreEachDecided(t *testing.T) {
	s := start(t, nil)
	c := s.dial(t)
	c.send("GET http://One.test:80/a?b HTTP/1.1\r\nHost: ignored.test\r\n" + good + "\r\n")
	if _, body := c.answer("GET"); body != "GET http://one.test/a?b " {
		t.Errorf("got %q", body)
	}
	c.send("POST http://two.test:8080/%7ex HTTP/1.1\r\nHost: two.test\r\nContent-Length: 4\r\n" + good + "\r\nbody")
	if _, body := c.answer("POST"); body != "POST http://two.test:8080/~x body" {
		t.Errorf("got %q", body)
	}
	c.send("POST http://three.test HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n" + good + "\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n")
	if _, body := c.answer("POST"); body != "POST http://three.test/ abcd" {
		t.Errorf("got %q", body)
	}
	// Pipelined: each is decided for itself, and the refused one ends it.
	c.send("GET http://four.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n" +
		"GET http://denied.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n" +
		"GET http://five.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n")
	c.answer("GET")
	if resp, _ := c.answer("GET"); resp.StatusCode != 403 {
		t.Errorf("got %v", resp)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("and then %q", rest)
	}
	want := []string{}
	for range 4 {
		want = append(want, "decision allow", "request_closed finished")
	}
	if diff := cmp.Diff(append(want, "decision deny"), s.kinds()); diff != "" {
		t.Error(diff)
	}
}

func TestCredentialIsAskedForAndNeverForwarded(t *testing.T) {
	s := start(t, func(_ *env, c *Config, _ *ListenerConfig) { c.Headers = []string{"x-kept", "x-nominated"} })
	resp, _ := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: x\r\n\r\n").answer("GET")
	if resp.StatusCode != 407 || !resp.Close {
		t.Fatalf("got %v", resp)
	}
	c := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: evil.test\r\n" + good +
		"Proxy-Connection: keep-alive\r\nProxy-Foo: x\r\nConnection: close, X-Nominated , TE\r\nX-Nominated: 1\r\nTE: trailers\r\n" +
		"Keep-Alive: 5\r\nUpgrade: h2c\r\nTrailer: x\r\nX-Kept: a\r\nx-kept: b\r\nVia: 1.1 other\r\nAuthorization: Bearer own\r\n\r\n")
	if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
		t.Fatalf("got %v", resp)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("and then %q", rest)
	}
	r := s.forward.seen()[0]
	want := http.Header{"X-Kept": {"a", "b"}, "Via": {"1.1 other, 1.1 sallyport-test"}, "Authorization": {"Bearer own"}}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Error(diff)
	}
	if r.Host != "up.test" || r.URL.Host != "up.test" {
		t.Errorf("host %q, URL %v", r.Host, r.URL)
	}
	if diff := cmp.Diff(map[string]string{"x-kept": "a, b"}, s.requests[0].HTTP.Headers); diff != "" {
		t.Errorf("policy saw: %s", diff)
	}
}

func TestHeadersForPolicyHoldNoSecrets(t *testing.T) {
	for _, name := range []string{"authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "a b"} {
		if _, err := New(Config{Gate: new(proxy.Gate), Tracker: new(proxy.Tracker), Forwarder: &echoing{}, Headers: []string{name}}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestResponses(t *testing.T) {
	stream := func(w proxy.ResponseWriter, parts ...string) {
		for _, p := range parts {
			_, _ = io.WriteString(w, p)
		}
	}
	for _, test := range []struct {
		name, method, version string
		handler               func(w proxy.ResponseWriter)
		want                  string // fields, sorted as they come from a map: one field at most
	}{
		{"length", "GET", "1.1", func(w proxy.ResponseWriter) { w.Header().Set("Content-Length", "2"); stream(w, "o", "k") },
			"HTTP/1.1 200 OK|Content-Length: 2||ok"},
		{"chunked", "GET", "1.1", func(w proxy.ResponseWriter) { stream(w, "one", "two") },
			"HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|one|3|two|0||"},
		{"by close for 1.0", "GET", "1.0", func(w proxy.ResponseWriter) { stream(w, "one", "two") },
			"HTTP/1.0 200 OK|Connection: close||onetwo"},
		{"empty", "GET", "1.1", func(w proxy.ResponseWriter) { w.WriteHeader(404) },
			"HTTP/1.1 404 Not Found|Transfer-Encoding: chunked||0||"},
		{"head", "HEAD", "1.1", func(w proxy.ResponseWriter) { w.Header().Set("Content-Length", "7"); stream(w, "ignored") },
			"HTTP/1.1 200 OK|Content-Length: 7||"},
		{"204", "GET", "1.1", func(w proxy.ResponseWriter) { w.Header().Set("Content-Length", "7"); w.WriteHeader(204) },
			"HTTP/1.1 204 No Content||"},
		{"304", "GET", "1.1", func(w proxy.ResponseWriter) { w.Header().Set("Content-Length", "7"); w.WriteHeader(304) },
			"HTTP/1.1 304 Not Modified|Content-Length: 7||"},
		{"interim is not final", "GET", "1.1", func(w proxy.ResponseWriter) {
			w.WriteHeader(103)
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(200)
		}, "HTTP/1.1 200 OK|Content-Length: 0||"},
		{"bad length", "GET", "1.1", func(w proxy.ResponseWriter) { w.Header()["Content-Length"] = []string{"3", "4"}; stream(w, "abc") },
			"HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|0||"},
		{"hop by hop", "GET", "1.1", func(w proxy.ResponseWriter) {
			h := w.Header()
			h["Connection"] = []string{"X-Gone, keep-alive"}
			h["X-Gone"], h["Keep-Alive"], h["Upgrade"], h["Proxy-Authenticate"] = []string{"1"}, []string{"1"}, []string{"h2c"}, []string{"Basic"}
			h["Transfer-Encoding"], h["Sallyport-Reason"] = []string{"gzip"}, []string{"forged"}
			h["Proxy-Status"] = []string{"SALLYPORT; error=forged"}
			h["Split"], h["Bad Name"] = []string{"a\r\nb"}, []string{"x"}
			h.Set("Content-Length", "0")
			w.WriteHeader(200)
		}, "HTTP/1.1 200 OK|Content-Length: 0||"},
		{"others' status", "GET", "1.1", func(w proxy.ResponseWriter) {
			w.Header().Set("Proxy-Status", "cdn; error=dns_error")
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(502)
		}, "HTTP/1.1 502 Bad Gateway|Proxy-Status: cdn; error=dns_error|Content-Length: 0||"},
		{"trailer", "GET", "1.1", func(w proxy.ResponseWriter) {
			w.Header().Set("Trailer", "X-Sum, Content-Length, Proxy-Authenticate")
			stream(w, "abc")
			w.Header().Set("X-Sum", "9")
		}, "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Trailer: X-Sum||3|abc|0|X-Sum: 9||"},
		{"trailer with another that was not announced", "GET", "1.1", func(w proxy.ResponseWriter) {
			w.Header().Set("Trailer", "X-Sum")
			stream(w, "abc")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "9") // as goproxy writes both
			w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
		}, "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Trailer: X-Sum||3|abc|0|X-Sum: 9||"},
		{"trailer that was not announced", "GET", "1.1", func(w proxy.ResponseWriter) {
			stream(w, "abc")
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"Sallyport-Reason", "policy_denied")
		}, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|0|Grpc-Status: 0||"},
		{"too long", "GET", "1.1", func(w proxy.ResponseWriter) { w.Header().Set("Content-Length", "2"); stream(w, "o", "kay") },
			"HTTP/1.1 200 OK|Content-Length: 2||o"},
		{"too short", "GET", "1.1", func(w proxy.ResponseWriter) { w.Header().Set("Content-Length", "3"); stream(w, "o") },
			"HTTP/1.1 200 OK|Content-Length: 3||o"},
		{"aborted", "GET", "1.1", func(w proxy.ResponseWriter) { stream(w, "abc"); w.Abort() },
			"HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|"},
		{"refused too late", "GET", "1.1", func(w proxy.ResponseWriter) {
			stream(w, "abc")
			w.Refuse(malformed("x"))
		}, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, nil)
			s.forward.handler = func(w proxy.ResponseWriter, _ *http.Request, _ *proxy.Admission) { test.handler(w) }
			c := s.dial(t).send(test.method + " http://up.test/ HTTP/" + test.version + "\r\nHost: x\r\n" + good + "\r\n")
			_ = c.CloseWrite()
			got := strings.ReplaceAll(c.rest(), "\r\n", "|")
			got = strings.Replace(got, "|Via: 1.1 sallyport-test", "", 1)
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestRefusedByTheForwarder(t *testing.T) {
	s := start(t, nil)
	s.forward.handler = func(w proxy.ResponseWriter, r *http.Request, _ *proxy.Admission) {
		w.Header().Set("X-Left-Over", "1")
		w.WriteHeader(200) // not sent yet
		w.Refuse(malformed("too bad"))
	}
	c := s.dial(t).send("POST http://up.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n" + good + "\r\nabcGET")
	resp, body := c.answer("POST")
	if resp.StatusCode != 400 || resp.Header.Get("X-Left-Over") != "" || !strings.Contains(body, "too bad") || c.rest() != "" {
		t.Errorf("%v %q", resp, body)
	}
}

func TestExpectContinue(t *testing.T) {
	const request = "POST http://up.test/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"
	t.Run("wanted", func(t *testing.T) {
		s := start(t, nil)
		c := s.dial(t).send(request + good + "\r\n")
		if line, _ := c.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q", line)
		}
		_, _ = c.r.ReadString('\n')
		if resp, body := c.send("body").answer("POST"); resp.Close || body != "POST http://up.test/ body" {
			t.Errorf("%v %q", resp, body)
		}
		if got := s.forward.seen()[0].Header.Get("Expect"); got != "100-continue" {
			t.Errorf("Expect goes on as %q", got)
		}
	})
	// The body may come or not: the connection ends.
	t.Run("not wanted", func(t *testing.T) {
		s := start(t, nil)
		s.forward.handler = func(w proxy.ResponseWriter, _ *http.Request, _ *proxy.Admission) { w.WriteHeader(417) }
		c := s.dial(t).send(request + good + "\r\nbodyGET http://up.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n")
		if resp, _ := c.answer("POST"); !resp.Close || resp.StatusCode != 417 || c.rest() != "" {
			t.Errorf("%v", resp)
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := start(t, nil)
		if resp, _ := s.dial(t).send(strings.Replace(request, "up.test", "denied.test", 1) + good + "\r\n").answer("POST"); resp.StatusCode != 403 {
			t.Errorf("%v", resp)
		}
	})
}

// An answer in front of the body's end: the rest is read if it is little, and
// ends the connection if it is much.
func TestUnreadBody(t *testing.T) {
	for size, again := range map[int]bool{1000: true, maxDrain + 1: false} {
		s := start(t, nil)
		s.forward.handler = func(w proxy.ResponseWriter, _ *http.Request, _ *proxy.Admission) { w.WriteHeader(204) }
		c := s.dial(t)
		head := "POST http://up.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(size) + "\r\n" + good + "\r\n"
		go func() {
			_, _ = c.Write(append([]byte(head), bytes.Repeat([]byte("x"), size)...))
			_, _ = io.WriteString(c.Stream, "GET http://up.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+good+"\r\n")
		}()
		c.answer("POST")
		rest, _ := io.ReadAll(c.r)
		if got := len(rest) > 0; got != again {
			t.Errorf("%d bytes: a next answer %v, want %v", size, got, again)
		}
	}
}

func TestTimeouts(t *testing.T) {
	const short = 30 * time.Millisecond
	quick := func(_ *env, c *Config, _ *ListenerConfig) {
		c.HeadTimeout, c.IdleTimeout, c.BodyTimeout = short, short, short
	}
	for name, test := range map[string]struct{ raw, want string }{
		"nothing at all":   {"", ""},
		"half a head":      {"GET http://up.test/ HT", "408 Sallyport head_timeout"},
		"no empty line":    {"GET http://up.test/ HTTP/1.1\r\nHost: x\r\n", "408 Sallyport head_timeout"},
		"an empty line":    {"\r\n", ""},
		"body never comes": {"POST http://up.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n" + good + "\r\n", "408 Sallyport body_timeout"},
		"body stalls":      {"POST http://up.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n" + good + "\r\nabc", "408 Sallyport body_timeout"},
		"chunks stall":     {"POST http://up.test/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + good + "\r\n3\r\nabc\r\n5", "408 Sallyport body_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, quick).dial(t).send(test.raw)
			got := c.rest()
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("between requests", func(t *testing.T) {
		c := start(t, quick).dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n")
		c.answer("GET")
		if got := c.rest(); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

// TestOptionsOfTheServer: an OPTIONS without a path concerns the server as a whole
// (RFC 9112 section 3.2.4), for policy, the log and the target alike.
func TestOptionsOfTheServer(t *testing.T) {
	s := start(t, nil)
	for raw, want := range map[string]string{
		"OPTIONS http://up.test HTTP/1.1":   "*",
		"OPTIONS http://up.test/ HTTP/1.1":  "/",
		"OPTIONS http://up.test?x HTTP/1.1": "/",
		"GET http://up.test HTTP/1.1":       "/",
	} {
		var path string
		s.forward.handler = func(w proxy.ResponseWriter, _ *http.Request, a *proxy.Admission) {
			path, _, _ = strings.Cut(a.Path, "?")
			w.WriteHeader(204)
		}
		s.dial(t).send(raw + "\r\nHost: up.test\r\n" + good + "\r\n").answer("OPTIONS")
		s.mu.Lock()
		asked := s.requests[len(s.requests)-1].HTTP.Path
		s.mu.Unlock()
		if path != want || asked != want {
			t.Errorf("%s: policy reads %q and the target %q, want %q", raw, asked, path, want)
		}
	}
}

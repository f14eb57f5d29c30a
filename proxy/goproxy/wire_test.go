package goproxy_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	library "github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/frontend"
	"github.com/sallyport/sallyport/proxy/goproxy"
)

// open is the configuration of a gate that allows every destination on loopback.
type open struct {
	kinds chan string // of the events, where it is not nil
}

func (*open) Authenticate(_ context.Context, c identity.Credential) (*identity.Principal, error) {
	return &identity.Principal{Step: identity.Run{UUID: "step"}, CredentialDigest: c.Digest()}, nil
}

func (*open) Decide(context.Context, *policy.Request) (policy.Decision, error) {
	return policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Protocol: policy.ProtocolAny, Address: true}, nil
}

func (o *open) Record(_ context.Context, e *audit.Event) error {
	if o.kinds != nil {
		o.kinds <- string(e.Kind)
	}
	return nil
}

func (*open) AvailableTo(audit.Source) error { return nil }

func (*open) Resolve(context.Context, fair.Subject, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// around is what a gate is plugged into.
type around interface {
	proxy.Authenticator
	proxy.Decider
	proxy.Recorder
	proxy.Resolver
}

// serveFront runs the front with this room behind it.
func serveFront(tb testing.TB, o around) (address string) {
	tb.Helper()
	l := proxytest.Listen(tb, "127.0.0.1:0")
	serveOn(tb, l, o)
	return l.Addr().String()
}

func serveOn(tb testing.TB, l net.Listener, o around) {
	tb.Helper()
	gate, err := proxy.NewGate(proxy.Config{Authenticator: o, Decider: o, Recorder: o, Resolver: o,
		Guard: &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		tb.Fatal(err)
	}
	tracker := proxy.NewTracker(proxy.TunnelConfig{})
	if k, ok := o.(*keeping); ok {
		k.tracker = tracker
	}
	forwarder := goproxy.New(goproxy.Config{Tracker: tracker})
	s, err := frontend.New(frontend.Config{Gate: gate, Tracker: tracker, Forwarder: forwarder})
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, frontend.ListenerConfig{Name: "test"}) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-served
		forwarder.Close()
	})
}

// A client of net/http, through the front, to a server of net/http: what goes in
// comes out, each request with two events, all over one connection to the target.
func TestFrontendWithForwarder(t *testing.T) {
	var mu sync.Mutex
	peers := map[string]bool{}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
		for name := range r.Header {
			if strings.HasPrefix(name, "Proxy-") {
				t.Errorf("%s goes upstream", name)
			}
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, r.Method+" ")
		w.(http.Flusher).Flush()
		_, _ = w.Write(body)
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "43") // not announced
	}))
	defer up.Close()
	o := &open{kinds: make(chan string, 100)}
	address := serveFront(t, o)
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address, User: url.UserPassword("step", "token")})}
	defer transport.CloseIdleConnections()
	big := strings.Repeat("0123456789", 100_000)
	for _, body := range []io.Reader{nil, strings.NewReader(""), strings.NewReader("short"), strings.NewReader(big), io.MultiReader(strings.NewReader(big))} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", strings.Replace(up.URL, "127.0.0.1", "up.test", 1)+"/p?q", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.HasPrefix(string(got), "POST ") || len(got) > 5 && len(got) != 10 && len(got) != len(big)+5 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "43" || resp.Header.Get("Via") == "" {
			t.Errorf("trailer %v, fields %v", resp.Trailer, resp.Header)
		}
	}
	// An end may be recorded after the next request's decision, never before its own.
	decisions, ends := 0, 0
	for range 10 {
		if kind := <-o.kinds; kind == "decision" {
			decisions++
		} else if ends++; ends > decisions {
			t.Errorf("an end before its decision")
		}
	}
	if decisions != 5 || ends != 5 {
		t.Errorf("%d decisions and %d ends", decisions, ends)
	}
	if len(peers) != 1 {
		t.Errorf("the target has seen %d connections", len(peers))
	}
}

// A target that answers before it has the whole body: the client gets the answer
// at once, although its body is still under way, and then the connection ends.
func TestResponseBeforeTheBody(t *testing.T) {
	l := proxytest.Listen(t, "127.0.0.1:0")
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	for _, framing := range []string{"Content-Length: 10000000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\nff\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		o := &open{kinds: make(chan string, 10)}
		c, err := net.Dial("tcp", serveFront(t, o))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // less than the front waits for a body
		_, _ = io.WriteString(c, "POST http://"+l.Addr().String()+"/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer t\r\n"+framing)
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 413 ") || !strings.HasSuffix(string(got), "no\n") {
			t.Errorf("%q %v", got, err)
		}
		_ = c.Close()
		if a, b := <-o.kinds, <-o.kinds; a != "decision" || b != "request_closed" {
			t.Errorf("events %s, %s", a, b)
		}
	}
}

// everywhere listens on every address of the loopback network, so that many short
// connections do not run out of ports.
func everywhere(tb testing.TB) (l net.Listener, port string) {
	tb.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		tb.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return l, port
}

// address spreads connections over that network.
func address(n int, port string) string {
	return fmt.Sprintf("127.0.%d.%d:%s", n/200%200, 1+n%200, port)
}

// echoTarget answers each byte with itself.
func echoTarget(tb testing.TB) (port string) {
	l, port := everywhere(tb)
	proxytest.ServeOn(tb, l.(*net.TCPListener), proxytest.Echo)
	return port
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkConnect opens a tunnel, sends a byte both ways and closes it. Client
// and target are in the process too: what a proxy costs is its figure less that
// of direct. ADR 0001 holds a run.
func BenchmarkConnect(b *testing.B) {
	target := echoTarget(b)
	l, ours := everywhere(b)
	serveOn(b, l, &open{})
	bare := library.NewProxyHttpServer()
	bare.ConnectDial = nil
	bare.Tr = &http.Transport{}
	l, theirs := everywhere(b)
	server := &http.Server{Handler: bare}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { _ = server.Close() })
	fields := "Host: x\r\nProxy-Authorization: Basic " +
		base64.StdEncoding.EncodeToString([]byte("step:"+strings.Repeat("t", 1500))) + "\r\n\r\n"
	for _, test := range []struct{ name, port, fields string }{
		{"direct", target, ""},
		{"front", ours, fields},
		{"bare", theirs, fields},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			in := bufio.NewReaderSize(nil, 512)
			n := 0
			before := cpu()
			for b.Loop() {
				n++
				head := ""
				if test.fields != "" {
					head = "CONNECT " + address(n, target) + " HTTP/1.1\r\n" + test.fields
				}
				tunnelOnce(b, address(n, test.port), head, in)
			}
			b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}

func tunnelOnce(b *testing.B, address, head string, in *bufio.Reader) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	in.Reset(c)
	if head != "" {
		_, _ = io.WriteString(c, head)
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
	}
	_, _ = io.WriteString(c, "x")
	if _, err := in.ReadByte(); err != nil {
		b.Fatal(err)
	}
	_ = c.Close()
}

// BenchmarkGet sends requests over a kept connection.
func BenchmarkGet(b *testing.B) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "ok")
	}))
	b.Cleanup(up.Close)
	ours := serveFront(b, &open{})
	bare := library.NewProxyHttpServer()
	bare.ConnectDial = nil
	bare.Tr = &http.Transport{DisableCompression: true}
	b.Cleanup(bare.Tr.CloseIdleConnections)
	server := httptest.NewServer(bare)
	b.Cleanup(server.Close)
	request := "GET " + up.URL + "/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic c3RlcDpnb29k\r\n\r\n"
	for _, test := range []struct{ name, address string }{
		{"direct", up.Listener.Addr().String()},
		{"front", ours},
		{"bare", server.Listener.Addr().String()},
	} {
		b.Run(test.name, func(b *testing.B) {
			c, err := net.Dial("tcp", test.address)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			in := bufio.NewReader(c)
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				_, _ = io.WriteString(c, request)
				resp, err := http.ReadResponse(in, nil)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(resp, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}

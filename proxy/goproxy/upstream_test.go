package goproxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/proxy"
)

// upstream is a proxy that opens tunnels, and keeps the authorities that it was
// asked for.
func upstream(t *testing.T) (via *proxy.UpstreamProxy, asked func() []string) {
	var mu sync.Mutex
	var list []string
	l := proxytest.Listen(t, "127.0.0.1:0")
	proxytest.ServeOn(t, l, func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil || r.Method != http.MethodConnect {
			_, _ = io.WriteString(c, "HTTP/1.1 405 CONNECT only\r\n\r\n")
			return
		}
		mu.Lock()
		list = append(list, r.RequestURI)
		mu.Unlock()
		_, port, _ := net.SplitHostPort(r.RequestURI)
		to, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 502 it is down\r\n\r\n")
			return
		}
		defer to.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, in); _ = to.Close() }()
		_, _ = io.Copy(c, to)
	})
	at := l.Addr().(*net.TCPAddr).AddrPort()
	return &proxy.UpstreamProxy{Host: at.Addr().String(), Port: at.Port()}, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), list...)
	}
}

func startVia(t *testing.T, v *proxy.UpstreamProxy) *env {
	t.Helper()
	s := start(t, Config{})
	var err error
	s.gate, err = proxy.NewGate(proxy.Config{Authenticator: s, Decider: s, Recorder: s, Resolver: s, UpstreamProxies: []*proxy.UpstreamProxy{v},
		Guard: &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestForwardThroughUpstream: a request goes through a tunnel of the upstream proxy to the
// pinned address, on a connection that is kept like any other; or to the name,
// where the upstream looks it up.
func TestForwardThroughUpstream(t *testing.T) {
	for resolve, want := range map[bool]string{false: "127.0.0.1:", true: "up.test:"} {
		up := serve(t, respondOK)
		v, asked := upstream(t)
		v.ResolveUpstream = resolve
		s := startVia(t, v)
		for range 2 {
			w := s.do(t, nil, "GET", "http://up.test:"+up.Port+"/a?b", http.Header{"X": {"y"}}, "")
			if w.status != 200 || w.body.String() != "ok" {
				t.Fatalf("%+v", w)
			}
			if e := s.last(t); e.DialedAddress.IsValid() == resolve {
				t.Errorf("recorded as %+v", e)
			}
		}
		if got := asked(); len(got) != 1 || got[0] != want+up.Port {
			t.Errorf("the upstream was asked for %q", got)
		}
		if head := up.seen()[0]; len(up.seen()) != 2 || head[:16] != "GET /a?b HTTP/1." {
			t.Errorf("the target saw %q", up.seen())
		}
	}
}

// TestForwardThroughUpstreamFails: if the target is down, the upstream responds 502, and
// nothing of that response is forwarded.
func TestForwardThroughUpstreamFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, nobody, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	v, _ := upstream(t)
	s := startVia(t, v)
	w := s.do(t, nil, "GET", "http://up.test:"+nobody+"/", nil, "")
	if w.refusal == nil || w.refusal.Status != 502 || w.refusal.Reason != "target_unreachable" {
		t.Errorf("%+v", w)
	}
}

// Connections by different ways are not shared.
func TestPoolKeyHasTheUpstreamProxy(t *testing.T) {
	v, _ := upstream(t)
	direct, through := start(t, Config{}), startVia(t, v)
	a, b := direct.admit(t, "one", "http://another.test/"), through.admit(t, "one", "http://another.test/")
	if poolKey(a) == poolKey(b) {
		t.Error("another way has the same key")
	}
	a.Close(proxy.Outcome{})
	b.Close(proxy.Outcome{})
}

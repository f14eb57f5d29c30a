package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// upstreamProxy is a small, strict HTTP proxy that knows CONNECT and nothing else.
type upstreamProxy struct {
	*net.TCPListener
	password string // "user:password" that it asks for; "": nothing
	answer   string // sent instead of its own, and the connection closed; "": its own
	silent   bool   // it reads the request and does not respond
	behind   string // sent together with the 200

	mu    sync.Mutex
	asked []string // the authorities
	heads []string
}

// startUpstream starts one; change is called before.
func startUpstream(t testing.TB, secured bool, change func(*upstreamProxy)) (*upstreamProxy, *UpstreamProxy) {
	t.Helper()
	p := &upstreamProxy{TCPListener: proxytest.Listen(t, "127.0.0.1:0")}
	if change != nil {
		change(p)
	}
	v := &UpstreamProxy{Host: "127.0.0.1", Port: addrPort(p.Addr()).Port()}
	certificate, pool := proxytest.Certificate(t, targetName)
	if secured {
		v.TLS = &tls.Config{RootCAs: pool, ServerName: targetName}
	}
	proxytest.ServeOn(t, p.TCPListener, func(conn *net.TCPConn) {
		client := Stream(conn)
		if secured {
			client = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}
		p.serve(client)
	})
	return p, v
}

func (p *upstreamProxy) serve(client Stream) {
	in := bufio.NewReader(client)
	var head strings.Builder
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(io.LimitReader(proxytest.OneByOne{Reader: in}, 8<<10), &head)))
	if err != nil || r.Method != "CONNECT" || r.Host != r.RequestURI || len(r.Header["Proxy-Authorization"]) > 1 {
		_, _ = io.WriteString(client, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	}
	p.mu.Lock()
	p.asked, p.heads = append(p.asked, r.RequestURI), append(p.heads, head.String())
	password := p.password
	p.mu.Unlock()
	switch {
	case p.silent:
		_, _ = io.Copy(io.Discard, in)
		return
	case p.answer != "":
		_, _ = io.WriteString(client, p.answer)
		return
	case password != "" && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(password)):
		_, _ = io.WriteString(client, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"upstream at 10.9.8.7\"\r\n\r\n")
		return
	}
	conn, err := net.Dial("tcp", strings.Replace(r.RequestURI, targetName, "127.0.0.1", 1))
	if err != nil {
		_, _ = io.WriteString(client, "HTTP/1.1 502 cannot reach 10.9.8.7\r\n\r\n")
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\nProxy-Agent: test\r\n\r\n"+p.behind)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(conn, in); _ = conn.(Stream).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(client, conn); _ = client.CloseWrite() })
	both.Wait()
}

func withVia(v ...*UpstreamProxy) tunnelOption {
	return func(r *tunnelEnv) { r.w.config = func(c *Config) { c.UpstreamProxies = v } }
}

// TestUpstreamConnect: a tunnel through an upstream proxy in cleartext and in TLS. The
// proxy gets the pinned address and not the name; what it sends together with the 200,
// and half-closes, pass through.
func TestUpstreamConnect(t *testing.T) {
	for name, secured := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...tunnelOption) {
				p, v := startUpstream(t, secured, func(p *upstreamProxy) { p.behind, p.password = "220 hello\r\n", "user:pass:word" })
				v.Credential = func() (string, error) { return "user:pass:word", nil }
				r := openTunnel(t, append(options, withVia(v))...)
				wantRead(t, r.client, "220 hello\r\n")
				write(t, r.client, []byte("ping"))
				wantRead(t, r.target, "ping")
				_ = r.client.CloseWrite()
				wantEOF(t, r.target)
				write(t, r.target, bytes.Repeat([]byte("pong"), 100_000))
				_ = r.target.CloseWrite()
				if got, err := io.ReadAll(r.client); err != nil || len(got) != 400_000 {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
				r.wantOutcome(CauseFinished, 4, 400_011)
				port := r.admitted.Target.Port
				if want := fmt.Sprintf("127.0.0.1:%d", port); len(p.asked) != 1 || p.asked[0] != want || strings.Contains(p.heads[0], targetName) {
					t.Errorf("it was asked for %q in %q", p.asked, p.heads)
				}
				for i, e := range r.w.events() {
					if e.DialedAddress != netip.MustParseAddr("127.0.0.1") || i == 0 && (e.UpstreamProxy != v.String() || !strings.HasPrefix(e.UpstreamProxy, name+"://127.0.0.1:")) {
						t.Errorf("recorded as %+v", e)
					}
				}
				if strings.Contains(r.w.log.String()+fmt.Sprint(r.w.events()), "pass:word") {
					t.Error("the credential is in the log")
				}
			})
		})
	}
}

// TestUpstreamTunnelIsClosed: an operator's word ends a tunnel through an upstream in TLS too.
func TestUpstreamTunnelIsClosed(t *testing.T) {
	_, v := startUpstream(t, true, nil)
	r := openTunnel(t, withVia(v))
	r.passes()
	r.tracker.Close(CauseOperator, nil)
	r.wantOutcome(CauseOperator, 1, 0)
	wantReset(t, r.client)
}

// TestUpstreamResolves: by explicit choice the name is sent, nothing is looked up here,
// and the events have no address. An IP literal is classified as always.
func TestUpstreamResolves(t *testing.T) {
	p, v := startUpstream(t, false, nil)
	v.ResolveUpstream = true
	r := newTunnelEnv(t, withVia(v)).start()
	r.passes()
	_, _ = r.client.CloseWrite(), r.target.CloseWrite()
	<-r.ended
	if want := r.admitted.Target.String(); p.asked[0] != want || len(r.w.resolved) != 0 {
		t.Errorf("it was asked for %q, and %q was looked up", p.asked, r.w.resolved)
	}
	for i, e := range r.w.events() {
		if e.DialedAddress.IsValid() || e.Addresses != nil || i == 0 && e.UpstreamProxy != v.String() {
			t.Errorf("recorded as %+v", e)
		}
	}
	w := newEnv()
	w.config, w.decision.Address = func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{v} }, true
	if _, refusal := w.gate(t).Admit(t.Context(), attempt("169.254.169.254:80")); refusal == nil || refusal.Reason != policy.AddressProhibited {
		t.Errorf("a metadata address: %+v", refusal)
	}
}

// TestUpstreamAddressesAreClassified: a name that has a private address is refused, also
// if another proxy dials. Without our own lookup the connection would get there, which is
// what the explicit choice means.
func TestUpstreamAddressesAreClassified(t *testing.T) {
	p, v := startUpstream(t, false, nil)
	w := newEnv()
	w.config = func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{v} }
	w.addrs = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	if _, refusal := w.gate(t).Admit(t.Context(), attempt("intranet.example:443")); refusal == nil || refusal.Reason != policy.AddressProhibited {
		t.Errorf("%+v", refusal)
	}
	v.ResolveUpstream = true
	a, refusal := w.gate(t).Admit(t.Context(), attempt("intranet.example:443"))
	if refusal != nil {
		t.Fatalf("%+v", refusal)
	}
	p.answer = "HTTP/1.1 502 x\r\n\r\n"
	_, _ = a.Dial(t.Context())
	if len(p.asked) != 1 || p.asked[0] != "intranet.example:443" {
		t.Errorf("negative control: it was asked for %q", p.asked)
	}
	a.Close(Outcome{})
}

// TestUpstreamRoutes: the first entry that is for a host counts, label by label.
func TestUpstreamRoutes(t *testing.T) {
	patterns := func(list ...string) (all []destination.Pattern) {
		for _, s := range list {
			p, err := destination.ParsePattern(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		return all
	}
	g := &Gate{config: Config{UpstreamProxies: []*UpstreamProxy{
		{Host: "one", Hosts: patterns("*.partner.example", "192.0.2.1"), Except: patterns("direct.partner.example")},
		{Host: "two", Hosts: patterns("partner.example", "*.direct.partner.example")},
		{Host: "rest", Except: patterns("direct.partner.example", "*.internal.example")},
	}}}
	for host, want := range map[string]string{
		"api.partner.example": "one", "a.b.partner.example": "one", "192.0.2.1": "one", "partner.example": "two", "direct.partner.example": "",
		"x.direct.partner.example": "one", "evilpartner.example": "rest", "a.internal.example": "", "internal.example": "rest", "192.0.2.10": "rest",
	} {
		got := ""
		if v := g.upstreamFor(host); v != nil {
			got = v.Host
		}
		if got != want {
			t.Errorf("%s goes by %q, want %q", host, got, want)
		}
	}
}

// TestUpstreamIsNotATarget: a step can name no upstream proxy, by name, by address
// or by another name that leads there, with or without an exception for its
// network, and not while its address is unknown.
func TestUpstreamIsNotATarget(t *testing.T) {
	for name, test := range map[string]struct {
		via    *UpstreamProxy
		target string
		addrs  []netip.Addr
		fails  error
		want   policy.Reason
	}{
		"by name":            {&UpstreamProxy{Host: "proxy.example", Port: 3128}, "proxy.example:3128", nil, nil, policy.AddressProhibited},
		"name sent upstream": {&UpstreamProxy{Host: "proxy.example", Port: 3128, ResolveUpstream: true}, "proxy.example:3128", nil, nil, policy.AddressProhibited},
		"by address":         {&UpstreamProxy{Host: "127.0.0.9", Port: 3128}, "127.0.0.9:3128", nil, nil, policy.AddressProhibited},
		"address upstream":   {&UpstreamProxy{Host: "127.0.0.9", Port: 3128, ResolveUpstream: true}, "127.0.0.9:3128", nil, nil, policy.AddressProhibited},
		"by another name":    {&UpstreamProxy{Host: "127.0.0.9", Port: 3128}, "other.example:3128", []netip.Addr{netip.MustParseAddr("127.0.0.9")}, nil, policy.AddressProhibited},
		"mapped":             {&UpstreamProxy{Host: "127.0.0.9", Port: 3128}, "other.example:3128", []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.9")}, nil, policy.AddressProhibited},
		"another's entry":    {&UpstreamProxy{Host: "127.0.0.9", Port: 3128, Hosts: []destination.Pattern{{}}}, "other.example:3128", []netip.Addr{netip.MustParseAddr("127.0.0.9")}, nil, policy.AddressProhibited},
		"unknown":            {&UpstreamProxy{Host: "proxy.example", Port: 3128, Hosts: []destination.Pattern{{}}}, "127.0.0.9:3128", nil, errors.New("no DNS"), policy.UpstreamUnavailable},
		"another port":       {&UpstreamProxy{Host: "127.0.0.9", Port: 3128, Hosts: []destination.Pattern{{}}}, "127.0.0.9:3129", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newEnv()
			w.guard, w.decision.Address, w.addrs, w.resolveErr = loopback, true, test.addrs, test.fails
			w.config = func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{test.via} }
			a, refusal := w.gate(t).Admit(t.Context(), attempt(test.target))
			if test.want == "" {
				if refusal != nil {
					t.Fatalf("refused: %+v", refusal)
				}
				a.Close(Outcome{})
				return
			}
			if refusal == nil || refusal.Reason != test.want || !refusal.Recorded || strings.Contains(fmt.Sprint(refusal), "127.0.0.9") {
				t.Errorf("%+v", refusal)
			}
		})
	}
}

// TestUpstreamFails: whatever fault an upstream proxy has, the client gets 502 or 504, a
// reason that names the faulty side, and no text of that proxy.
func TestUpstreamFails(t *testing.T) {
	none := proxytest.Listen(t, "127.0.0.1:0")
	_ = none.Close()
	for name, test := range map[string]struct {
		change  func(*upstreamProxy)
		via     func(*UpstreamProxy)
		secured bool
		want    policy.Reason
	}{
		"refuses":          {func(p *upstreamProxy) { p.answer = "HTTP/1.1 403 not 10.9.8.7\r\nX: secret\r\n\r\nsecret" }, nil, false, policy.UpstreamUnavailable},
		"asks who":         {func(p *upstreamProxy) { p.password = "other:one" }, nil, false, policy.UpstreamUnavailable},
		"cannot reach it":  {func(p *upstreamProxy) { p.answer = "HTTP/1.1 502 10.9.8.7\r\n\r\n" }, nil, false, policy.TargetUnreachable},
		"waited in vain":   {func(p *upstreamProxy) { p.answer = "HTTP/1.1 504 10.9.8.7\r\n\r\n" }, nil, false, policy.TargetTimeout},
		"redirects":        {func(p *upstreamProxy) { p.answer = "HTTP/1.1 302 Found\r\nLocation: http://10.9.8.7/\r\n\r\n" }, nil, false, policy.UpstreamUnavailable},
		"interim":          {func(p *upstreamProxy) { p.answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" }, nil, false, policy.UpstreamUnavailable},
		"no HTTP":          {func(p *upstreamProxy) { p.answer = "SSH-2.0-OpenSSH\r\n\r\n" }, nil, false, policy.UpstreamUnavailable},
		"hangs up":         {func(p *upstreamProxy) { p.answer = "HTTP/1.1 200 " }, nil, false, policy.UpstreamUnavailable},
		"endless":          {func(p *upstreamProxy) { p.answer = "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) }, nil, false, policy.UpstreamUnavailable},
		"silent":           {func(p *upstreamProxy) { p.silent = true }, nil, false, policy.UpstreamTimeout},
		"silent in TLS":    {func(p *upstreamProxy) { p.silent = true }, nil, true, policy.UpstreamTimeout},
		"not there":        {nil, func(v *UpstreamProxy) { v.Port = addrPort(none.Addr()).Port() }, false, policy.UpstreamUnavailable},
		"not found":        {nil, func(v *UpstreamProxy) { v.Host = "proxy.example" }, false, policy.UpstreamUnavailable},
		"another's name":   {nil, func(v *UpstreamProxy) { v.TLS.ServerName = "other.example" }, true, policy.UpstreamUnavailable},
		"no credential":    {nil, func(v *UpstreamProxy) { v.Credential = func() (string, error) { return "", errors.New("gone") } }, false, policy.UpstreamUnavailable},
		"split credential": {nil, func(v *UpstreamProxy) { v.Credential = func() (string, error) { return "hush:a\r\nX: y", nil } }, false, policy.UpstreamUnavailable},
		"no password":      {nil, func(v *UpstreamProxy) { v.Credential = func() (string, error) { return "hush", nil } }, false, policy.UpstreamUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, v := startUpstream(t, test.secured, test.change)
			if test.via != nil {
				test.via(v)
			}
			w := newEnv()
			w.dialer.Timeout = 300 * time.Millisecond
			w.config = func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{v} }
			a, refusal := w.gate(t).Admit(t.Context(), attempt(name2))
			if refusal != nil {
				t.Fatal(refusal)
			}
			if v.Host == "proxy.example" {
				w.resolveErr = errors.New("no DNS at 10.9.8.7")
			}
			conn, refusal := a.Dial(t.Context())
			if conn != nil || refusal == nil || refusal.Reason != test.want || refusal.Status != outcomes[test.want].status || refusal.Cause() == CauseInternal || refusal.DecisionID != a.ID {
				t.Fatalf("got %v, %+v", conn, refusal)
			}
			if said := fmt.Sprintf("%+v %s", refusal, refusal.Next(false)); strings.Contains(said, "10.9.8.7") || strings.Contains(said, "secret") || strings.Contains(said, "127.0.0.1") {
				t.Errorf("the client is told %s", said)
			}
			a.Close(Outcome{Cause: refusal.Cause(), Status: refusal.Status})
			if strings.Contains(w.log.String(), "hush") || strings.Contains(w.log.String(), "secret") {
				t.Errorf("the log holds a secret: %s", &w.log)
			}
			if e := w.events()[1]; w.events()[0].UpstreamProxy != v.String() || e.DialedAddress.IsValid() || e.CloseReason != string(refusal.Cause()) {
				t.Errorf("recorded as %+v", e)
			}
		})
	}
}

const name2 = "api.partner.example:443"

// TestUpstreamTriesOtherAddresses: after an address that the upstream cannot reach, the
// next one is tried; after one that it refuses, none is.
func TestUpstreamTriesOtherAddresses(t *testing.T) {
	back := proxytest.Listen(t, "127.0.0.2:0")
	defer back.Close()
	p, v := startUpstream(t, false, nil)
	w := newEnv()
	w.guard, w.config = loopback, func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{v} }
	w.addrs = []netip.Addr{netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.2")}
	to := fmt.Sprintf("api.partner.example:%d", addrPort(back.Addr()).Port())
	a, refusal := w.gate(t).Admit(t.Context(), attempt(to))
	if refusal != nil {
		t.Fatal(refusal)
	}
	conn, refusal := a.Dial(t.Context())
	if refusal != nil || len(p.asked) != 2 || a.Dialed().Addr() != w.addrs[1] {
		t.Fatalf("%+v after %q, dialed %v", refusal, p.asked, a.Dialed())
	}
	_ = conn.Close()
	a.Close(Outcome{})
	p.mu.Lock()
	p.answer, p.asked = "HTTP/1.1 403 no\r\n\r\n", nil
	p.mu.Unlock()
	b, _ := w.gate(t).Admit(t.Context(), attempt(to))
	if _, refusal = b.Dial(t.Context()); refusal == nil || len(p.asked) != 1 {
		t.Errorf("%+v after %q", refusal, p.asked)
	}
	b.Close(Outcome{})
}

// TestUpstreamCredentialRotates: a new credential is used from the next connection on.
func TestUpstreamCredentialRotates(t *testing.T) {
	back := proxytest.Listen(t, "127.0.0.1:0")
	defer back.Close()
	p, v := startUpstream(t, false, func(p *upstreamProxy) { p.password = "user:one" })
	current := "user:one"
	v.Credential = func() (string, error) { return current, nil }
	w := newEnv()
	w.guard, w.config = loopback, func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{v} }
	w.addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	g := w.gate(t)
	dial := func() *Refusal {
		a, refusal := g.Admit(t.Context(), attempt(fmt.Sprintf("api.partner.example:%d", addrPort(back.Addr()).Port())))
		if refusal != nil {
			t.Fatal(refusal)
		}
		defer a.Close(Outcome{})
		conn, refusal := a.Dial(t.Context())
		if conn != nil {
			_ = conn.Close()
		}
		return refusal
	}
	if r := dial(); r != nil {
		t.Fatal(r)
	}
	p.mu.Lock()
	p.password = "user:two"
	p.mu.Unlock()
	if r := dial(); r == nil {
		t.Error("the old credential is taken")
	}
	current = "user:two"
	if r := dial(); r != nil {
		t.Errorf("the new credential: %+v", r)
	}
}

// TestUpstreamIsNotThisInstance: an upstream that is a listener of our own is not dialed.
func TestUpstreamIsNotThisInstance(t *testing.T) {
	p, v := startUpstream(t, false, nil)
	w := newEnv()
	w.guard = &Guard{Own: []netip.AddrPort{addrPort(p.Addr())}}
	w.config = func(c *Config) { c.UpstreamProxies = []*UpstreamProxy{v} }
	a, refusal := w.gate(t).Admit(t.Context(), attempt(name2))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := a.Dial(t.Context()); refusal == nil || refusal.Reason != policy.UpstreamUnavailable || len(p.asked) != 0 {
		t.Errorf("%+v, asked %q", refusal, p.asked)
	}
	a.Close(Outcome{})
}

// TestUpstreamIgnoresEnvironment: no variable adds a proxy or takes one away.
func TestUpstreamIgnoresEnvironment(t *testing.T) {
	trap, _ := startUpstream(t, false, nil)
	for _, n := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(n, "http://"+trap.Addr().String())
	}
	for _, n := range []string{"NO_PROXY", "no_proxy"} {
		t.Setenv(n, "*")
	}
	direct := openTunnel(t)
	direct.passes()
	direct.tracker.Close(CauseOperator, nil)
	direct.outcome()
	p, v := startUpstream(t, false, nil)
	through := openTunnel(t, withVia(v))
	through.passes()
	through.tracker.Close(CauseOperator, nil)
	through.outcome()
	if len(trap.asked) != 0 || len(p.asked) != 1 || direct.w.events()[0].UpstreamProxy != "" {
		t.Errorf("the environment's proxy was asked for %q, the configured one for %q", trap.asked, p.asked)
	}
}

func TestReadConnectAnswer(t *testing.T) {
	for in, want := range map[string]int{
		"HTTP/1.1 200 OK\r\n\r\n": 200,
		"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\nmore": 200,
		"HTTP/1.1 200\r\n\r\n":                        200,
		"HTTP/1.1 204 \r\nContent-Length: 10\r\n\r\n": 204,
		"HTTP/1.1 407 Who\r\nA:\r\nB: \t x\r\n\r\n":   407,
		"HTTP/1.1 200 OK\n\n":                         0,
		"HTTP/1.1 200 OK\r\nX: y\n\r\n\r\n":           0,
		"HTTP/2 200 OK\r\n\r\n":                       0,
		"HTTP/1.2 200 OK\r\n\r\n":                     0,
		"http/1.1 200 OK\r\n\r\n":                     0,
		"HTTP/1.1  200 OK\r\n\r\n":                    0,
		"HTTP/1.1 +20 OK\r\n\r\n":                     0,
		"HTTP/1.1 2000 OK\r\n\r\n":                    0,
		"HTTP/1.1 100 Continue\r\n\r\n":               0,
		"HTTP/1.1 600 x\r\n\r\n":                      0,
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n":         0,
		"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n":       0,
		"HTTP/1.1 200 OK\r\nX : y\r\n\r\n":            0,
		"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n":        0,
		"HTTP/1.1 200 O\rK\r\n\r\n":                   0,
		"\r\nHTTP/1.1 200 OK\r\n\r\n":                 0,
		"HTTP/1.1 200 OK\r\n":                         0,
		"":                                            0,
	} {
		got, err := readConnectAnswer(strings.NewReader(in))
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

// FuzzConnectAnswer: net/http reads what is accepted as the same response, and no byte
// behind its head is consumed.
func FuzzConnectAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbehind"))
	f.Add([]byte("HTTP/1.0 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		status, err := readConnectAnswer(r)
		taken := len(in) - r.Len()
		if taken > maxConnectAnswer {
			t.Fatalf("%d bytes were taken", taken)
		}
		if err != nil {
			if status != 0 {
				t.Fatalf("%d with %v", status, err)
			}
			return
		}
		if end := bytes.Index(in, []byte("\r\n\r\n")) + 4; end != taken {
			t.Fatalf("%d bytes were taken, the head has %d", taken, end)
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: "CONNECT"})
		lower := bytes.ToLower(in[:taken])
		if err != nil && (bytes.Contains(lower, []byte("content-length")) || bytes.Contains(lower, []byte("transfer-encoding"))) {
			return // of no meaning in the answer to a CONNECT
		}
		if err != nil || resp.StatusCode != status {
			t.Fatalf("%q is %d to us and %v, %v to net/http", in[:taken], status, resp, err)
		}
	})
}

package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// upstreamProxy is a small, strict proxy for tunnels.
type upstreamProxy struct {
	*tap
	mu        sync.Mutex
	password  string // "user:password"
	refusal   string // an answer that it gives instead of any other
	requested []string
	tls       *tls.Config // nil: in the clear
}

func newUpstreamProxy(t testing.TB, password string) *upstreamProxy {
	p := &upstreamProxy{password: password}
	p.tap = newTap(t, "127.0.0.1:0", p.serve)
	return p
}

func (p *upstreamProxy) set(password, refusal string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.password, p.refusal = password, refusal
}

// authorities are those of the CONNECT requests since the last call.
func (p *upstreamProxy) authorities() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.requested
	p.requested = nil
	return asked
}

func (p *upstreamProxy) serve(c net.Conn) {
	if p.tls != nil {
		c = tls.Server(c, p.tls)
	}
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.mu.Lock()
	want, refusal := "Basic "+base64.StdEncoding.EncodeToString([]byte(p.password)), p.refusal
	p.requested = append(p.requested, r.RequestURI)
	p.mu.Unlock()
	switch {
	case refusal != "":
		_, _ = io.WriteString(c, refusal)
		return
	case r.Method != http.MethodConnect || r.Host != r.RequestURI || !slices.Equal(r.Header["Proxy-Authorization"], []string{want}):
		_, _ = io.WriteString(c, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"upstream at 10.9.8.7\"\r\n\r\n")
		return
	}
	_, port, _ := net.SplitHostPort(r.RequestURI)
	to, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 nothing at 10.9.8.7\r\n\r\n")
		return
	}
	defer to.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(to, in); _ = to.(*net.TCPConn).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(c, to); _ = c.(interface{ CloseWrite() error }).CloseWrite() })
	both.Wait()
}

// TestUpstreamProxy: the way out through another proxy, with its credential, its
// exceptions and its failures, as a step and an auditor see it.
func TestUpstreamProxy(t *testing.T) {
	t.Parallel()
	const first, second = "egress:hush-hush-one", "egress:hush-hush-two"
	p := newUpstreamProxy(t, first)
	credential := filepath.Join(t.TempDir(), "upstream")
	if err := os.WriteFile(credential, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://" + net.JoinHostPort(p.host, p.port)
	w := newFixture(t, options{egress: fmt.Sprintf(`  upstream_proxies:
    - {proxy: %q, hosts: [raw.partner.example], dns: upstream, credential_file: %q}
    - {proxy: %q, hosts: ["*.partner.example"], except: [files.partner.example], credential_file: %q}
`, url, credential, url, credential)})
	w.addSecret("hush-hush-one")
	w.addSecret("hush-hush-two")
	w.start()

	t.Run("CONNECT", func(t *testing.T) {
		c := w.production()
		if v := w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/")); v.status != "200" {
			t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
		}
		if got := p.authorities(); !slices.Equal(got, []string{fmt.Sprintf("127.0.0.1:%d", w.HTTPSPort)}) {
			t.Errorf("the upstream was asked for %q", got)
		}
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "upstream_proxy": url, "dialed_address": "127.0.0.1"})
	})
	t.Run("absolute form", func(t *testing.T) {
		c := w.anybody()
		if v := w.curl(t, c.proxyURL(w.proxy), w.http("registry.partner.example", "/")); v.status != "200" {
			t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
		}
		if got := p.authorities(); !slices.Equal(got, []string{fmt.Sprintf("127.0.0.1:%d", w.HTTPPort)}) {
			t.Errorf("the upstream was asked for %q", got)
		}
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "upstream_proxy": url, "dialed_address": "127.0.0.1"})
	})
	t.Run("exception", func(t *testing.T) {
		c := w.anybody()
		if v := w.curl(t, c.proxyURL(w.proxy), w.https("files.partner.example", "/")); v.status != "200" {
			t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
		}
		if got := p.authorities(); got != nil {
			t.Errorf("the upstream was asked for %q", got)
		}
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "upstream_proxy": nil, "dialed_address": "127.0.0.1"})
	})
	t.Run("name resolved upstream", func(t *testing.T) {
		target, c, before := echo(t), w.anybody(), w.Queries("raw.partner.example")
		a := w.tunnel(t, c, "raw.partner.example:"+target.port)
		a.echoes(t, "hello")
		_ = a.conn.Close()
		if got := p.authorities(); !slices.Equal(got, []string{"raw.partner.example:" + target.port}) || w.Queries("raw.partner.example") != before {
			t.Errorf("the upstream was asked for %q", got)
		}
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "upstream_proxy": url, "dialed_address": nil, "addresses": nil})
	})
	t.Run("itself as a target", func(t *testing.T) {
		for _, host := range []string{"files.partner.example", "api.partner.example"} {
			a := w.connect(t, w.production(), host+":"+p.port)
			a.refused(t, 403, "address_prohibited")
			if strings.Contains(a.body, p.host) {
				t.Errorf("the client is told %q", a.body)
			}
		}
		if got := p.authorities(); got != nil {
			t.Errorf("the upstream was asked for %q", got)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		for _, test := range []struct {
			answer, reason string
			status         int
		}{
			{"HTTP/1.1 403 not to 10.9.8.7\r\nX-Why: 10.9.8.7\r\n\r\nnot to 10.9.8.7", "upstream_unavailable", 502},
			{"HTTP/1.1 502 nothing at 10.9.8.7\r\n\r\n", "target_unreachable", 502},
			{"HTTP/1.1 504 10.9.8.7 is silent\r\n\r\n", "target_timeout", 504},
			{"SSH-2.0-10.9.8.7\r\n\r\n", "upstream_unavailable", 502},
		} {
			p.set(first, test.answer)
			for _, head := range []func(caller) string{
				func(c caller) string { return connectTo(fmt.Sprintf("api.partner.example:%d", w.HTTPSPort), c.basic()) },
				func(c caller) string {
					return "GET " + w.http("api.partner.example", "/") + " HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + c.basic() + "\r\n\r\n"
				},
			} {
				c := w.production()
				a := sendRaw(t, w.proxy, head(c))
				id := a.refused(t, test.status, test.reason)
				if output := fmt.Sprint(a.body, a.Header); strings.Contains(output, "10.9.8.7") || strings.Contains(output, p.host) {
					t.Errorf("the client is told %s", output)
				}
				check(t, "decision", w.decision(t, c), fields{"decision_id": id, "verdict": "allow", "close_reason": test.reason, "upstream_proxy": url})
			}
		}
		p.authorities()
	})
	t.Run("rotation", func(t *testing.T) {
		p.set(second, "")
		to := fmt.Sprintf("api.partner.example:%d", w.HTTPSPort)
		w.connect(t, w.production(), to).refused(t, 502, "upstream_unavailable")
		if err := os.WriteFile(credential, []byte(second+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.tunnel(t, w.production(), to)
	})
}

// TestUpstreamProxyTLS: through a proxy that speaks TLS, with a certificate of its
// own authority, tunnels, requests and WebSockets go as they do directly.
func TestUpstreamProxyTLS(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	certificate, key, err := w.WriteCertificate(t.TempDir(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	credential := filepath.Join(t.TempDir(), "upstream")
	if err := os.WriteFile(credential, []byte("egress:sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &upstreamProxy{password: "egress:sesame", tls: &tls.Config{Certificates: []tls.Certificate{pair}}}
	p.tap = newTap(t, "127.0.0.1:0", p.serve)
	url := "https://" + net.JoinHostPort(p.host, p.port)
	w.configure(options{egress: fmt.Sprintf("  upstream_proxies:\n    - {proxy: %q, credential_file: %q, ca_file: %q}\n", url, credential, w.CAFile)})
	w.start()

	c := w.production()
	if v := w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/")); v.status != "200" {
		t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "upstream_proxy": url, "dialed_address": "127.0.0.1"})
	if v := w.curl(t, w.anybody().proxyURL(w.proxy), w.http("registry.partner.example", "/")); v.status != "200" {
		t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
	}
	chat, talker := websocketTap(t), w.anybody()
	a := w.webSocket(t, talker, "raw.partner.example:"+chat.port)
	a.echoes(t, "hello")
	a.echoes(t, "again")
	_ = a.conn.Close()
	row := w.decision(t, talker)
	w.both(t, row, fields{"verdict": "allow", "upstream_proxy": url, "upstream_status": 101})
	for _, direction := range []string{"bytes_sent", "bytes_received"} { // the handshake's heads count
		if n, _ := row[direction].(float64); n < 100 || n > 1000 {
			t.Errorf("%s is %v", direction, row[direction])
		}
	}
	if n := len(p.authorities()); n != 3 {
		t.Errorf("it was asked %d times", n)
	}
}

// TestUpstreamProxyControlsAreNeeded: without the rule that no target names an upstream proxy,
// a step reaches it under a name that leads there.
func TestUpstreamProxyControlsAreNeeded(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprintf("taken=%t", taken), func(t *testing.T) {
			t.Parallel()
			p := newUpstreamProxy(t, "user:password")
			o := options{program: mutant(t), egress: fmt.Sprintf("  upstream_proxies:\n    - {proxy: \"http://%s\", hosts: [other.example]}\n", net.JoinHostPort(p.host, p.port))}
			if taken {
				o.env = []string{"SALLYPORT_WITHOUT=upstream"}
			}
			w := newFixture(t, o)
			w.start()
			a := w.connect(t, w.anybody(), "raw.partner.example:"+p.port)
			if reached := a.StatusCode == http.StatusOK; reached != taken {
				t.Errorf("a step reached the upstream proxy: %t", reached)
			}
		})
	}
}

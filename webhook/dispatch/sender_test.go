package dispatch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/webhook"
)

// recorder is an endpoint that keeps what it receives.
type recorder struct {
	mu       sync.Mutex
	requests []received
}

type received struct {
	path   string
	header http.Header
	body   []byte
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, received{req.URL.RequestURI(), req.Header.Clone(), body})
}

func (r *recorder) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

var loopback = &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func senderFor(t testing.TB, url string, change func(*SenderConfig)) *Sender {
	t.Helper()
	dialer := &proxy.GuardedDialer{Guard: loopback, Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}}
	c := SenderConfig{URL: url, Dial: dialer.DialContext, Timeout: time.Minute}
	if change != nil {
		change(&c)
	}
	s, err := NewSender(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// push is a delivery whose stored fields have, beside Bitbucket's, some that must not pass.
func push() webhook.Task {
	body := []byte(`{"push": {"changes": []}}  `)
	secret, err := webhook.NewSecret("of bitbucket")
	if err != nil {
		panic(err)
	}
	h := http.Header{}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "Bitbucket-Webhooks/2.0", "X-Event-Key": "repo:push",
		"X-Hook-UUID": "33333333-0000-4000-8000-000000000004", "X-Request-UUID": "44444444-0000-4000-8000-000000000005",
		"X-Request-Id": "55555555-0000-4000-8000-000000000005", "X-Attempt-Number": "1", "X-Hub-Signature": secret.Sign(body).String(),
	} {
		h.Set(name, value)
	}
	for _, name := range credentials {
		h.Set(name, "smuggled")
	}
	return webhook.Task{ID: 1, Fence: 1, Delivery: "019b0000-0000-7000-8000-000000000001", Attempt: 3, Event: "repo:push", Header: h, Body: body}
}

var credentials = []string{
	"Authorization", "Cookie", "Proxy-Authorization", "Proxy-Connection", "Connection", "Te", "Upgrade", "Forwarded", "X-Forwarded-For",
	"X-Forwarded-User", "X-Real-Ip", "X-Remote-User", "X-Auth-Request-Email", "Sallyport-Delivery", "Host", "Content-Length", "Content-Encoding",
}

func TestSentUnchanged(t *testing.T) {
	var endpoint recorder
	task := push()
	a := senderFor(t, serve(t, &endpoint).URL+"/bitbucket-hook/?token=t0ken", nil).Send(t.Context(), task)
	if a.Outcome() != Delivered || a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	got := endpoint.all()
	if len(got) != 1 || !bytes.Equal(got[0].body, task.Body) || got[0].path != "/bitbucket-hook/?token=t0ken" {
		t.Fatalf("received %+v", got)
	}
	for _, name := range forwardedFields {
		if got[0].header.Get(name) != task.Header.Get(name) {
			t.Errorf("%s = %q, want %q", name, got[0].header.Get(name), task.Header.Get(name))
		}
	}
	signature, err := webhook.ParseSignature(got[0].header.Get("X-Hub-Signature"))
	secret, _ := webhook.NewSecret("of bitbucket")
	if err != nil || !secret.Verify(got[0].body, signature) {
		t.Error("the endpoint cannot verify Bitbucket's signature")
	}
	if id, n := got[0].header.Get("Sallyport-Delivery"), got[0].header.Get("Sallyport-Attempt"); id != task.Delivery || n != "3" {
		t.Errorf("delivery %q, attempt %q", id, n)
	}
	for name, values := range got[0].header {
		if strings.Contains(strings.Join(values, ""), "smuggled") {
			t.Errorf("%s was forwarded: %q", name, values)
		}
	}
}

// TestAllowListIsNeeded shows that the stored fields pass if a request is made from all of
// them: the list is what stops them.
func TestAllowListIsNeeded(t *testing.T) {
	var endpoint recorder
	task := push()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, serve(t, &endpoint).URL, bytes.NewReader(task.Body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = task.Header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if h := endpoint.all()[0].header; h.Get("Authorization") != "smuggled" || h.Get("X-Forwarded-User") != "smuggled" {
		t.Errorf("the attack fails without the control: %v", h)
	}
}

func TestSignedWithTheEndpointsSecret(t *testing.T) {
	var endpoint recorder
	server := serve(t, &endpoint)
	task := push()
	for _, form := range []Form{StandardWebhooks, HubSignature} {
		s := senderFor(t, server.URL, func(c *SenderConfig) { c.Signer = signerOf(t, form, specSecret) })
		if a := s.Send(t.Context(), task); a.Outcome() != Delivered {
			t.Fatalf("%s: %+v", form, a)
		}
	}
	got := endpoint.all()
	if h := got[0].header; h.Get("Webhook-Id") != task.Delivery || !strings.HasPrefix(h.Get("Webhook-Signature"), "v1,") || h.Get("X-Hub-Signature") != task.Header.Get("X-Hub-Signature") {
		t.Errorf("standard webhooks: %v", h)
	}
	signature, err := webhook.ParseSignature(got[1].header.Get("X-Hub-Signature"))
	secret, _ := webhook.NewSecret(specSecret)
	if err != nil || !secret.Verify(got[1].body, signature) {
		t.Errorf("hub signature: %v", got[1].header)
	}
}

// TestNotSentUnsigned has a signer whose secret cannot be read: nothing may leave.
func TestNotSentUnsigned(t *testing.T) {
	var endpoint recorder
	secret := specSecret
	signer, err := NewSigner(StandardWebhooks, func() (string, error) { return secret, nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := senderFor(t, serve(t, &endpoint).URL, func(c *SenderConfig) { c.Signer = signer })
	secret = "gone"
	if a := s.Send(t.Context(), push()); a.Outcome() != Failed || a.Err == nil || strings.Contains(a.Cause(), secret) {
		t.Errorf("%+v", a)
	}
	if n := len(endpoint.all()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var internal recorder
	trap := serve(t, &internal)
	for _, status := range []int{301, 302, 303, 307, 308} {
		redirect := serve(t, http.RedirectHandler(trap.URL+"/steal", status))
		if a := senderFor(t, redirect.URL, nil).Send(t.Context(), push()); a.Outcome() != Failed || a.Status != status {
			t.Errorf("%d: %+v", status, a)
		}
	}
	if got := internal.all(); len(got) != 0 {
		t.Fatalf("the target of a redirect received %d deliveries", len(got))
	}
	// A client as the standard library's follows: the control is needed.
	redirect := serve(t, http.RedirectHandler(trap.URL+"/steal", http.StatusTemporaryRedirect))
	resp, err := http.Post(redirect.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(internal.all()) != 1 {
		t.Error("the attack fails without the control")
	}
}

// TestEndpointAddressIsGuarded has an endpoint on loopback that is not in its allow_networks.
func TestEndpointAddressIsGuarded(t *testing.T) {
	var endpoint recorder
	server := serve(t, &endpoint)
	dialer := &proxy.GuardedDialer{Guard: &proxy.Guard{}}
	s := senderFor(t, server.URL, func(c *SenderConfig) { c.Dial = dialer.DialContext })
	if a := s.Send(t.Context(), push()); a.Err == nil || len(endpoint.all()) != 0 {
		t.Fatalf("%+v", a)
	}
	s = senderFor(t, server.URL, func(c *SenderConfig) { c.Dial = new(net.Dialer).DialContext })
	if a := s.Send(t.Context(), push()); a.Outcome() != Delivered {
		t.Errorf("the attack fails without the control: %+v", a)
	}
}

func TestEnvironmentIsNotUsed(t *testing.T) {
	var trap, endpoint recorder
	proxyServer := serve(t, &trap)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		t.Setenv(name, proxyServer.URL)
	}
	_, port, _ := net.SplitHostPort(serve(t, &endpoint).Listener.Addr().String())
	a := senderFor(t, "http://jenkins.example:"+port, nil).Send(t.Context(), push())
	if a.Outcome() != Delivered || len(trap.all()) != 0 || len(endpoint.all()) != 1 {
		t.Errorf("%+v, the proxy received %d", a, len(trap.all()))
	}
}

func TestTLSIsVerified(t *testing.T) {
	var endpoint recorder
	certificate, pool := proxytest.Certificate(t, "jenkins.example")
	server := httptest.NewUnstartedServer(&endpoint)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, c := range []struct {
		host  string
		roots *x509.CertPool
		want  Outcome
	}{{"jenkins.example", pool, Delivered}, {"other.example", pool, Failed}, {"jenkins.example", nil, Failed}} {
		s := senderFor(t, "https://"+c.host+":"+port+"/", func(config *SenderConfig) { config.RootCAs = c.roots })
		if a := s.Send(t.Context(), push()); a.Outcome() != c.want {
			t.Errorf("%s: %+v", c.host, a)
		}
	}
	if n := len(endpoint.all()); n != 1 {
		t.Errorf("%d deliveries arrived", n)
	}
}

// TestResponsesAreBounded has endpoints that answer without end.
func TestResponsesAreBounded(t *testing.T) {
	var release chan struct{}
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		timeout time.Duration
		want    Outcome
	}{
		{"an endless body", func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil || r.Context().Err() != nil {
					return
				}
			}
		}, time.Minute, Delivered},
		{"a body that stops", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_ = http.NewResponseController(w).Flush()
			<-release
		}, 200 * time.Millisecond, Delivered},
		{"no answer", func(http.ResponseWriter, *http.Request) { <-release }, 200 * time.Millisecond, Failed},
		{"an endless head", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		}, time.Minute, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			release = make(chan struct{})
			defer close(release)
			s := senderFor(t, server.URL, func(config *SenderConfig) { config.Timeout = c.timeout })
			if a := s.Send(t.Context(), push()); a.Outcome() != c.want {
				t.Errorf("%+v", a)
			}
		})
	}
}

// switching returns the address of an endpoint that answers 101 and keeps the connection
// open, and a function that writes a byte to it.
func switching(t *testing.T) (url string, write func()) {
	t.Helper()
	conns := make(chan net.Conn, 1)
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		conns <- conn
	}))
	return server.URL, func() {
		conn := <-conns
		_, _ = conn.Write([]byte("x"))
		_ = conn.Close()
	}
}

// TestSwitchingProtocolsEndsTheAttempt: after 101 an endpoint could hold the attempt, its
// lease and the shutdown of the instance forever.
func TestSwitchingProtocolsEndsTheAttempt(t *testing.T) {
	url, write := switching(t)
	ended := make(chan Attempt, 1)
	go func() { ended <- senderFor(t, url, nil).Send(t.Context(), push()) }()
	select {
	case a := <-ended:
		if a.Status != http.StatusSwitchingProtocols || a.Outcome() != Failed {
			t.Errorf("%+v", a)
		}
	case <-time.After(50 * time.Second):
		t.Error("the attempt has not ended")
	}
	write()
}

// TestSwitchingProtocolsCheckIsNeeded: the end of its context does not end a read of such a
// body.
func TestSwitchingProtocolsCheckIsNeeded(t *testing.T) {
	url, write := switching(t)
	s := senderFor(t, url, nil)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	cancel()
	go write()
	if n, err := resp.Body.Read(make([]byte, 1)); n != 1 {
		t.Errorf("the read has ended with its context: %v", err)
	}
}

func TestOutcomes(t *testing.T) {
	for status, want := range map[int]Outcome{
		0: Failed, 199: Failed, 200: Delivered, 202: Delivered, 204: Delivered, 299: Delivered, 300: Failed, 302: Failed, 400: Rejected,
		401: Failed, 403: Failed, 404: Failed, 408: Failed, 410: Gone, 413: Rejected, 415: Rejected, 422: Rejected, 425: Failed, 429: Failed,
		500: Failed, 501: Failed, 503: Failed, 600: Failed, 999: Failed,
	} {
		if got := (Attempt{Status: status}).Outcome(); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
	if (Attempt{}).Outcome() == Delivered || (Attempt{Status: 200, Err: io.EOF}).Outcome() == Delivered {
		t.Error("an attempt without a response counts as delivered")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "1.5": 0, "99999999999999": 0,
		"Mon, 30 Nov 2026 12:00:09 GMT": 9 * time.Second, "Mon, 30 Nov 2026 11:00:09 GMT": 0, "soon": 0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// TestErrorsHaveNoSecret has URLs with a token at the places where one is found, and
// failures of each kind.
func TestErrorsHaveNoSecret(t *testing.T) {
	const secret = "s3cr3t"
	for _, url := range []string{
		"http://" + secret + ":x@jenkins.example/", "https://jenkins.example/#" + secret, "ftp://jenkins.example/" + secret, "://" + secret,
		"http://jenkins.example:" + secret + "/", "http:///" + secret, "jenkins.example/" + secret, "http:jenkins/" + secret,
	} {
		if _, err := NewSender(SenderConfig{URL: url, Dial: new(net.Dialer).DialContext}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", url, err)
		}
	}
	leaking := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.AddrError{Err: "POST /hook/" + secret + "?token=" + secret, Addr: "x"}
	}
	garbage := proxytest.Serve(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "SSH-2.0 \x1b[31m\r\n")
		_ = c.Close()
	})
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"dial": leaking,
		"garbage": func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", garbage.Address)
		},
	} {
		s := senderFor(t, "http://jenkins.example/hook/"+secret+"?token="+secret, func(c *SenderConfig) { c.Dial = dial })
		a := s.Send(t.Context(), push())
		if cause := a.Cause(); a.Err == nil || strings.Contains(cause, secret) || strings.ContainsRune(cause, '\x1b') || len(cause) > 300 {
			t.Errorf("%s: %q", name, cause)
		}
	}
}

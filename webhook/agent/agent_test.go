package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// TestJenkinsReceivesAPush has a Jenkins that the gateway cannot reach: the agent beside it
// fetches the push, and Jenkins verifies Bitbucket's signature.
func TestJenkinsReceivesAPush(t *testing.T) {
	g, j := newGateway(t), newJenkins(t)
	header, body := pushOf(t, "acme/app")
	delivery := g.store.add("jenkins", "r", header, body)
	startAgent(t, g, g.credentials.add("jenkins"), j.url())
	proxytest.Eventually(t, "Jenkins builds", func() bool { return len(j.all()) == 1 })
	if got := j.all()[0]; got != (build{delivery, "1", "acme/app"}) {
		t.Errorf("%+v", got)
	}
	proxytest.Eventually(t, "the delivery is acknowledged", func() bool {
		state, _ := g.store.state(delivery)
		return state == webhook.TaskDone
	})
}

// TestJenkinsRefusesAForgedPush shows that the stand-in verifies: a push whose body changed on
// the way is not built, and becomes no success.
func TestJenkinsRefusesAForgedPush(t *testing.T) {
	g, j := newGateway(t), newJenkins(t)
	header, body := pushOf(t, "acme/app")
	delivery := g.store.add("jenkins", "r", header, body+" ")
	startAgent(t, g, g.credentials.add("jenkins"), j.url())
	proxytest.Eventually(t, "the agent reports the refusal", func() bool {
		_, cause := g.store.state(delivery)
		return strings.Contains(cause, "403")
	})
	if len(j.all()) != 0 {
		t.Error("Jenkins builds a forged push")
	}
}

// TestLogNamesTheEndpoint: the agent's log has the endpoint as the gateway names it.
func TestLogNamesTheEndpoint(t *testing.T) {
	g := newGateway(t)
	local := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sallyport-Attempt") == "1" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(local.Close)
	header, body := pushOf(t, "acme/app")
	delivery := g.store.add("jenkins", "r", header, body)
	credential := g.credentials.add("jenkins")
	client, err := NewClient(ClientConfig{Server: g.http.URL, Credential: func() (string, error) { return credential, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if name := client.Endpoint(); name != "not known yet" {
		t.Errorf("before the first response: %q", name)
	}
	var log bytes.Buffer // read after Run has ended
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Client: client, To: local.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	}()
	proxytest.Eventually(t, "the delivery is acknowledged", func() bool {
		state, _ := g.store.state(delivery)
		return state == webhook.TaskDone
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, want := range []string{`msg="webhook delivery failed" endpoint=jenkins`, `msg="webhook delivered" endpoint=jenkins`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log.String())
		}
	}
	for _, bad := range []string{"a\x1bb", strings.Repeat("a", 201), ""} {
		client.readEndpoint(http.Header{endpointField: {bad}})
		if client.Endpoint() != "jenkins" {
			t.Errorf("%q is taken over", bad)
		}
	}
}

// TestSignedForTheAgent has an endpoint with a secret of its own: the gateway signs.
func TestSignedForTheAgent(t *testing.T) {
	signer, err := dispatch.NewSigner(dispatch.StandardWebhooks, func() (string, error) { return "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, Endpoint{Name: "jenkins", Signer: signer})
	var seen atomic.Pointer[http.Header]
	local := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		seen.Store(&h)
	}))
	t.Cleanup(local.Close)
	header, body := pushOf(t, "acme/app")
	header.Set("Authorization", "Basic smuggled")
	delivery := g.store.add("jenkins", "r", header, body)
	startAgent(t, g, g.credentials.add("jenkins"), local.URL)
	proxytest.Eventually(t, "the delivery arrives", func() bool { return seen.Load() != nil })
	h := *seen.Load()
	if h.Get("Webhook-Id") != delivery || !strings.HasPrefix(h.Get("Webhook-Signature"), "v1,") || h.Get("X-Hub-Signature") == "" || h.Get("Authorization") != "" {
		t.Errorf("%v", h)
	}
}

// TestAcknowledgedOnlyAfterSuccess has a Jenkins that fails, then one that works.
func TestAcknowledgedOnlyAfterSuccess(t *testing.T) {
	g, j := newGateway(t), newJenkins(t)
	j.set(http.StatusServiceUnavailable, nil)
	header, body := pushOf(t, "acme/app")
	delivery := g.store.add("jenkins", "r", header, body)
	startAgent(t, g, g.credentials.add("jenkins"), j.url())
	proxytest.Eventually(t, "the failure is reported", func() bool {
		_, cause := g.store.state(delivery)
		return strings.Contains(cause, "503")
	})
	if state, _ := g.store.state(delivery); state == webhook.TaskDone || len(j.all()) != 0 {
		t.Fatalf("a failed delivery is %s", state)
	}
	j.set(0, nil)
	proxytest.Eventually(t, "the repeat arrives", func() bool { return len(j.all()) == 1 })
	if got := j.all()[0]; got.delivery != delivery || got.attempt == "1" {
		t.Errorf("%+v", got)
	}
}

// TestAgentsShareInOrder has three agents of one endpoint that are stopped and started
// while a backlog of a day is delivered.
func TestAgentsShareInOrder(t *testing.T) {
	// A response may be lost with its agent: its leases have to expire.
	g, j := newGatewayWithLease(t, 2*time.Second), newJenkins(t)
	accepted := map[string][]string{}
	for i := range 120 {
		repository := fmt.Sprintf("acme/r%d", i%6)
		header, body := pushOf(t, repository)
		accepted[repository] = append(accepted[repository], g.store.add("jenkins", repository, header, body))
	}
	shared := g.credentials.add("jenkins")
	stops := make([]func(), 3)
	for i := range stops {
		stops[i] = startAgent(t, g, shared, j.url())
	}
	for i := range 10 {
		proxytest.Eventually(t, "deliveries arrive", func() bool { return len(j.all()) > 10*i })
		stops[i%3]()
		stops[i%3] = startAgent(t, g, shared, j.url())
	}
	all := func() (n int) {
		g.store.mu.Lock()
		defer g.store.mu.Unlock()
		for _, r := range g.store.rows {
			if r.state == webhook.TaskDone {
				n++
			}
		}
		return n
	}
	proxytest.Eventually(t, "all deliveries are done", func() bool { return all() == 120 })
	first, seen := map[string][]string{}, map[string]bool{}
	for _, b := range j.all() {
		if !seen[b.delivery] {
			seen[b.delivery] = true
			first[b.repository] = append(first[b.repository], b.delivery)
		}
	}
	for repository, list := range accepted {
		if fmt.Sprint(first[repository]) != fmt.Sprint(list) {
			t.Errorf("%s: %v, accepted %v", repository, first[repository], list)
		}
	}
}

// TestKilledAgent has an agent that ends while Jenkins works: another agent repeats the
// delivery with the same id.
func TestKilledAgent(t *testing.T) {
	g, j := newGateway(t), newJenkins(t)
	hold := make(chan struct{})
	j.set(0, hold)
	header, body := pushOf(t, "acme/app")
	delivery := g.store.add("jenkins", "r", header, body)
	stop := startAgent(t, g, g.credentials.add("jenkins"), j.url())
	proxytest.Eventually(t, "the delivery is leased", func() bool {
		state, _ := g.store.state(delivery)
		return state == webhook.TaskLeased
	})
	stop()
	g.store.expire()
	j.set(0, nil)
	close(hold)
	startAgent(t, g, g.credentials.add("jenkins"), j.url())
	proxytest.Eventually(t, "the delivery is done", func() bool {
		state, _ := g.store.state(delivery)
		return state == webhook.TaskDone
	})
	for _, b := range j.all() {
		if b.delivery != delivery {
			t.Errorf("%+v", b)
		}
	}
}

// TestRevokedWhileDelivering: an agent whose credential is revoked gives up its delivery
// instead of repeating the acknowledgement.
func TestRevokedWhileDelivering(t *testing.T) {
	g := newGateway(t)
	header, body := pushOf(t, "acme/app")
	delivery := g.store.add("jenkins", "r", header, body)
	credential := g.credentials.add("jenkins")
	client, err := NewClient(ClientConfig{Server: g.http.URL, Credential: func() (string, error) { return credential, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tasks, err := client.Claim(t.Context(), "local", 1, 0)
	if err != nil || len(tasks) != 1 {
		t.Fatal(tasks, err)
	}
	g.credentials.revoke(credential)
	if err := client.Done(t.Context(), tasks[0], webhook.TaskResult{Status: 200}); !errors.Is(err, webhook.ErrLeaseLost) {
		t.Errorf("the acknowledgement of a revoked agent: %v", err)
	}
	if state, _ := g.store.state(delivery); state != webhook.TaskLeased {
		t.Errorf("state %s", state)
	}
}

// TestGatewayCannotChooseTheTarget has a hostile gateway: whatever it sends, requests go to
// the agent's own URL only, with header fields of the list only, and the credential to no
// other server.
func TestGatewayCannotChooseTheTarget(t *testing.T) {
	var trapped atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { trapped.Add(1) }))
	t.Cleanup(trap.Close)
	var local atomic.Pointer[http.Header]
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("Path", r.URL.String()+" "+r.Method)
		local.Store(&h)
		http.Redirect(w, r, trap.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(target.Close)
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != Prefix+"claim" {
			http.Redirect(w, r, trap.URL, http.StatusTemporaryRedirect)
			return
		}
		if local.Load() != nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"tasks": []any{map[string]any{
			"lease": "x", "delivery": "019b0000-0000-7000-8000-000000000001", "attempt": 1, "body": []byte("{}"), "url": trap.URL, "to": trap.URL,
			"header": http.Header{"Host": {"trap"}, "Authorization": {"Basic x"}, "X-Forwarded-For": {"10.0.0.1"}, "X-Event-Key": {"repo:push"}, "Content-Length": {"9"}, "X-Hook-Uuid": {"a", "b"}},
		}}})
	}))
	t.Cleanup(hostile.Close)
	credential, _ := NewCredential("jenkins")
	startAgent(t, &gateway{http: hostile}, credential, target.URL+"/own?token=t")
	proxytest.Eventually(t, "the local URL is called", func() bool { return local.Load() != nil })
	h := *local.Load()
	if h.Get("Path") != "/own?token=t POST" || h.Get("Authorization") != "" || h.Get("X-Forwarded-For") != "" || h.Get("X-Hook-Uuid") != "" || h.Get("X-Event-Key") != "repo:push" {
		t.Errorf("%v", h)
	}
	if n := trapped.Load(); n != 0 {
		t.Errorf("%d requests elsewhere", n)
	}
}

func TestClientRefuses(t *testing.T) {
	credential := func() (string, error) { return "", nil }
	for _, server := range []string{
		"", "hooks.example", "http://hooks.example", "ftp://hooks.example", "https://", "https://user:secret@hooks.example", "https://hooks.example/path", "https://hooks.example/?q", "://",
	} {
		if _, err := NewClient(ClientConfig{Server: server, Credential: credential}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", server, err)
		}
	}
	for _, server := range []string{"https://hooks.example:8443", "https://hooks.example/", "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:1"} {
		if _, err := NewClient(ClientConfig{Server: server, Credential: credential}); err != nil {
			t.Errorf("%q: %v", server, err)
		}
	}
	if err := Run(t.Context(), Config{To: "http://user:secret@127.0.0.1/"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a local URL with user information: %v", err)
	}
}

// TestSwitchingProtocolsIsAnError: the body of such a response has no end, and the agent
// could not be stopped.
func TestSwitchingProtocolsIsAnError(t *testing.T) {
	credential, _ := NewCredential("jenkins")
	client, err := NewClient(ClientConfig{Server: proxytest.Switching(t), Credential: func() (string, error) { return credential, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Claim(t.Context(), "", 1, 0); err == nil || !strings.Contains(err.Error(), "status 101") {
		t.Error(err)
	}
}

// TestClientErrorsHaveNoCredential has a file with another content than a credential, and a
// gateway that returns the credential.
func TestClientErrorsHaveNoCredential(t *testing.T) {
	credential, _ := NewCredential("jenkins")
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("no\x1b[31m"))
	}))
	t.Cleanup(mirror.Close)
	for _, text := range []string{credential, credential + "\n", "my password"} {
		client, err := NewClient(ClientConfig{Server: mirror.URL, Credential: func() (string, error) { return text, nil }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Claim(t.Context(), "", 1, 0)
		if err == nil || strings.Contains(err.Error(), strings.TrimSpace(text)) || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%v", err)
		}
		client.Close()
	}
}

// FuzzTasks reads what a gateway responds.
func FuzzTasks(f *testing.F) {
	f.Add([]byte(`{"lease_seconds":60,"tasks":[{"lease":"x","delivery":"019b0000-0000-7000-8000-000000000001","attempt":1,"received":"2026-11-30T12:00:00Z","header":{"X-Event-Key":["repo:push"]},"body":"e30="}]}`))
	f.Add([]byte(`{"tasks":[{}]}`))
	f.Add([]byte(`{"tasks":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tasks, err := readTasks(text)
		if err != nil {
			return
		}
		for _, x := range tasks {
			if x.Lease == "" || x.Attempt < 1 || len(x.Delivery) != 36 || x.Body == nil {
				t.Errorf("accepted %+v", x)
			}
		}
	})
}

// TestConnectionErrorsHaveARemedy: the error of a gateway that cannot be reached names the flag
// to correct.
func TestConnectionErrorsHaveARemedy(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	credential, _ := NewCredential("jenkins")
	for server, want := range map[string]string{
		secure.URL: "with --ca-file",
		closed.URL: "compare --server",
		strings.Replace(secure.URL, "https:", "http:", 1): "write https:// in --server",
	} {
		client, err := NewClient(ClientConfig{Server: server, Credential: func() (string, error) { return credential, nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		if _, err := client.Claim(t.Context(), "local", 1, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", server, err, want)
		}
	}
}

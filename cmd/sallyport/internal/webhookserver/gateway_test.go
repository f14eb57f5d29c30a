package webhookserver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

const (
	testSecret = "0123456789abcdef-swordfish"
	pushBody   = `{"actor":{},"repository":{"full_name":"acme/egress-policy","uuid":"{22222222-0000-4000-8000-000000000002}"},` +
		`"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"old":null}]}}`
)

// gatewayEnv is a gateway on a plain loopback listener, with a queue and a log in memory.
type gatewayEnv struct {
	*Gateway
	address   string
	directory string
	log       bytes.Buffer

	mu        sync.Mutex
	decisions []webhook.Decision
	events    []*audit.Event
	queueErr  error
	waiting   chan struct{} // Accept waits for it; nil: not
	entered   chan struct{}
	policy    func() (webhook.Decision, error)
}

func (e *gatewayEnv) Accept(_ context.Context, _ *webhook.Delivery, d webhook.Decision) (webhook.Outcome, error) {
	if e.waiting != nil {
		e.entered <- struct{}{}
		<-e.waiting
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.queueErr != nil {
		return 0, e.queueErr
	}
	e.decisions = append(e.decisions, d)
	return webhook.Accepted, nil
}

func (e *gatewayEnv) record(_ context.Context, event *audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, event)
	return nil
}

func (e *gatewayEnv) DecideDelivery(context.Context, *webhook.Delivery) (webhook.Decision, error) {
	if e.policy != nil {
		return e.policy()
	}
	return webhook.Decision{Reason: policy.PolicyError, Input: []byte(`{"receiver":"policy"}`), Revision: policy.Revision{Digest: "sha256:1"}}, webhook.ErrNoRules
}

func newGatewayEnv(t *testing.T, change func(*config.Webhooks, *Config)) *gatewayEnv {
	t.Helper()
	e := &gatewayEnv{directory: t.TempDir()}
	e.write(t, "secret", testSecret)
	e.write(t, "previous", "previous-"+testSecret)
	file := filepath.Join(e.directory, "sallyport.yaml")
	cfg, err := config.Parse(file, []byte(`listeners: [{address: "127.0.0.1:3128"}]
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: 922e118c-f34f-4226-a897-0e0afbec553d
      issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
      audiences: [https://egress.acme.example]
policy: {git: {url: "https://bitbucket.org/acme/egress-policy.git"}}
audit: {embedded: true}
webhooks:
  listener: {address: "127.0.0.1:8443"}
  receivers:
    - {name: policy, path: /hooks/policy, kind: cloud, secret_file: secret, previous_secret_file: previous, repositories: [acme/egress-policy], actions: [refresh_policy], forward_to: [ci]}
    - {name: server, path: /hooks/server, kind: data_center, secret_file: secret}
    - {name: atlassian, path: /hooks/atlassian, kind: cloud, secret_file: secret, networks_from: atlassian}
    - {name: local, path: /hooks/local, kind: cloud, secret_file: secret, networks: [192.0.2.0/24]}
  endpoints:
    - {name: ci, agent: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Webhooks: cfg.Webhooks, Policy: e, AffectsPolicy: AffectsPolicy(&cfg.Policy), Queue: e, Record: e.record,
		FetchNetworks: func(context.Context, string) ([]byte, error) { return nil, errors.New("unavailable") },
		Log:           slog.New(slog.NewTextHandler(&e.log, nil)),
	}
	if change != nil {
		change(cfg.Webhooks, &c)
	}
	if e.Gateway, err = New(c); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = e.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return e
}

func (e *gatewayEnv) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.directory, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// deliver sends a signed push and returns the status and the text of the response.
func (e *gatewayEnv) deliver(t *testing.T, path, secret string) (int, string) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(pushBody))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.address+path, strings.NewReader(pushBody))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Event-Key", "repo:push")
	req.Header.Set(webhook.SignatureHeader, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

var errNoPolicy = errors.New("no policy is active")

// TestDeliveries: a delivery reaches the queue with the decision of the policy, or of the
// configuration where the policy has no rules about deliveries.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	allowed := webhook.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "r", Routes: []webhook.Route{{Action: webhook.RefreshNames, Rule: "r"}}}
	for name, c := range map[string]struct {
		policy func() (webhook.Decision, error)
		want   string
	}{
		"by the configuration": {nil, `allow webhook_configured [{refresh_policy  } {forward ci }]`},
		"by the policy":        {func() (webhook.Decision, error) { return allowed, nil }, `allow policy_allowed [{refresh_names  r}]`},
		"denied by the policy": {func() (webhook.Decision, error) { return webhook.Decision{Reason: policy.NoRuleMatched}, nil }, `deny no_rule_matched []`},
		"without an active policy": {func() (webhook.Decision, error) {
			return webhook.Decision{Reason: policy.PolicyError}, errNoPolicy
		}, `deny policy_error []`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newGatewayEnv(t, nil)
			e.policy = c.policy
			if status, text := e.deliver(t, "/hooks/policy", testSecret); status != http.StatusOK || len(e.decisions) != 1 {
				t.Fatalf("answered %d %q, %d decisions", status, text, len(e.decisions))
			}
			d := e.decisions[0]
			if got := fmt.Sprint(d.Verdict, " ", d.Reason, " ", d.Routes); got != c.want {
				t.Errorf("decided %s, want %s", got, c.want)
			}
			if c.policy == nil && (string(d.Input) != `{"receiver":"policy"}` || d.Revision.Digest != "sha256:1") {
				t.Errorf("the decision has no input or revision: %+v", d)
			}
			if e.Deliveries("policy", "accepted")+e.Deliveries("policy", "denied") != 1 {
				t.Error("the delivery is not counted")
			}
		})
	}
}

// TestReceiverSettings: each receiver has its own kind, networks and secrets, and a path
// without a receiver is not found.
func TestReceiverSettings(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	for _, c := range []struct {
		path, secret string
		status       int
	}{
		{"/hooks/policy", testSecret, 200},
		{"/hooks/policy", "previous-" + testSecret, 200},
		{"/hooks/policy", "another-" + testSecret, 401},
		{"/hooks/server", "previous-" + testSecret, 401},
		{"/hooks/server", testSecret, 400}, // an event of the other product
		{"/hooks/local", testSecret, 403},
		{"/hooks/atlassian", testSecret, 403}, // the list was never fetched
		{"/hooks/other", testSecret, 404},
		{"/agent/v1/x", testSecret, 404},
	} {
		if status, text := e.deliver(t, c.path, c.secret); status != c.status {
			t.Errorf("%s with %s: answered %d %q, want %d", c.path, c.secret, status, text, c.status)
		}
	}
	if n := e.Unverified("policy", webhook.SignatureProblem); n != 1 {
		t.Errorf("%d signature problems are counted", n)
	}
	e.Flush(t.Context())
	if len(e.events) != 1 || e.events[0].Kind != audit.KindUnrecordedTotals || !strings.Contains(fmt.Sprint(e.events[0].Attributes), "{webhook_signature_invalid 2}") || !strings.Contains(fmt.Sprint(e.events[0].Attributes), "policy from 127.0.0.0/24") {
		t.Errorf("recorded %+v", e.events)
	}
}

// TestVerifiedDeliveryIsNotEvicted: at the total limit of connections, a new one does not end
// that of a verified delivery.
func TestVerifiedDeliveryIsNotEvicted(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, func(w *config.Webhooks, _ *Config) { w.Listener.MaxConnections = 1 })
	e.waiting, e.entered = make(chan struct{}), make(chan struct{}, 1)
	status := make(chan int, 1)
	go func() {
		code, _ := e.deliver(t, "/hooks/policy", testSecret)
		status <- code
	}()
	<-e.entered
	conn, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if text, _ := io.ReadAll(conn); len(text) > 0 {
		t.Errorf("a new connection is served: %.100q", text)
	}
	close(e.waiting)
	if code := <-status; code != http.StatusOK {
		t.Errorf("the delivery is answered %d", code)
	}
}

// TestUnavailable: 503 while the queue fails, and the delivery is counted so.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	e.queueErr = errors.New("the database is unavailable")
	if status, text := e.deliver(t, "/hooks/policy", testSecret); status != 503 || strings.Contains(text, "database") {
		t.Errorf("answered %d %q", status, text)
	}
	if e.Deliveries("policy", "unavailable") != 1 {
		t.Error("the delivery is not counted")
	}
}

// TestSecretIsRotated: a new secret is used without a restart, an empty file leaves the
// last good one in force, and /readyz reports it.
func TestSecretIsRotated(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	if e.SecretErr("server") != nil {
		t.Fatal(e.SecretErr("server"))
	}
	e.write(t, "secret", "rotated-"+testSecret)
	rotated, err := webhook.NewSecret("rotated-" + testSecret)
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "the new secret is not used", func() bool { return e.receiver("server").secret.Get() == rotated })
	if status, _ := e.deliver(t, "/hooks/server", "rotated-"+testSecret); status != 400 { // verified, and another product's event
		t.Errorf("the new secret: answered %d", status)
	}
	if status, _ := e.deliver(t, "/hooks/server", testSecret); status != 401 {
		t.Errorf("the old secret: answered %d", status)
	}
	e.write(t, "secret", "\n")
	proxytest.Eventually(t, "an empty secret is not reported", func() bool { return e.Warning() != nil && e.SecretErr("server") != nil })
	if status, _ := e.deliver(t, "/hooks/server", "rotated-"+testSecret); status != 400 {
		t.Errorf("the last good secret: answered %d", status)
	}
	if warning := e.Warning().Error(); !strings.Contains(warning, "receiver server uses the last good secret") || strings.Contains(warning, "swordfish") {
		t.Errorf("warning %q", warning)
	}
}

// TestUnusedPreviousSecret: until the first rotation, and after its end, the previous
// secret's file has a line that operators may write by hand. It verifies nothing.
func TestUnusedPreviousSecret(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	if status, _ := e.deliver(t, "/hooks/policy", "previous-"+testSecret); status != 200 {
		t.Errorf("the previous secret: answered %d", status)
	}
	const unused = webhook.UnusedSecretPrefix
	e.write(t, "previous", unused)
	proxytest.Eventually(t, "the end of the rotation is not seen", func() bool { return e.receiver("policy").previous.Get() == webhook.Secret{} })
	for _, secret := range []string{unused, "previous-" + testSecret, ""} {
		if status, _ := e.deliver(t, "/hooks/policy", secret); status != 401 {
			t.Errorf("%q: answered %d", secret, status)
		}
	}
	if status, _ := e.deliver(t, "/hooks/policy", testSecret); status != 200 || e.SecretErr("policy") != nil {
		t.Errorf("the current secret: answered %d, %v", status, e.SecretErr("policy"))
	}
}

// TestStartWithoutSecret: an empty secret is an error at the start.
func TestStartWithoutSecret(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	e.write(t, "secret", "")
	if _, err := New(e.config); err == nil || !strings.Contains(err.Error(), "webhooks.receivers policy") {
		t.Errorf("started: %v", err)
	}
}

// TestReadyDetail: /readyz has the state of receivers and networks, and no secret.
func TestReadyDetail(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	text, err := json.Marshal(e.Detail())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"atlassian_networks":{"fetched":"never","networks":0}`) || !strings.Contains(string(text), `"previous_secret":true`) || strings.Contains(string(text), "swordfish") {
		t.Errorf("detail %s", text)
	}
	if warning := e.Warning(); warning == nil || !strings.Contains(warning.Error(), "receiver atlassian refuses every delivery") || !e.NetworksExpired("atlassian") || e.NetworksExpired("policy") {
		t.Errorf("warning %v", warning)
	}
}

// TestShutdownAnswers: a delivery in progress is answered before Shutdown returns.
func TestShutdownAnswers(t *testing.T) {
	t.Parallel()
	e := newGatewayEnv(t, nil)
	e.waiting, e.entered = make(chan struct{}), make(chan struct{}, 1)
	answered := make(chan int, 1)
	go func() {
		status, _ := e.deliver(t, "/hooks/policy", testSecret)
		answered <- status
	}()
	<-e.entered
	done := make(chan error, 1)
	go func() { done <- e.Shutdown(context.Background()) }()
	close(e.waiting)
	if status, err := <-answered, <-done; status != 200 || err != nil {
		t.Errorf("answered %d, shutdown: %v", status, err)
	}
}

// TestAffectsPolicy: only the branch or tag of the policy counts, and only of its repository
// where that is known.
func TestAffectsPolicy(t *testing.T) {
	t.Parallel()
	push := func(kind webhook.RefType, name string) *webhook.Event {
		return &webhook.Event{Kind: webhook.Cloud, Key: "repo:push", Refs: []webhook.Ref{{Type: kind, Name: name, Change: webhook.Updated}}}
	}
	branch := AffectsPolicy(&config.Policy{Git: &config.Git{Branch: "main"}, Candidate: &config.Candidate{Branch: "next"}})
	tag := AffectsPolicy(&config.Policy{Git: &config.Git{Tag: "in-force"}})
	located := AffectsPolicy(&config.Policy{Git: &config.Git{Branch: "main", URL: &url.URL{Scheme: "https", Host: "bitbucket.org", Path: "/acme/policy.git"}}})
	from := func(page string) *webhook.Event {
		e := push(webhook.Branch, "main")
		e.Repository = &webhook.Repository{FullName: "acme/app", URLs: []string{page}}
		return e
	}
	for _, c := range []struct {
		affects func(*webhook.Event) bool
		event   *webhook.Event
		want    bool
	}{
		{located, from("https://bitbucket.org/acme/policy"), true}, {located, from("https://bitbucket.org/acme/app"), false},
		{located, from("https://git.acme.example/acme/app"), true}, {located, push(webhook.Branch, "main"), true}, {branch, from("https://bitbucket.org/acme/app"), true},
		{branch, push(webhook.Branch, "main"), true}, {branch, push(webhook.Branch, "next"), true}, {branch, push(webhook.Branch, "fix"), false}, {branch, push(webhook.Tag, "main"), false},
		{tag, push(webhook.Tag, "in-force"), true}, {tag, push(webhook.Branch, "main"), false}, {tag, push(webhook.Branch, "in-force"), false},
	} {
		if got := c.affects(c.event); got != c.want {
			t.Errorf("%+v: %v, want %v", c.event.Refs, got, c.want)
		}
	}
	if AffectsPolicy(&config.Policy{Directory: "x"}) != nil {
		t.Error("a directory has a branch")
	}
}

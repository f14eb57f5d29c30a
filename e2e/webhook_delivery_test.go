package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// buildServer stands in for a Jenkins whose Bitbucket plugin verifies X-Hub-Signature.
type buildServer struct {
	*httptest.Server
	mu     sync.Mutex
	status int // 0: 200
	bodies []string
	header http.Header
}

func newBuildServer(t *testing.T, secret webhook.Secret) *buildServer {
	t.Helper()
	b := &buildServer{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		signature, problem := webhook.ParseSignature(r.Header.Get(webhook.SignatureHeader))
		b.mu.Lock()
		defer b.mu.Unlock()
		switch {
		case err != nil || problem != nil || !secret.Verify(body, signature):
			w.WriteHeader(http.StatusForbidden)
		case b.status != 0:
			w.WriteHeader(b.status)
		default:
			b.bodies, b.header = append(b.bodies, string(body)), r.Header.Clone()
		}
	}))
	t.Cleanup(func() {
		b.CloseClientConnections()
		b.Close()
	})
	return b
}

func (b *buildServer) received() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.bodies...)
}

func (b *buildServer) fail(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = status
}

const forwardSecret = "0123456789abcdef-forward"

// forwarding makes a fixture whose receiver forwards to the endpoints direct and private, and
// returns a function that delivers a push.
func forwarding(t *testing.T, direct string) (w *fixture, address string, push func(repository, n int)) {
	t.Helper()
	address = freeAddress(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(forwardSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	w = newFixture(t, options{extra: fmt.Sprintf(`webhooks:
  listener: {address: %q}
  receivers:
    - {name: builds, path: /hooks/builds, kind: cloud, secret_file: %q, forward_to: [direct, private]}
  endpoints:
    - {name: direct, url: %q, allow_networks: ["127.0.0.0/8"], timeout: 5s}
    - {name: private, agent: true}
`, address, file, direct)})
	w.secrets = append(w.secrets, forwardSecret)
	return w, address, func(repository, n int) {
		t.Helper()
		body := fmt.Sprintf(`{"actor":{},"repository":{"full_name":"acme/tools","uuid":"{22222222-0000-4000-8000-%012d}"},`+
			`"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"%040d"}},"old":null}]}}`, repository, n)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/hooks/builds", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Event-Key", "repo:push")
		req.Header.Set("Authorization", "Basic c211Z2dsZWQ6eA==")
		req.Header.Set(webhook.SignatureHeader, forwardKey(t).Sign([]byte(body)).String())
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("the delivery got %s", resp.Status)
		}
	}
}

func forwardKey(t *testing.T) webhook.Secret {
	t.Helper()
	key, err := webhook.NewSecret(forwardSecret)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// stateWebhookEndpoints has an endpoint that answers 410, and then fails, and an agent's
// credential of 100 days.
func stateWebhookEndpoints(t *testing.T) []alertScrape {
	direct := newBuildServer(t, forwardKey(t))
	w, _, push := forwarding(t, direct.URL)
	w.start()
	before := w.scrape()
	w.alter(t, `INSERT INTO webhook.agent_credentials (id, endpoint, description, digest, lease_key, created_by, created_at)
		VALUES ('0000000000000001', 'private', '', sha256('1'), sha256('2'), 'test', now() - interval '100 days')`)
	direct.fail(http.StatusGone)
	push(1, 1)
	eventually(t, "the delivery is a dead letter", func() bool { return w.counter(t, `sallyport_webhook_dead_letters_total{endpoint="direct"}`) == 1 })
	direct.fail(http.StatusInternalServerError)
	for n := range 6 {
		push(2+n, 2+n)
	}
	eventually(t, "the circuit is open, and deliveries wait", func() bool {
		return w.counter(t, `sallyport_webhook_circuit_open{endpoint="direct"}`) == 1 && w.counter(t, `sallyport_webhook_oldest_delivery_timestamp_seconds{endpoint="direct"}`) > 0
	})
	return []alertScrape{{Body: before}, {Body: w.scrape(), after: 2 * time.Minute}}
}

// TestForward: a push reaches an endpoint, and one that only its agent can reach, with
// Bitbucket's signature. A revoked credential ends what the agent receives.
func TestForward(t *testing.T) {
	t.Parallel()
	direct, private := newBuildServer(t, forwardKey(t)), newBuildServer(t, forwardKey(t))
	w, address, push := forwarding(t, direct.URL+"/bitbucket-hook/?token=t0ken-of-jenkins")
	w.secrets = append(w.secrets, "t0ken-of-jenkins")
	w.start()

	credential, _, _ := strings.Cut(w.operatorCommand(t, 0, "webhook", "agent-credential", "create", "--endpoint", "private", "--description", "beside jenkins"), "\n")
	w.secrets = append(w.secrets, credential)
	file := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(file, []byte(credential+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if output := w.operatorCommand(t, 2, "webhook", "agent-credential", "create", "--endpoint", "direct"); !strings.Contains(output, "private") {
		t.Errorf("an endpoint that is not for agents: %q", output)
	}
	agent := exec.Command(w.program, "webhook", "agent", "--server", "http://"+address, "--credential-file", file, "--to", private.URL)
	var log bytes.Buffer
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Process.Kill() }()

	for n := range 3 {
		push(1, n)
	}
	eventually(t, "the pushes reach both", func() bool { return len(direct.received()) == 3 && len(private.received()) == 3 })
	for n, body := range direct.received() {
		if !strings.Contains(body, fmt.Sprintf("%040d", n)) || private.received()[n] != body {
			t.Errorf("push %d arrived as %s", n, body)
		}
	}
	if h := private.header; h.Get("Authorization") != "" || h.Get("Sallyport-Delivery") == "" || h.Get("Sallyport-Attempt") != "1" {
		t.Errorf("header %v", h)
	}
	eventually(t, "both endpoints are recorded", func() bool {
		return len(w.query(t, `SELECT 1 FROM audit.webhook_deliveries WHERE delivered = ARRAY['direct', 'private']`)) == 3
	})

	id := strings.Split(credential, "_")[1]
	w.operatorCommand(t, 0, "webhook", "agent-credential", "revoke", id, "--reason", "the machine was sold")
	if list := w.operatorCommand(t, 0, "webhook", "agent-credential", "list"); !strings.Contains(list, id) || !strings.Contains(list, "beside jenkins") || strings.Contains(list, credential) {
		t.Errorf("list:\n%s", list)
	}
	push(1, 4)
	eventually(t, "the push reaches the endpoint", func() bool { return len(direct.received()) == 4 })
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent ended with %v: %s", err, log.String())
	}
	if n := len(private.received()); n != 3 {
		t.Errorf("the revoked agent received %d pushes", n)
	}
	if strings.Contains(log.String(), credential) {
		t.Error("the agent's log has the credential")
	}
	names, _ := w.operatorActions(t)
	if got := strings.Join(names, " "); got != "webhook_agent_credential_created webhook_agent_credential_revoked" {
		t.Errorf("recorded: %s", got)
	}
}

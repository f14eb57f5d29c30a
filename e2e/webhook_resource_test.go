package e2e

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/webhook"
)

const serviceAccountToken = "token-of-a-service-account-0123456789"

// warehouseServer stands in for the API server of a cluster with one Warehouse of Kargo.
// Package webhook/resource has the complete stand-in.
type warehouseServer struct {
	*httptest.Server
	mu      sync.Mutex
	status  int // 0: 200
	patches []string
}

func newWarehouseServer(t *testing.T) *warehouseServer {
	t.Helper()
	s := &warehouseServer{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case r.Header.Get("Authorization") != "Bearer "+serviceAccountToken:
			w.WriteHeader(http.StatusUnauthorized)
		case s.status != 0:
			w.WriteHeader(s.status)
		case r.Method != http.MethodPatch || r.Header.Get("Content-Type") != "application/merge-patch+json":
			w.WriteHeader(http.StatusUnsupportedMediaType)
		case r.URL.Path != "/apis/kargo.akuity.io/v1alpha1/namespaces/kargo-demo/warehouses/app":
			w.WriteHeader(http.StatusNotFound)
		default:
			s.patches = append(s.patches, string(body))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *warehouseServer) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.patches...)
}

func (s *warehouseServer) fail(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// TestRefreshResource: a push annotates a Warehouse; one that only deletes does not; a
// missing rule of RBAC is recorded, and the refresh follows once the rule is there.
func TestRefreshResource(t *testing.T) {
	t.Parallel()
	cluster, address, directory := newWarehouseServer(t), freeAddress(t), t.TempDir()
	for name, text := range map[string]string{
		"secret": forwardSecret, "token": serviceAccountToken, "ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := newFixture(t, options{extra: fmt.Sprintf(`webhooks:
  listener: {address: %q}
  receivers:
    - {name: builds, path: /hooks/builds, kind: cloud, secret_file: %q, refresh_resources: [warehouse]}
  resources:
    - name: warehouse
      match: {repositories: ["git@bitbucket.org:acme/tools.git"], branches: [main]}
      kubernetes: {server: %q, ca_file: %q, token_file: %q, allow_networks: ["127.0.0.0/8"], preset: kargo_warehouse, namespace: kargo-demo, name: app}
`, address, filepath.Join(directory, "secret"), cluster.URL, filepath.Join(directory, "ca.pem"), filepath.Join(directory, "token"))})
	w.secrets = append(w.secrets, forwardSecret, serviceAccountToken)
	w.start()
	push := func(change string) {
		t.Helper()
		body := `{"actor":{},"repository":{"full_name":"acme/tools","uuid":"{22222222-0000-4000-8000-000000000001}"},"push":{"changes":[` + change + `]}}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/hooks/builds", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Event-Key", "repo:push")
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
	ref := func(hash int) string {
		return fmt.Sprintf(`{"type":"branch","name":"main","target":{"hash":"%040d"}}`, hash)
	}
	delivered := func(n int) func() bool {
		return func() bool {
			return len(w.query(t, `SELECT 1 FROM audit.webhook_deliveries WHERE delivered = ARRAY['warehouse']`)) == n
		}
	}
	push(`{"old":` + ref(1) + `,"new":null}`)
	eventually(t, "the deletion is carried out", delivered(1))
	if n := len(cluster.received()); n != 0 {
		t.Errorf("a push that only deletes made %d refreshes", n)
	}
	push(`{"old":null,"new":` + ref(2) + `}`)
	eventually(t, "the push is carried out", delivered(2))
	if got := cluster.received(); len(got) != 1 || !strings.Contains(got[0], `{"metadata":{"annotations":{"kargo.akuity.io/refresh":"`) {
		t.Errorf("patches %q", got)
	}
	cluster.fail(http.StatusForbidden)
	push(`{"old":` + ref(2) + `,"new":` + ref(3) + `}`)
	eventually(t, "the failure is recorded with its remedy", func() bool {
		return len(w.query(t, `SELECT 1 FROM audit.events WHERE kind = 'webhook_failed' AND message LIKE '%grant the service account patch on warehouses.kargo.akuity.io in namespace kargo-demo%'`)) == 1
	})
	cluster.fail(0)
	eventually(t, "the refresh follows", delivered(3))
	if n := len(cluster.received()); n != 2 {
		t.Errorf("%d refreshes", n)
	}
}

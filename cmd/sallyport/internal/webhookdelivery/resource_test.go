package webhookdelivery

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// TestNetworksOfAnAPIServer: an API server in a network that is always refused gets no
// connection unless allow_networks has the network; this instance's own listeners never do.
func TestNetworksOfAnAPIServer(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-0123456789" || r.URL.Path != "/apis/kargo.akuity.io/v1alpha1/namespaces/kargo-demo/warehouses/app" {
			w.WriteHeader(http.StatusForbidden)
		}
		requests.Add(1)
	}))
	defer server.Close()
	directory := t.TempDir()
	authority := filepath.Join(directory, "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(u.Host)
	for name, c := range map[string]struct {
		allow []netip.Prefix
		own   []netip.AddrPort
		ca    string
		want  string // in the cause; empty: delivered
	}{
		"without allow_networks": {nil, nil, authority, "must not be dialed"},
		"another network":        {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil, authority, "must not be dialed"},
		"a listener of its own":  {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []netip.AddrPort{address}, authority, "must not be dialed"},
		"an unknown authority":   {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil, "", "certificate"},
		"with both":              {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil, authority, ""},
	} {
		k, err := newKubernetes(&config.WebhookKubernetes{
			Server: u, CAFile: c.ca, AllowNetworks: c.allow, Preset: "kargo_warehouse", Namespace: "kargo-demo", Object: "app",
		}, func() (string, error) { return "token-0123456789", nil }, 10*time.Second, nil, c.own)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := requests.Load()
		a := k.Refresh(t.Context(), webhook.Task{})
		k.Close()
		reached := requests.Load() - before
		if c.want == "" && (a.Outcome() != dispatch.Delivered || reached != 1) || c.want != "" && (a.Outcome() != dispatch.Failed || reached != 0 || !strings.Contains(a.Cause(), c.want)) {
			t.Errorf("%s: %+v: %s; %d requests", name, a, a.Cause(), reached)
		}
	}
}

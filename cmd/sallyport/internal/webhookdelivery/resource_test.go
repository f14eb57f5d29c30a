package webhookdelivery

import (
	"context"
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
		k, err := newKubernetes("app", &config.WebhookKubernetes{
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

// TestResourceWithAnEndpoint: a resource with an endpoint sends through that endpoint's
// sender, and an endpoint that does not exist is an error.
func TestResourceWithAnEndpoint(t *testing.T) {
	t.Parallel()
	sent := 0
	direct := []dispatch.Endpoint{{Name: "other"}, {Name: "jenkins", Send: func(context.Context, webhook.Task) dispatch.Attempt {
		sent++
		return dispatch.Attempt{Status: http.StatusOK}
	}}}
	match := config.WebhookMatch{Repositories: []string{"bitbucket.org/acme/app"}}
	d := &Delivery{config: Config{Webhooks: &config.Webhooks{Resources: []config.WebhookResource{{Name: "app", Endpoint: "jenkins", Match: match, RetryFor: time.Hour}}}}}
	list, err := d.resources(nil, direct)
	if err != nil || len(list) != 1 || list[0].Name != "app" || list[0].Action != webhook.RefreshResource || list[0].RetryFor != time.Hour {
		t.Fatalf("%+v, %v", list, err)
	}
	refresh, err := d.refresh(&d.config.Webhooks.Resources[0], nil, direct)
	if err != nil {
		t.Fatal(err)
	}
	if a := refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Delivered || sent != 1 {
		t.Errorf("%+v, %d requests", a, sent)
	}
	if _, err := d.resources(nil, direct[:1]); err == nil || !strings.Contains(err.Error(), "jenkins") {
		t.Errorf("an endpoint that does not exist: %v", err)
	}
}

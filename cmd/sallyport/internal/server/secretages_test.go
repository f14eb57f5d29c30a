package server

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/config"
)

// TestSecretGauges: the time of a secret's file is that of its last change, and 0 without one.
func TestSecretGauges(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	key := filepath.Join(directory, components.KeyFile)
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0)
	if err := os.Chtimes(key, at, at); err != nil {
		t.Fatal(err)
	}
	s := &server{metrics: admin.NewMetrics("test"), config: &config.Config{
		DataDirectory: directory, Listeners: []config.Listener{{TLS: &config.TLS{KeyFile: filepath.Join(directory, "missing")}}},
	}}
	s.secretGauges()
	got := map[string]float64{}
	families, err := s.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sallyport_secret_changed_timestamp_seconds" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if want := map[string]float64{"audit.signing_key_file": 1_700_000_000, "listeners[0].tls.key_file": 0}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSecretAges: the list has every secret with its kind, a previous secret during a
// rotation only, the validity of a certificate, and no secret.
func TestSecretAges(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	at := time.Unix(1_700_000_000, 0)
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("secret", "current-secret")
	write("previous", "unused-0123")
	write("rotating", "old-secret")
	file := filepath.Join(directory, "sallyport.yaml")
	write("sallyport.yaml", `listeners: [{address: "127.0.0.1:3128"}]
identity: {bitbucket: [{workspace: acme, workspace_uuid: 922e118c-f34f-4226-a897-0e0afbec553d, issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", audiences: ["https://egress.acme.example"]}]}
policy: {directory: "`+directory+`"}
audit: {embedded: true}
data_directory: "`+directory+`"
webhooks:
  listener: {address: "127.0.0.1:8443"}
  receivers:
    - {name: one, path: /hooks/one, kind: cloud, secret_file: secret, previous_secret_file: previous, events: ["repo:push"]}
    - {name: two, path: /hooks/two, kind: cloud, secret_file: secret, previous_secret_file: rotating, events: ["repo:push"]}
`)
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ages, err := (&server{config: cfg}).secretAges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, a := range ages {
		if a.Kind == "" {
			t.Errorf("%s has no kind", a.Name)
		}
		got[a.Name] = max(a.Since.Unix(), 0)
	}
	want := map[string]int64{"audit.signing_key_file": 0, "webhooks.receivers[one].secret_file": at.Unix(), "webhooks.receivers[two].secret_file": at.Unix(), "webhooks.receivers[two].previous_secret_file": at.Unix()}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

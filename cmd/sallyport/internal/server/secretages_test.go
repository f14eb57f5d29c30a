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

package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/proxytest"
)

// TestConfigurationsLoad reads the configurations of systemd and of compose where
// their files are, as far as a test may put them there.
func TestConfigurationsLoad(t *testing.T) {
	for name, move := range map[string][]string{
		"systemd/sallyport.yaml": {"/srv/sallyport/policy", "policy"},
		"compose/sallyport.yaml": {"/run/secrets/", "", "/etc/sallyport/policy", "policy"},
	} {
		directory := t.TempDir()
		write := func(name, content string) {
			path := filepath.Join(directory, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		certificate, key := proxytest.SelfSignedPEM(t, "egress.acme.example")
		write("certificate.pem", certificate)
		write("key.pem", key)
		write("policy/egress/first.rego", "package sallyport.egress\n")
		for _, secret := range []string{"bitbucket-token", "database-url", "sealer-database-url", "migration-url"} {
			write(secret, "postgresql://somebody@database.example/sallyport\n")
		}
		write("sallyport.yaml", strings.NewReplacer(move...).Replace(read(t, name)))
		cfg, err := config.Load(filepath.Join(directory, "sallyport.yaml"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if warnings := cfg.Warnings(); len(warnings) > 0 {
			t.Errorf("%s: %v", name, warnings)
		}
		if cfg.Shutdown.DrainTimeout != 90*time.Second {
			t.Errorf("%s: drain_timeout is %v; the unit and compose.yaml leave time for 90s", name, cfg.Shutdown.DrainTimeout)
		}
	}
}

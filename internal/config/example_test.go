package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const exampleFile = "../../deploy/sallyport.example.yaml"

// exampleFolder writes the example's text into a directory that has what the example names.
func exampleFolder(t *testing.T, text string) (file string) {
	t.Helper()
	directory := t.TempDir()
	for _, d := range []string{"policy-repository", "secrets", "tls"} {
		if err := os.Mkdir(filepath.Join(directory, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bitbucket-token", "database-url", "sealer-database-url", "migration-url", "policy-token", "policy-signers", "checkpoint-key", "checkpoint-token", "webhook-secret", "webhook-secret-before", "cluster-token"} {
		writeFile(t, filepath.Join(directory, "secrets", name), "swordfish\n")
	}
	writeFile(t, filepath.Join(directory, "secrets", "upstream-credential"), "user:swordfish\n")
	writeFile(t, filepath.Join(directory, "secrets", "endpoint-secret"), endpointSecret)
	certificate, key := newCertificate(t, testCertificate{})
	writeFile(t, filepath.Join(directory, "tls", "certificate.pem"), certificate)
	writeFile(t, filepath.Join(directory, "tls", "key.pem"), key)
	file = filepath.Join(directory, "sallyport.yaml")
	writeFile(t, file, text)
	return file
}

func TestExampleLoads(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(exampleFolder(t, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Audit.Embedded {
		t.Error("the example does not use the embedded database")
	}
	if w := cfg.Warnings(); len(w) > 0 {
		t.Errorf("the example is warned about: %v", w)
	}
}

// TestExampleWhole puts every commented key in force: each must be known and well-formed, and the only complaints are
// those that the example announces.
func TestExampleWhole(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	whole := regexp.MustCompile(`(?m)^( *)#([^ #\n])`).ReplaceAllString(string(text), "$1$2")
	t.Setenv("SALLYPORT_DATABASE_URL", "swordfish")
	t.Setenv("SALLYPORT_SEALER_DATABASE_URL", "swordfish")
	_, err = Load(exampleFolder(t, whole))
	var got []string
	for _, e := range err.(Errors) {
		got = append(got, e.Path+": "+e.Message)
	}
	want := []string{
		"policy.git: policy.directory is given too",
		"audit.database_url_env: audit.database_url_file is given too",
		"audit.sealer_database_url_env: audit.sealer_database_url_file is given too",
		"audit.migration_url_file: the embedded database migrates by itself",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("complaints (-want +got):\n%s", diff)
	}
	walk(rootFields(new(Config)), "", func(path string, f field) {
		if !strings.Contains(whole, f.name+":") {
			t.Errorf("the example does not show %s", path)
		}
	})
}

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestPsqlStatus: the status of `audit psql` is psql's own (psql(1), "Exit Status").
func TestPsqlStatus(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("url", db.URL("postgres"))
	write("away", "postgres:///none?host="+folder)
	configuration := func(url string) string {
		return write(url+".yaml", `listeners: [{address: "127.0.0.1:0"}]
identity: {bitbucket: [{workspace: acme, workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d", issuer: "http://127.0.0.1:1/oidc", audiences: [x]}]}
policy: {directory: policy}
audit: {database_url_file: `+url+`, migration_url_file: `+url+`}
`)
	}
	script := write("failing.sql", "SELECT 1/0;\n")
	for name, c := range map[string]struct {
		url    string
		args   []string
		status int
		says   string
	}{
		"done":                   {"url", []string{"-Atc", "SELECT 40 + 2"}, 0, "42"},
		"a query that fails":     {"url", []string{"-c", "SELECT 1/0"}, 1, "division by zero"},
		"a file is not there":    {"url", []string{"-f", filepath.Join(folder, "gone.sql")}, 1, "No such file"},
		"no connection":          {"away", []string{"-c", "SELECT 1"}, 2, "connection to server"},
		"a script that fails":    {"url", []string{"-v", "ON_ERROR_STOP=1", "-f", script}, 3, "division by zero"},
		"ours: an unknown role":  {"url", []string{"--role", "auditr"}, 2, "did you mean auditor?"},
		"ours: no configuration": {"gone", nil, 2, "gone.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := filepath.Join(folder, c.url+".yaml")
			if c.url != "gone" {
				config = configuration(c.url)
			}
			code, out, errOut := command(t, append([]string{"audit", "psql", "--config", config, "-X"}, c.args...)...)
			if code != c.status || !strings.Contains(out+errOut, c.says) {
				t.Errorf("%d, want %d and %q: %s%s", code, c.status, c.says, out, errOut)
			}
		})
	}
}

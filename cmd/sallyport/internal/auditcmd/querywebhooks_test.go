package auditcmd

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestCompleteDeliveries: the flags about deliveries are completed with the names of the
// configuration and the documented event keys.
func TestCompleteDeliveries(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	file := filepath.Join(directory, "sallyport.yaml")
	for name, text := range map[string]string{"secret": "0123456789abcdef", "sallyport.yaml": `listeners: [{address: "127.0.0.1:3128"}]
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "{922E118C-f34f-4226-a897-0e0afbec553d}"
      issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
      audiences: ["https://egress.acme.example"]
policy: {directory: .}
audit: {embedded: true}
webhooks:
  listener: {address: "127.0.0.1:8443"}
  receivers:
    - {name: builds, path: /hooks/builds, kind: cloud, secret_file: secret, forward_to: [jenkins]}
  endpoints:
    - {name: jenkins, url: "https://jenkins.example/hook"}
  resources:
    - {name: app, endpoint: jenkins, match: {repositories: ["https://bitbucket.org/acme/app"]}}
`} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := newQuery()
	if err := c.Flags().Set("config", file); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string][]string{"receiver": {"builds"}, "endpoint": {"jenkins", "app"}, "event": {"repo:push", "pr:merged"}} {
		complete, ok := c.GetFlagCompletionFunc(flag)
		if !ok {
			t.Errorf("--%s is not completed", flag)
			continue
		}
		got, _ := complete(c, nil, "")
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("--%s: %v, want %s", flag, got, name)
			}
		}
	}
}

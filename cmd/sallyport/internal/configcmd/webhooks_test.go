package configcmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/rego"
)

func TestMain(m *testing.M) {
	rego.ServeWorker() // does not return in a policy worker
	os.Exit(m.Run())
}

const egressRules = `package sallyport.egress

allow contains {"rule": "x"} if input.target.port == 443
`

const deliveryRules = `package sallyport.webhook

allow contains {"rule": "pushes"} if input.event == "repo:push"

route contains {"rule": "builds", "action": "forward", "endpoint": "ENDPOINT"} if input.receiver == "RECEIVER"
`

const checkedConfiguration = `listeners: [{address: "127.0.0.1:3128"}]
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "{922E118C-f34f-4226-a897-0e0afbec553d}"
      issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
      audiences: ["https://egress.acme.example"]
policy: {SOURCE}
audit: {embedded: true}
webhooks:
  listener: {address: "127.0.0.1:8443"}
  receivers:
    - {name: builds, path: /hooks/builds, kind: cloud, secret_file: secretACTIONS}
  endpoints:
    - {name: jenkins, url: "https://jenkins.example/hook"}
    - {name: deployer, url: "https://deployer.example/hook"}
  resources:
    - {name: app, endpoint: deployer, match: {repositories: ["https://bitbucket.org/acme/app"]}}
`

// checkConfiguration runs `config check` with rules about deliveries; "": none.
func checkConfiguration(t *testing.T, source, actions, rules string) (output string, err error) {
	t.Helper()
	directory := t.TempDir()
	for name, text := range map[string]string{
		"policy/egress/a.rego": egressRules, "policy/webhook/a.rego": rules, "secret": "0123456789abcdef",
		"sallyport.yaml": strings.NewReplacer("SOURCE", source, "ACTIONS", actions).Replace(checkedConfiguration),
	} {
		file := filepath.Join(directory, name)
		if text == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	c := New()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs([]string{"check", "--config", filepath.Join(directory, "sallyport.yaml")})
	err = c.ExecuteContext(t.Context())
	return out.String(), err
}

// TestCheckWebhooks: a rule that names an endpoint or receiver that is not configured is an
// error, and an endpoint that nothing uses a warning.
func TestCheckWebhooks(t *testing.T) {
	t.Parallel()
	directory, git := "directory: policy", `git: {url: "https://bitbucket.org/acme/egress-policy.git"}`
	all := ", forward_to: [jenkins], refresh_resources: [app]"
	rules := strings.NewReplacer("ENDPOINT", "jenkins", "RECEIVER", "builds").Replace(deliveryRules)
	for name, c := range map[string]struct {
		source, actions, rules string
		fails                  bool
		want, not              []string
	}{
		"every name is used": {directory, all, "", false, []string{"ok     webhooks: 1 receiver, 2 endpoints, 1 resource", "0 repositories, and its tests pass"}, []string{"warning"}},
		"no action": {directory, "", "", false, []string{
			"warning webhooks: the receiver builds has no actions, forward_to or refresh_resources: its deliveries are recorded only",
			"warning webhooks: no receiver sends deliveries to the endpoint jenkins: correct the name, or remove it", "to the resource app", "to the endpoint deployer",
		}, nil},
		"an unused endpoint": {directory, ", refresh_resources: [app]", "", false, []string{"no receiver sends deliveries to the endpoint jenkins"}, []string{"deployer", "resource app"}},
		"a policy that is not read": {git, ", refresh_resources: [app]", "", false, []string{
			"no receiver sends deliveries to the endpoint jenkins (--online reads the policy, whose rules may): correct the name",
		}, []string{"deployer"}},
		"rules": {directory, ", refresh_resources: [app]", rules, false, []string{
			"the configured action refresh_resource to app of the receiver builds has no effect", "no rule of the policy sends deliveries to the endpoint deployer", "no rule of the policy sends deliveries to the resource app",
		}, []string{"endpoint jenkins"}},
		"a computed endpoint": {directory, "", strings.Replace(rules, `"jenkins"} if`, "name} if {\n\tsome name in [\"jenkins\", \"deployer\"]\n}\n\nallow contains {\"rule\": \"y\"} if", 1), false, nil, []string{"endpoint jenkins", "endpoint deployer"}},
		"an unknown endpoint": {directory, "", strings.Replace(rules, `"jenkins"`, `"jenkinz"`, 1), true, []string{
			`FAILED policy: webhook/a.rego:5:`, `no endpoint is named "jenkinz": did you mean jenkins?`,
		}, nil},
		"an unknown receiver": {directory, "", strings.Replace(rules, `"builds" `, `"builds"`, 1) + "\ndeny contains {\"rule\": \"d\"} if input.receiver == \"bilds\"\n", true, []string{`no receiver is named "bilds": did you mean builds?`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, err := checkConfiguration(t, c.source, c.actions, c.rules)
			if (err != nil) != c.fails {
				t.Errorf("error %v\n%s", err, output)
			}
			for _, want := range c.want {
				if !strings.Contains(output, want) {
					t.Errorf("no %q in\n%s", want, output)
				}
			}
			for _, not := range c.not {
				if strings.Contains(output, not) {
					t.Errorf("%q in\n%s", not, output)
				}
			}
		})
	}
}

// TestCheckReceiverRepositories: a repository that Bitbucket's API does not list is a warning
// with the name that was meant.
func TestCheckReceiverRepositories(t *testing.T) {
	t.Parallel()
	app := identity.KnownName{RepositoryUUID: "922e118c-f34f-4226-a897-0e0afbec553d", FullName: "acme/app"}
	known := map[string][]identity.KnownName{"acme": {app}}
	for _, c := range []struct {
		name     string
		complete bool
		want     string
	}{
		{"acme/app", true, ""},
		{"Acme/App", true, ""},
		{"acme/apq", true, "did you mean acme/app?"},
		{"acme/something-else", true, "correct the name, or let the access token read the repository"},
		{"partner/app", true, ""}, // its workspace is a warning of the configuration
		{app.RepositoryUUID, true, ""},
		{"0e0afbec-f34f-4226-a897-0e0afbec553d", true, "correct the UUID, or let the access token read the repository"},
		{"0e0afbec-f34f-4226-a897-0e0afbec553d", false, ""},
	} {
		if got := unknownRepository(c.name, known, c.complete); got != c.want {
			t.Errorf("%s (%v): %q, want %q", c.name, c.complete, got, c.want)
		}
	}
}

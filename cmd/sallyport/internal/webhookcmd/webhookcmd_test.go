package webhookcmd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// setup is a configuration without webhooks, beside an emulated Bitbucket whose listener of
// webhooks is running.
type setup struct {
	t         *testing.T
	directory string
	config    string
	token     string // file
	hooks     *bitbuckettest.Repository
	listener  net.Listener

	queue   webhook.Queue // that accepts deliveries
	decider decider

	mu       sync.Mutex
	receiver http.Handler
	accepted []*webhook.Delivery
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{t: t, directory: t.TempDir(), decider: decider{Verdict: policy.Allow}}
	s.queue = s
	bitbucket, err := bitbuckettest.New(bitbuckettest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bitbucket.Close)
	if err := bitbucket.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	acme := bitbucket.AddWorkspace("acme")
	acme.AddAccessToken("hooks-token", bitbuckettest.ScopeWebhook)
	acme.AddAccessToken("read-token", bitbuckettest.ScopeRepository)
	s.hooks = acme.AddRepository("egress-policy", "SEC")
	s.token = filepath.Join(s.directory, "token")
	s.write(s.token, "hooks-token\n")
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		handler := s.receiver
		s.mu.Unlock()
		if handler == nil {
			http.NotFound(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(s.listener) }()
	t.Cleanup(func() { _ = server.Close() })
	s.config = filepath.Join(s.directory, "sallyport.yaml")
	s.write(s.config, fmt.Sprintf(`listeners: [{address: "127.0.0.1:3128"}]
identity:
  bitbucket:
    - {workspace: acme, workspace_uuid: %q, issuer: %q, audiences: ["https://egress.acme.example"], api: {url: %q, token_file: %q}}
policy: {git: {url: "https://bitbucket.org/acme/egress-policy.git"}}
audit: {embedded: true}
data_directory: %q
`, acme.UUID, acme.Issuer(), bitbucket.APIURL(), s.token, filepath.Join(s.directory, "data")))
	return s
}

func (s *setup) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setup) read(path string) string {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// command runs `sallyport webhook`.
func (s *setup) command(arguments ...string) (out, errOut string, err error) {
	s.t.Helper()
	c := New()
	var stdout, stderr bytes.Buffer
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	c.SetArgs(append(arguments, "-c", s.config))
	err = c.ExecuteContext(s.t.Context())
	return stdout.String(), stderr.String(), err
}

// serve runs the receiver of the configuration, as the server does.
func (s *setup) serve() *config.WebhookReceiver {
	s.t.Helper()
	cfg, err := config.Load(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &cfg.Webhooks.Receivers[0]
	handler, err := webhook.NewReceiver(webhook.Config{
		Name: r.Name, Kind: r.Kind, Decider: s.decider, Queue: s.queue,
		Secrets: func() (all []webhook.Secret) {
			for _, place := range []config.Secret{r.Secret, r.Previous} {
				text, err := place.Read()
				if err != nil {
					s.t.Error(err)
				}
				secret, err := webhook.NewPreviousSecret(text)
				if err != nil {
					s.t.Error(err)
				}
				if secret != (webhook.Secret{}) {
					all = append(all, secret)
				}
			}
			return all
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(r.Path, handler)
	s.mu.Lock()
	s.receiver = mux
	s.mu.Unlock()
	return r
}

// decider decides about every delivery alike.
type decider webhook.Decision

func (d decider) DecideDelivery(context.Context, *webhook.Delivery) (webhook.Decision, error) {
	return webhook.Decision(d), nil
}

func (s *setup) Accept(_ context.Context, d *webhook.Delivery, _ webhook.Decision) (webhook.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = append(s.accepted, d)
	return webhook.Accepted, nil
}

// add makes a receiver through the API, and adds its section to the configuration.
func (s *setup) add() {
	s.t.Helper()
	out, _, err := s.command("add", "policy", "--repository", "acme/egress-policy", "--url", "http://"+s.listener.Addr().String(), "--action", "refresh_policy", "--token-file", s.token)
	if err != nil {
		s.t.Fatal(err)
	}
	out = strings.Replace(out, `":8443"`, fmt.Sprintf("%q", s.listener.Addr().String()), 1)
	out = strings.Replace(out, "    tls: {certificate_file: tls/certificate.pem, key_file: tls/key.pem}\n", "", 1)
	s.write(s.config, s.read(s.config)+"\n"+out)
}

// push sends a push through the hook in Bitbucket, and reports whether it is accepted.
func (s *setup) push(n int) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	s.hooks.Push(bitbuckettest.RefChange{Ref: "refs/heads/main", New: fmt.Sprintf("%040x", n)})
	all, err := s.hooks.Hooks()[0].Wait(ctx, n)
	if err != nil {
		s.t.Fatal(err)
	}
	return all[n-1].Accepted()
}

// TestAddRotateTest follows a receiver: it is made in Bitbucket and works, its secret
// changes without a refused delivery and without another URL, and the previous secret ends.
func TestAddRotateTest(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.add()
	h := s.hooks.Hooks()[0].Config()
	r := s.serve()
	if h.URL != "http://"+s.listener.Addr().String()+r.Path || len(r.Path) < len("/hooks/policy-")+32 || h.Secret != s.read(r.Secret.File()) || len(h.Secret) != 64 ||
		strings.Join(h.Events, " ") != "pullrequest:fulfilled repo:push" && strings.Join(h.Events, " ") != "repo:push pullrequest:fulfilled" {
		t.Errorf("the webhook is %+v, and the receiver %+v", h, r)
	}
	for _, file := range []string{r.Secret.File(), r.Previous.File()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", file, info, err)
		}
	}
	if !s.push(1) {
		t.Error("a delivery is refused")
	}
	out, _, err := s.command("test", "policy", "--no-follow")
	if err != nil || strings.Count(out, "ok ") != 6 || len(s.accepted) != 2 || webhook.AffectsBranch(s.accepted[1].Event, "main") {
		t.Errorf("%v: %s, %d accepted", err, out, len(s.accepted))
	}
	out, _, err = s.command("list")
	if err != nil || !strings.Contains(out, r.Path) || !strings.Contains(out, "0 days") || strings.Contains(out, "rotating") {
		t.Errorf("%v: %s", err, out)
	}

	old := h.Secret
	if out, _, err = s.command("rotate", "policy"); err != nil || !strings.Contains(out, "two secrets are valid") || strings.Contains(out, s.read(r.Secret.File())) {
		t.Fatalf("%v: %s", err, out)
	}
	if s.read(r.Previous.File()) != old || s.read(r.Secret.File()) == old || !s.push(2) {
		t.Error("Bitbucket's secret is refused before it is changed")
	}
	if _, _, err = s.command("rotate", "policy"); err == nil || !strings.Contains(err.Error(), "--drop") {
		t.Errorf("another rotation replaces the secret that Bitbucket has: %v", err)
	}
	if out, _, err = s.command("list"); err != nil || !strings.Contains(out, "rotating") {
		t.Errorf("%v: %s", err, out)
	}
	if out, _, err = s.command("rotate", "policy", "--token-file", s.token); err != nil {
		t.Fatal(err, out)
	}
	if now := s.hooks.Hooks()[0].Config(); now.Secret != s.read(r.Secret.File()) || now.URL != h.URL || now.Secret == old || !s.push(3) {
		t.Errorf("Bitbucket has %+v", now)
	}
	if _, _, err = s.command("rotate", "policy", "--drop"); err != nil || s.read(r.Previous.File()) == old || !s.push(4) {
		t.Errorf("after --drop: %v", err)
	}
	s.hooks.Hooks()[0].Update(func(c *hook.Config) { c.Secret = old })
	if s.push(5) {
		t.Error("the dropped secret is accepted")
	}
}

// TestFailedTestNamesTheStage: each fault is reported at its stage, with a remedy.
func TestFailedTestNamesTheStage(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.add()
	expect := func(want string) {
		t.Helper()
		out, _, err := s.command("test", "policy")
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %s\nwant %s", err, out, want)
		}
	}
	expect("FAILED  delivery: status 404")
	r := s.serve()
	expect("FAILED  decision: no instance is running")
	s.decider.Verdict = policy.Deny
	s.serve()
	if out, _, err := s.command("test", "policy", "--no-follow"); err == nil || !strings.Contains(out, "FAILED  decision: recorded, and not delivered: denied") {
		t.Errorf("%v: %s", err, out)
	}
	if out, _, err := s.command("test", "policy", "--url", "https://hooks.invalid"); err == nil || !strings.Contains(out, "FAILED  name: ") || !strings.Contains(out, "correct --url") {
		t.Errorf("%v: %s", err, out)
	}
	handler := s.receiver
	s.receiver = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	expect("FAILED  wrong signature: status 200")
	s.receiver = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	expect("could not be recorded")
	s.receiver = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	expect("the running server has another secret")
	s.receiver = handler
	s.write(r.Secret.File(), "")
	expect("FAILED  secret: ")
	s.write(r.Secret.File(), "another")
	_ = s.listener.Close()
	expect("FAILED  connection: ")
}

// TestAddWithoutAToken: every field to enter is printed, and the secret is not.
func TestAddWithoutAToken(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for _, kind := range []string{"cloud", "data_center"} {
		name := strings.ReplaceAll(kind, "_", "-")
		out, fields, err := s.command("add", name, "--kind", kind, "--repository", "acme/app", "--url", "https://hooks.acme.example:8443", "--forward-to", "jenkins")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.directory, "webhook-"+name+".secret")
		for _, want := range []string{"https://hooks.acme.example:8443/hooks/" + name + "-", file, "Events", "Pull request > Merged (", "Add this section"} {
			if !strings.Contains(fields, want) {
				t.Errorf("%s is missing in %s", want, fields)
			}
		}
		if secret := s.read(file); strings.Contains(out+fields, secret) {
			t.Error("the secret is printed")
		}
		if !strings.Contains(out, "kind: "+kind) || !strings.Contains(out, `forward_to: ["jenkins"]`) {
			t.Error(out)
		}
	}
}

// TestAddRefusesMistakes: nothing is left behind by a command that fails.
func TestAddRefusesMistakes(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	read := filepath.Join(s.directory, "read-token")
	s.write(read, "read-token")
	good := []string{"add", "policy", "--repository", "acme/egress-policy", "--url", "https://hooks.acme.example", "--action", "refresh_policy"}
	change := func(flag, value string) []string {
		a := append([]string{}, good...)
		for i := range a {
			if a[i] == flag {
				a[i+1] = value
				return a
			}
		}
		return append(a, flag, value)
	}
	for want, arguments := range map[string][]string{
		"is not a receiver's":       append([]string{"add", "Policy/.."}, good[2:]...),
		"is not of the form":        change("--repository", "acme"),
		"is not https://":           change("--url", "http://hooks.acme.example"),
		"sends the deliveries":      change("--url", "https://hooks.acme.example/path"),
		"did you mean":              change("--action", "refresh_polcy"),
		"--event \"repo:pushed\"":   change("--event", "repo:pushed"),
		"no event of --event":       change("--event", "repo:fork"),
		"would be denied":           append(change("--action", "refresh_names"), "--event", "project:updated"),
		"needs the scope webhook":   change("--token-file", read),
		"read the access token":     change("--token-file", filepath.Join(s.directory, "none")),
		"Bitbucket Cloud only":      append(change("--token-file", s.token), "--kind", "data_center"),
		"correct the repository's":  append(change("--repository", "acme/none"), "--token-file", s.token),
		"name an --action":          good[:len(good)-2],
		"with --forward-to":         change("--action", "forward"),
		"with --refresh-resource":   change("--action", "refresh_resource"),
		"is not NAME=URL":           change("--endpoint", "jenkins"),
		"without user information":  change("--endpoint", "jenkins=https://a:b@jenkins.example/"),
		"jenkins=agent":             change("--endpoint", "jenkins=ftp://jenkins.example/"),
		"the name is given twice":   append(change("--endpoint", "jenkins=agent"), "--endpoint", "jenkins=agent"),
		"did you mean atlassian":    change("--networks-from", "atlasian"),
		"keep one of the two":       append(change("--networks-from", "atlassian"), "--network", "192.0.2.0/24"),
		"whose other bits are zero": change("--network", "192.0.2.1/24"),
		"add repo:push, on Data":    {"add", "policy", "--repository", "acme/app", "--url", "https://hooks.acme.example", "--refresh-resource", "app", "--event", "repo:updated"},
		"exists: choose another na": change("--secret-file", s.token),
	} {
		if out, _, err := s.command(arguments...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v %s\nwant %s", arguments, err, out, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.directory, "*secret*")); err != nil || len(left) > 0 {
		t.Errorf("%v are left: %v", left, err)
	}
	if s.read(s.token) != "hooks-token" || len(s.hooks.Hooks()) != 0 {
		t.Error("something was changed")
	}
}

// TestAddWithEverything: what the command prints is a section that loads, with the new
// endpoints; names of the configuration that are misspelt are corrected.
func TestAddWithEverything(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	before := s.read(s.config)
	for _, c := range []struct {
		name      string
		arguments []string
		want      []string // of the section
		notes     string
	}{
		{"all", []string{"--action", "refresh_policy", "--action", "refresh_names", "--endpoint", "jenkins=https://jenkins.example/hook", "--endpoint", "kargo=agent", "--networks-from", "atlassian"},
			[]string{"actions: [refresh_policy, refresh_names]", `forward_to: ["jenkins", "kargo"]`, "networks_from: atlassian", `- {name: jenkins, url: "https://jenkins.example/hook"}`, "- {name: kargo, agent: true}", `"repo:updated"`}, ""},
		{"own-networks", []string{"--kind", "data_center", "--endpoint", "jenkins=agent", "--network", "192.0.2.0/24,2001:db8::/32"},
			[]string{`networks: ["192.0.2.0/24", "2001:db8::/32"]`, `events: ["pr:merged", "repo:refs_changed"]`}, ""},
		{"resource", []string{"--refresh-resource", "app"}, []string{`refresh_resources: ["app"]`, `"pullrequest:rejected"`}, "has no webhooks.resources: add app there"},
	} {
		out, notes, err := s.command(append([]string{"add", c.name, "--repository", "acme/app", "--url", "https://hooks.acme.example:8443"}, c.arguments...)...)
		if err != nil || !strings.Contains(notes, c.notes) || c.notes == "" && strings.Contains(notes, "note:") {
			t.Fatalf("%s: %v: %s", c.name, err, notes)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %s in\n%s", c.name, want, out)
			}
		}
		out = strings.Replace(out, "    tls: {certificate_file: tls/certificate.pem, key_file: tls/key.pem}\n", "", 1)
		out = strings.Replace(out, `":8443"`, `"127.0.0.1:8443"`, 1)
		if c.name == "resource" {
			s.write(filepath.Join(s.directory, "k8s"), "token")
			out += "  resources:\n    - {name: app, match: {repositories: [\"https://bitbucket.org/acme/app\"]}, kubernetes: {server: \"https://kubernetes.example:6443\", token_file: k8s, preset: kargo_warehouse, namespace: demo, name: app}}\n"
		}
		s.write(s.config, before+"\n"+out)
		cfg, err := config.Load(s.config)
		if err != nil || len(cfg.Webhooks.Receivers) != 1 {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
		if c.name == "all" {
			if _, notes, err := s.command("add", "three", "--repository", "acme/app", "--url", "https://hooks.acme.example:8443", "--forward-to", "jenkins"); err != nil || !strings.Contains(notes, "has a section webhooks") {
				t.Errorf("a second receiver: %v: %s", err, notes)
			}
			if _, _, err := s.command("rotate", "jenkins"); err == nil || !strings.Contains(err.Error(), `"jenkins" is an endpoint, and not a receiver: name one of all, or give --endpoint`) {
				t.Errorf("rotate an endpoint: %v", err)
			}
			for flag, want := range map[string]string{"--forward-to jenkns": "did you mean jenkins?", "--forward-to other": "want one of jenkins, kargo", "--endpoint jenkins=agent": "has an endpoint of that name"} {
				name, value, _ := strings.Cut(flag, " ")
				if _, _, err := s.command("add", "two", "--repository", "acme/app", "--url", "https://hooks.acme.example:8443", name, value); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v", flag, err)
				}
			}
		}
		s.write(s.config, before)
	}
}

// TestRotateEndpoint: deliveries have a signature with each secret until --drop.
func TestRotateEndpoint(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.add()
	secret, previous := filepath.Join(s.directory, "endpoint"), filepath.Join(s.directory, "endpoint-previous")
	old := newStandardSecret()
	s.write(secret, old+"\n")
	s.write(previous, unusedSecret()+"\n")
	s.write(s.config, s.read(s.config)+"\n  endpoints:\n    - {name: deployer, agent: true, sign: {secret_file: endpoint, previous_secret_file: endpoint-previous}}\n    - {name: jenkins, agent: true}\n")
	signatures := func() int {
		t.Helper()
		cfg, err := config.Load(s.config)
		if err != nil {
			t.Fatal(err)
		}
		sign := cfg.Webhooks.Endpoints[0].Sign
		signer, err := dispatch.NewSigner(dispatch.Form(sign.Form), sign.Secret.Read, sign.Previous.Read)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		if err := signer.Sign(h, "id", time.Now(), nil); err != nil {
			t.Fatal(err)
		}
		return len(strings.Fields(h.Get("Webhook-Signature")))
	}
	if n := signatures(); n != 1 {
		t.Errorf("%d signatures before the rotation", n)
	}
	out, _, err := s.command("rotate", "deployer", "--endpoint")
	if err != nil || s.read(previous) != old || s.read(secret) == old || signatures() != 2 || strings.Contains(out, s.read(secret)) {
		t.Errorf("%v: %s", err, out)
	}
	if _, _, err := s.command("rotate", "deployer", "--endpoint"); err == nil || !strings.Contains(err.Error(), "has not ended") || s.read(previous) != old {
		t.Errorf("another rotation: %v", err)
	}
	if _, _, err := s.command("rotate", "deployer", "--endpoint", "--drop"); err != nil || signatures() != 1 || s.read(previous) == old {
		t.Errorf("--drop: %v", err)
	}
	interrupted := s.read(secret) // both files have the old secret: the new one is not stored yet
	s.write(previous, interrupted+"\n")
	if _, _, err := s.command("rotate", "deployer", "--endpoint"); err != nil || s.read(previous) != interrupted || s.read(secret) == interrupted {
		t.Errorf("after an interruption: %v", err)
	}
	for want, arguments := range map[string][]string{
		"did you mean deployer?": {"rotate", "deploier", "--endpoint"}, "has no sign.previous_secret_file": {"rotate", "jenkins", "--endpoint"},
		"changes nothing in Bitbucket": {"rotate", "deployer", "--endpoint", "--token-file", s.token},
	} {
		if _, _, err := s.command(arguments...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", arguments, err)
		}
	}
}

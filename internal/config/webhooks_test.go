package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/webhook"
)

// endpointSecret is a secret of Standard Webhooks.
const endpointSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

const gitPolicy = `listeners: [{address: "127.0.0.1:3128"}]
` + goodIdentity + `policy: {git: {url: "https://bitbucket.org/acme/egress-policy.git"}}
audit: {embedded: true}
`

func TestWebhooks(t *testing.T) {
	t.Parallel()
	directory, file := newDirectory(t)
	for _, name := range []string{"secret", "previous", "other"} {
		writeFile(t, filepath.Join(directory, name), name+"-0123456789abcdef\n")
	}
	writeFile(t, filepath.Join(directory, "endpoint"), endpointSecret)
	got, err := Parse(file, []byte(gitPolicy+`webhooks:
  listener: {address: "127.0.0.1:8443"}
  receivers:
    - name: policy
      path: /hooks/policy-8f3a
      kind: cloud
      secret_file: secret
      previous_secret_file: previous
      repositories: ["{922E118C-f34f-4226-a897-0e0afbec553d}", acme/egress-policy]
      events: ["repo:push"]
      networks_from: atlassian
      actions: [refresh_policy]
      forward_to: [jenkins]
      refresh_resources: [app, deployer]
    - {name: server, path: /hooks/server, kind: data_center, secret_file: other, networks: [192.0.2.0/24], max_body_bytes: 1MiB, requests_per_second: 5}
  endpoints:
    - {name: jenkins, url: "https://jenkins.internal.example/hook?server_url=https%3A%2F%2Fbb.example", allow_networks: [10.20.0.0/16], sign: {secret_file: endpoint}}
    - {name: private, agent: true, timeout: 5s, retry_for: 1h}
  resources:
    - name: app
      match: {repositories: ["git@bitbucket.org:Acme/App.git", "ssh://git@bb.example:7999/prj/app.git"], branches: [main, "release/*"], tags: ["v*"]}
      kubernetes: {server: "https://kubernetes.default.svc", token_file: secret, allow_networks: [10.96.0.0/12], preset: kargo_warehouse, namespace: kargo-demo, name: app}
    - name: deployer
      match: {pull_requests: ["https://bitbucket.org/acme/deploy/pull-requests/*"]}
      endpoint: jenkins
      retry_for: 1h
    - name: custom
      match: {repositories: ["https://bitbucket.org/acme/app"]}
      kubernetes: {server: "https://10.0.0.1:6443", token_file: secret, allow_networks: [10.0.0.1/32], api_version: example.com/v1, resource: things, namespace: x, label_selector: "app in (web)", annotation: example.com/refresh, annotation_value: now}
      timeout: 3s
`))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name string) Secret { return Secret{file: filepath.Join(directory, name)} }
	jenkins, _ := url.Parse("https://jenkins.internal.example/hook?server_url=https%3A%2F%2Fbb.example")
	want := &Webhooks{
		Listener: WebhookListener{Listener: Listener{Address: "127.0.0.1:8443"}, MaxConnections: 2000, MaxPerClient: 200},
		Receivers: []WebhookReceiver{
			{
				Name: "policy", Path: "/hooks/policy-8f3a", Kind: webhook.Cloud, Secret: secret("secret"), Previous: secret("previous"),
				Repositories: []string{"922e118c-f34f-4226-a897-0e0afbec553d", "acme/egress-policy"}, Events: []string{"repo:push"},
				MaxBodyBytes: 2 << 20, NetworksFrom: NetworksAtlassian, NetworksMaxAge: 168 * time.Hour,
				Actions: []webhook.Action{webhook.RefreshPolicy}, ForwardTo: []string{"jenkins"}, RefreshResources: []string{"app", "deployer"}, RequestsPerSecond: 50,
			},
			{
				Name: "server", Path: "/hooks/server", Kind: webhook.DataCenter, Secret: secret("other"), MaxBodyBytes: 1 << 20,
				Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, NetworksMaxAge: 168 * time.Hour, RequestsPerSecond: 5,
			},
		},
		Endpoints: []WebhookEndpoint{
			{
				Name: "jenkins", URL: jenkins, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}, Timeout: 10 * time.Second, RetryFor: 24 * time.Hour,
				Sign: &WebhookSigning{Secret: secret("endpoint"), Form: SignStandardWebhooks},
			},
			{Name: "private", Agent: true, Timeout: 5 * time.Second, RetryFor: time.Hour},
		},
		Resources: []WebhookResource{
			{
				Name: "app", Timeout: 10 * time.Second, RetryFor: 24 * time.Hour,
				Match: WebhookMatch{Repositories: []string{"bitbucket.org/acme/app", "bb.example:7999/prj/app"}, Branches: []string{"main", "release/*"}, Tags: []string{"v*"}},
				Kubernetes: &WebhookKubernetes{
					Server: &url.URL{Scheme: "https", Host: "kubernetes.default.svc"}, Token: secret("secret"), AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
					Preset: "kargo_warehouse", Namespace: "kargo-demo", Object: "app",
				},
			},
			{Name: "deployer", Match: WebhookMatch{PullRequests: []string{"https://bitbucket.org/acme/deploy/pull-requests/*"}}, Endpoint: "jenkins", Timeout: 10 * time.Second, RetryFor: time.Hour},
			{
				Name: "custom", Timeout: 3 * time.Second, RetryFor: 24 * time.Hour, Match: WebhookMatch{Repositories: []string{"bitbucket.org/acme/app"}},
				Kubernetes: &WebhookKubernetes{
					Server: &url.URL{Scheme: "https", Host: "10.0.0.1:6443"}, Token: secret("secret"), AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, APIVersion: "example.com/v1", Resource: "things", Namespace: "x",
					Selector: "app in (web)", Annotation: "example.com/refresh", AnnotationValue: "now",
				},
			},
		},
		BodyMaxAge: 168 * time.Hour,
	}
	if diff := cmp.Diff(want, got.Webhooks, cmp.AllowUnexported(Secret{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("webhooks (-want +got):\n%s", diff)
	}
	if len(got.Warnings()) > 0 {
		t.Errorf("warnings: %v", got.Warnings())
	}
	app, custom := got.Webhooks.Resources[0].Kubernetes.Target(), got.Webhooks.Resources[2].Kubernetes.Target()
	if app.APIVersion != "kargo.akuity.io/v1alpha1" || app.Resource != "warehouses" || app.Annotation != "kargo.akuity.io/refresh" || app.Name != "app" {
		t.Errorf("preset: %+v", app)
	}
	if custom.APIVersion != "example.com/v1" || custom.Selector != "app in (web)" || custom.Value != "now" {
		t.Errorf("without a preset: %+v", custom)
	}
	for i := range got.Webhooks.Resources {
		if m := got.Webhooks.Resources[i].Match.Compile(); len(m.Branches)+len(m.Tags)+len(m.PullRequests) != []int{3, 1, 0}[i] {
			t.Errorf("match of resource %d: %+v", i, m)
		}
	}
}

// TestUnusedPreviousSecret: a line that marks a previous secret as not in use is accepted
// there, however short, and nowhere else.
func TestUnusedPreviousSecret(t *testing.T) {
	t.Parallel()
	directory, file := newDirectory(t)
	writeFile(t, filepath.Join(directory, "secret"), "0123456789abcdef")
	writeFile(t, filepath.Join(directory, "unused"), "unused-\n")
	text := gitPolicy + "webhooks:\n  listener: {address: \"127.0.0.1:8443\"}\n  receivers:\n    - {name: a, path: /a, kind: cloud, secret_file: secret, previous_secret_file: unused}\n"
	if got, err := Parse(file, []byte(text)); err != nil || len(got.Warnings()) > 0 {
		t.Errorf("as the previous secret: %v, %v", got, err)
	}
	text = strings.Replace(text, "secret_file: secret, previous_secret_file: unused", "secret_file: unused", 1)
	if _, err := Parse(file, []byte(text)); err == nil || !strings.Contains(err.Error(), "the secret begins with unused-") {
		t.Errorf("as the secret: %v", err)
	}
}

// TestDataCenterPolicyRepository: a receiver of Data Center that does not list the policy's
// repository is named, unless the repository may be a mirror.
func TestDataCenterPolicyRepository(t *testing.T) {
	t.Parallel()
	directory, file := newDirectory(t)
	for _, name := range []string{"secret", "key", "hosts"} {
		writeFile(t, filepath.Join(directory, name), "0123456789abcdef")
	}
	for url, want := range map[string]string{
		"https://bb.example/scm/sec/egress-policy.git":           "",
		"https://bb.example/bitbucket/scm/sec/egress-polcy.git":  `the receiver does not list the policy repository "sec/egress-polcy"`,
		"ssh://git@bb.example:7999/sec/other.git":                `"sec/other"`,
		"ssh://git@bb.example:7999/SEC/egress-policy.git":        "",
		"https://mirror.example/git/egress.git":                  "",
		"https://bitbucket.org/acme/egress-policy.git":           "",
		"ssh://git@mirror.example/srv/git/mirrors/sec/other.git": "",
	} {
		git := "url: \"" + url + "\""
		if strings.HasPrefix(url, "ssh") {
			git += ", ssh_key_file: key, known_hosts_file: hosts"
		}
		got, err := Parse(file, []byte(strings.Replace(gitPolicy, `url: "https://bitbucket.org/acme/egress-policy.git"`, git, 1)+"webhooks:\n  listener: {address: \"127.0.0.1:8443\"}\n  receivers:\n"+
			"    - {name: a, path: /a, kind: data_center, secret_file: secret, repositories: [SEC/egress-policy], actions: [refresh_policy]}\n"))
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if w := got.Warnings(); want == "" && len(w) > 0 || want != "" && (len(w) != 1 || !strings.Contains(w[0].String(), want)) {
			t.Errorf("%s: %v, want %q", url, w, want)
		}
	}
}

// TestWebhookMatchWarnings: a resource that no delivery can match is named.
func TestWebhookMatchWarnings(t *testing.T) {
	t.Parallel()
	directory, file := newDirectory(t)
	writeFile(t, filepath.Join(directory, "secret"), "0123456789abcdef")
	for name, c := range map[string]struct{ receiver, match, want string }{
		"a misspelled workspace":      {``, `{repositories: ["https://bitbucket.org/amce/app"]}`, `the workspace "amce" is not configured; did you mean "acme"?`},
		"that of a pull request":      {``, `{pull_requests: ["https://bitbucket.org/amce/app/pull-requests/*"]}`, `the workspace "amce" is not configured; did you mean "acme"?`},
		"a misspelled host":           {`, kind: data_center`, `{repositories: ["git@bitbucket.ogr:acme/app.git"]}`, `the host "bitbucket.ogr" is not Bitbucket Cloud; did you mean "bitbucket.org"?`},
		"another product":             {``, `{repositories: ["ssh://git@bb.example:7999/prj/app.git"]}`, `the resource "app" matches no repository of kind cloud; correct the receiver's kind, or the resource's match`},
		"a repository not listed":     {`, repositories: [acme/other]`, `{repositories: ["https://bitbucket.org/acme/app.git"]}`, `the receiver lists no repository that the resource "app" matches`},
		"a branch with a remote":      {``, `{repositories: ["https://bitbucket.org/acme/app"], branches: [origin/main]}`, `the names of branches and tags in deliveries have no origin/ before them; write "main"`},
		"every connection to one":     {`, max: 2000`, `{repositories: ["https://bitbucket.org/acme/app"]}`, "one address can have all 2000 connections"},
		"nothing":                     {`, repositories: [acme/other, acme/app]`, `{repositories: ["ssh://git@bitbucket.org/acme/app"]}`, ""},
		"a UUID may be any":           {`, repositories: [922e118c-f34f-4226-a897-0e0afbec553d]`, `{repositories: ["https://bitbucket.org/acme/app"]}`, ""},
		"a pattern of all workspaces": {``, `{pull_requests: ["https://bitbucket.org/*/app/pull-requests/*"]}`, ""},
	} {
		receiver, listener := c.receiver, ""
		if receiver, ok := strings.CutSuffix(receiver, ", max: 2000"); ok {
			c.receiver, listener = receiver, ", max_connections_per_client: 2000"
		}
		if receiver = c.receiver; !strings.Contains(receiver, "kind") {
			receiver += ", kind: cloud"
		}
		got, err := Parse(file, []byte(gitPolicy+"webhooks:\n  listener: {address: \"127.0.0.1:8443\""+listener+"}\n  receivers:\n    - {name: a, path: /a, secret_file: secret, refresh_resources: [app]"+receiver+
			"}\n  endpoints:\n    - {name: x, url: \"https://ci.example/\"}\n  resources:\n    - {name: app, endpoint: x, match: "+c.match+"}\n"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if w := got.Warnings(); c.want == "" && len(w) > 0 || c.want != "" && (len(w) != 1 || !strings.Contains(w[0].String(), c.want)) {
			t.Errorf("%s: warnings %v, want %q", name, w, c.want)
		}
	}
}

// TestWebhookWarnings: each of these is accepted, and named.
func TestWebhookWarnings(t *testing.T) {
	t.Parallel()
	directory, file := newDirectory(t)
	writeFile(t, filepath.Join(directory, "secret"), "0123456789abcdef")
	writeFile(t, filepath.Join(directory, "short"), "swordfish")
	writeFile(t, filepath.Join(directory, "endpoint"), endpointSecret)
	for name, c := range map[string]struct{ receiver, endpoint, want string }{
		"a short secret":            {`secret_file: short`, ``, "the secret has only 9 bytes"},
		"the same secret twice":     {`secret_file: secret, previous_secret_file: secret`, ``, "it has the same secret as secret_file"},
		"every network":             {`secret_file: secret, networks: [0.0.0.0/0]`, ``, "it contains every address"},
		"without the policy":        {`secret_file: secret, repositories: [acme/egress-polcy], actions: [refresh_policy]`, ``, `does not list the policy repository "acme/egress-policy"`},
		"without encryption":        {`secret_file: secret`, `{name: x, url: "http://ci.example/"}`, "without encryption"},
		"an exception for all":      {`secret_file: secret`, `{name: x, url: "https://ci.example/", allow_networks: ["::/0"]}`, "it contains every address"},
		"an exception too many":     {`secret_file: secret`, `{name: x, url: "https://ci.example/", allow_networks: ["103.20.0.0/16"]}`, "the network 103.20.0.0/16 is public, and needs no exception; correct it, or remove it"},
		"a private address":         {`secret_file: secret`, `{name: x, url: "https://10.1.2.3/", allow_networks: [10.2.0.0/16]}`, `the private address 10.1.2.3: no delivery is sent to it; add it: allow_networks: ["10.1.2.3/32"]`},
		"this machine by its name":  {`secret_file: secret`, `{name: x, url: "https://localhost/"}`, `the private address 127.0.0.1: no delivery is sent to it`},
		"an endpoint's one secret":  {`secret_file: secret`, `{name: x, url: "https://ci.example/", sign: {secret_file: endpoint, previous_secret_file: endpoint}}`, "it has the same secret as secret_file"},
		"an endpoint's weak secret": {`secret_file: secret`, `{name: x, url: "https://ci.example/", sign: {secret_file: short, form: hub_signature}}`, "the secret has only 9 bytes"},
		"a receiver's secret":       {`secret_file: secret`, `{name: x, url: "https://ci.example/", sign: {secret_file: secret, form: hub_signature}}`, "the endpoint could sign deliveries to Sallyport with it"},
		"a misspelt workspace":      {`secret_file: secret, repositories: [amce/app]`, ``, `webhooks.receivers[0].repositories[0]: the workspace "amce" is not configured; did you mean "acme"?`},
		"another workspace":         {`secret_file: secret, repositories: [partner/app]`, ``, `the workspace "partner" is not configured; the configured workspaces are acme: correct it, unless`},
		"a repository twice":        {`secret_file: secret, repositories: [acme/app, Acme/App]`, ``, "it is the same repository as repositories[0]"},
		"another's secret":          {"secret_file: secret}\n    - {name: b, path: /b, kind: cloud, secret_file: secret", ``, "webhooks.receivers[1].secret_file: it has the same secret as webhooks.receivers[0]"},
	} {
		text := gitPolicy + "webhooks:\n  listener: {address: \"127.0.0.1:8443\"}\n  receivers:\n    - {name: a, path: /a, kind: cloud, " + c.receiver + "}\n"
		if c.endpoint != "" {
			text += "  endpoints:\n    - " + c.endpoint + "\n"
		}
		got, err := Parse(file, []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if w := got.Warnings(); len(w) != 1 || !strings.Contains(w[0].String(), c.want) || strings.Contains(w[0].String(), "swordfish") {
			t.Errorf("%s: warnings %v", name, w)
		}
	}
}

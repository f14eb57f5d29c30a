package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDefaults(t *testing.T) {
	directory, file := newDirectory(t)
	got, err := Parse(file, []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listeners: []Listener{{Address: "127.0.0.1:3128"}},
		Admin:     Admin{Address: "127.0.0.1:9128"},
		Identity: Identity{
			Bitbucket: []Bitbucket{{
				Workspace:     "acme",
				WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d",
				Issuer:        "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
				Audiences:     []string{"https://egress.acme.example"},
			}},
			Leeway: 30 * time.Second, NameLookupTimeout: 5 * time.Second, OnExpiry: ExpiryKeep, ExpiryGrace: time.Minute,
			MaxLifetime: 12 * time.Hour, JWKSMaxAge: 24 * time.Hour, NameCacheMaxAge: 24 * time.Hour,
		},
		Policy: Policy{Directory: directory, EvaluationTimeout: time.Second, DecisionCache: 64 << 20, Workers: PolicyWorkers{MaxMemory: 256 << 20, MaxQueued: 256, QueueTimeout: 10 * time.Second}, Approvals: Approvals{Enabled: true, Deadline: 24 * time.Hour}, ExceptionExpiryWarning: 7 * 24 * time.Hour, RepositoryFailure: RepositoryKeepPrevious},
		Audit: Audit{Embedded: true, OnOutage: OutageDeny, MaxJournalBytes: 256 << 20, JournalMaxAge: 24 * time.Hour, Checkpoints: Checkpoints{Interval: 5 * time.Second},
			Reconciliation: Reconciliation{Enabled: true, Interval: 6 * time.Hour, Lookback: 30 * 24 * time.Hour, GracePeriod: 15 * time.Minute, RequestsPerHour: 200}},
		Egress: Egress{
			ConnectTimeout: 10 * time.Second,
			Tunnel:         Tunnel{IdleTimeout: 10 * time.Minute, MaxLifetime: 2 * time.Hour, HelloTimeout: 5 * time.Second},
		},
		Limits: Limits{MaxHeaderBytes: 64 << 10, ReadHeaderTimeout: 10 * time.Second, MaxConnections: 20000, MaxIdlePerClient: 1000, QueueTimeout: 5 * time.Second, RecordedRefusalsPerSecond: 5, RepeatsInterval: time.Minute,
			Step:       Limit{Tunnels: 500, RequestsPerSecond: 200, QueuedRequests: 200, PendingHeaderBytes: 4 << 20, Lookups: 32, Dials: 125},
			Repository: Limit{Tunnels: 4000, RequestsPerSecond: 1000, QueuedRequests: 1000, PendingHeaderBytes: 16 << 20, Lookups: 64, Dials: 250},
			Total:      Limit{Tunnels: 16000, QueuedRequests: 4000, PendingHeaderBytes: 64 << 20, Lookups: 256, Dials: 1000}},
		SelfTest:      SelfTest{Interval: 24 * time.Hour},
		Shutdown:      Shutdown{DrainTimeout: 30 * time.Second},
		Log:           Log{Format: FormatJSON, Level: slog.LevelInfo},
		DataDirectory: filepath.Join(directory, "sallyport-data"),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{}), cmp.AllowUnexported(Secret{})); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if len(got.Warnings()) > 0 {
		t.Errorf("warnings: %v", got.Warnings())
	}
}

// TestEveryKey gives every key that this version has a value other than its default.
func TestEveryKey(t *testing.T) {
	directory, file := newDirectory(t)
	for _, name := range []string{"token", "database", "migration"} {
		writeFile(t, filepath.Join(directory, name), name+"-secret\n")
	}
	writeFile(t, filepath.Join(directory, "via"), "user:via-secret\n")
	certificate, key := newCertificate(t, testCertificate{})
	writeFile(t, filepath.Join(directory, "c.pem"), certificate)
	writeFile(t, filepath.Join(directory, "k.pem"), key)
	cfg, err := Parse(file, []byte(`# every key
listeners:
  - {address: "0.0.0.0:3128", plaintext: true}
  - address: ":3129"
    tls: {certificate_file: c.pem, key_file: k.pem}
  - address: "[::1]:0"
admin: {address: ":9128", allow_non_loopback: true}
identity:
  leeway: 0s
  name_lookup_timeout: 2s
  max_lifetime: 2h
  jwks_max_age: 48h
  name_cache_max_age: 12h
  expired_token_grace_period: 8h
  on_expiry: close
  expiry_grace: 30s
  bitbucket:
    - workspace: acme
      workspace_uuid: 922e118c-f34f-4226-a897-0e0afbec553d
      issuer: http://127.0.0.1:8080/workspaces/acme/oidc
      audiences: [one, two]
      api: {url: "http://[::1]:8080/2.0", token_file: token}
policy: {directory: ., evaluation_timeout: 250ms}
audit: {database_url_file: database, migration_url_file: `+directory+`/migration, on_outage: deny}
egress:
  resolvers: ["10.0.0.2:53", "[2001:db8::2]:5353"]
  allow_networks: [10.1.0.0/16, "2001:db8::/32"]
  deny_networks: [192.0.2.1/32]
  connect_timeout: 3s
  upstream_proxies:
    - {proxy: "https://proxy.acme.example:3129", hosts: ["*.partner.example", partner.example, 192.0.2.1], except: [direct.partner.example], dns: upstream, credential_file: via, ca_file: c.pem}
    - proxy: http://10.0.0.3:3128/
  tunnel: {idle_timeout: 1m, max_lifetime: 1h, hello_timeout: 2s}
limits: {max_header_bytes: 20480, read_header_timeout: 5s}
shutdown: {drain_timeout: 1h}
log: {format: text, level: debug}
data_directory: /nonexistent/../var/lib/sallyport-test
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Listeners; got[0].Address != "0.0.0.0:3128" || got[1].TLS.KeyFile != filepath.Join(directory, "k.pem") || got[2].Address != "[::1]:0" {
		t.Errorf("listeners: %+v", got)
	}
	if got := cfg.Egress.Resolvers[1]; got != netip.MustParseAddrPort("[2001:db8::2]:5353") {
		t.Errorf("resolver: %v", got)
	}
	if got := cfg.Egress.UpstreamProxies; got[0].Proxy.Host != "proxy.acme.example:3129" || !got[0].Hosts[0].Matches("a.partner.example") || got[0].DNS != DNSUpstream ||
		got[0].CAFile != filepath.Join(directory, "c.pem") || len(got[0].Except) != 1 || got[1].Hosts != nil || got[1].DNS != DNSLocal {
		t.Errorf("via: %+v", got)
	}
	if got, err := cfg.Egress.UpstreamProxies[0].Credential.Read(); got != "user:via-secret" || err != nil {
		t.Errorf("the upstream's credential: %q, %v", got, err)
	}
	if got := cfg.Egress.AllowNetworks[1]; got != netip.MustParsePrefix("2001:db8::/32") {
		t.Errorf("network: %v", got)
	}
	api := cfg.Identity.Bitbucket[0].API
	if api.URL.Host != "[::1]:8080" {
		t.Errorf("API: %v", api.URL)
	}
	for want, secret := range map[string]Secret{"token-secret": api.Token, "database-secret": cfg.Audit.Database, "migration-secret": cfg.Audit.Migration} {
		if got, err := secret.Read(); got != want || err != nil {
			t.Errorf("%v: got %q, %v", secret, got, err)
		}
	}
	if i := cfg.Identity; i.ExpiredTokenGracePeriod != 8*time.Hour || i.OnExpiry != ExpiryClose || i.ExpiryGrace != 30*time.Second {
		t.Errorf("identity: %+v", i)
	}
	if cfg.Identity.Leeway != 0 || cfg.Limits.MaxHeaderBytes != 20480 || cfg.Log.Level != slog.LevelDebug || cfg.DataDirectory != "/var/lib/sallyport-test" {
		t.Errorf("configuration: %+v", cfg)
	}
	if len(cfg.Warnings()) > 0 {
		t.Errorf("warnings: %v", cfg.Warnings())
	}
}

func TestGit(t *testing.T) {
	directory, file := newDirectory(t)
	for _, name := range []string{"key", "hosts", "signers"} {
		writeFile(t, filepath.Join(directory, name), "k\n")
	}
	with := func(policy string) (*Config, error) {
		return Parse(file, []byte(strings.Replace(minimal, "{directory: .}", policy, 1)))
	}
	cfg, err := with(`{git: {url: "ssh://git@bitbucket.org/acme/policy.git", path: egress/, ssh_key_file: key, known_hosts_file: hosts, allowed_signers_file: signers}, candidate: {branch: next}}`)
	if err != nil {
		t.Fatal(err)
	}
	g := cfg.Policy.Git
	if g.URL.String() != "ssh://git@bitbucket.org/acme/policy.git" || g.Branch != "main" || g.Path != "egress" || g.PollInterval != time.Minute ||
		g.SSHKeyFile != filepath.Join(directory, "key") || g.AllowedSignersFile == "" || g.NonFastForward != NonFastForwardReject || cfg.Policy.Candidate.Branch != "next" {
		t.Errorf("git: %+v", g)
	}
	cfg, err = with(`{git: {url: "https://bitbucket.org/acme/policy.git", tag: in-force, credentials_file: key, non_fast_forward: allow}}`)
	if err != nil {
		t.Fatal(err)
	}
	if g := cfg.Policy.Git; g.Tag != "in-force" || g.Branch != "" || g.Credentials.IsZero() || g.User != "x-token-auth" || g.NonFastForward != NonFastForwardAllow {
		t.Errorf("git: %+v", g)
	}
	for policy, want := range map[string]string{
		`{git: {url: "ssh://git@a.example/p.git"}}`:                                       "policy.git.ssh_key_file: the key is required",
		`{git: {url: "ssh://git@a.example/p.git", credentials_file: key}}`:                "policy.git.credentials_file: the key does not go with",
		`{git: {url: "https://a.example/p.git", known_hosts_file: hosts}}`:                "policy.git.known_hosts_file: the key does not go with",
		`{git: {url: "https://a.example/p.git", branch: a, tag: b}}`:                      "policy.git.tag: policy.git.branch is given too",
		`{git: {url: "https://a.example/p.git"}, candidate: {branch: main}}`:              "policy.candidate.branch: it is the branch that decides",
		`{git: {url: "https://a.example/p.git"}, candidate: {branch: a, directory: "."}}`: "policy.candidate: give exactly one",
		`{directory: ".", candidate: {branch: a}}`:                                        "policy.candidate.branch: there is no policy.git",
		`{directory: ".", candidate: {}}`:                                                 "policy.candidate: give exactly one",
		`{directory: ".", approvals: {repository: acme/policy}}`:                          "policy.approvals.repository: a policy directory has no pull requests",
		`{git: {url: "https://a.example/p.git"}, approvals: {repository: beta/policy}}`:   "policy.approvals.repository: the workspace beta is not configured",
		`{git: {url: "https://a.example/p.git"}, approvals: {repository: acme/policy}}`:   "policy.approvals.repository: the workspace acme has no API",
		`{git: {url: "https://a.example/p.git"}, approvals: {repository: "acme/../x"}}`:   "policy.approvals.repository: want a repository",
		`{git: {url: "https://a.example/p.git"}, approvals: {repo: acme/policy}}`:         "policy.approvals.repo: unknown key",
	} {
		if _, err := with(policy); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", policy, err, want)
		}
	}
}

// TestBitbucketRepository: the URL names the repository on bitbucket.org only, and
// policy.approvals.repository overrides it.
func TestBitbucketRepository(t *testing.T) {
	for _, c := range []struct{ url, named, want string }{
		{"https://bitbucket.org/acme/egress-policy.git", "", "acme/egress-policy"},
		{"https://bitbucket.org/Acme/Egress-Policy", "", "acme/egress-policy"},
		{"ssh://git@bitbucket.org/acme/policy.git", "", "acme/policy"},
		{"https://bitbucket.org/acme/policy.git", "acme/other", "acme/other"},
		{"https://git.acme.example/acme/policy.git", "", ""},
		{"https://git.acme.example/mirror.git", "acme/policy", "acme/policy"},
		{"https://bitbucket.org/policy.git", "", ""},
		{"https://bitbucket.org/acme/a/b.git", "", ""},
		{"https://bitbucket.org.evil.example/acme/policy.git", "", ""},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		p := Policy{Git: &Git{URL: u}, Approvals: Approvals{Repository: c.named}}
		workspace, name, ok := p.BitbucketRepository()
		if got := workspace + "/" + name; ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s, %q: %q, %v", c.url, c.named, got, ok)
		}
	}
	if _, _, ok := (&Policy{Approvals: Approvals{Repository: "acme/policy"}}).BitbucketRepository(); ok {
		t.Error("a directory has a repository")
	}
}

func TestDatabaseFromEnvironment(t *testing.T) {
	directory, file := newDirectory(t)
	writeFile(t, filepath.Join(directory, "migration"), "x")
	t.Setenv("SALLYPORT_TEST_DATABASE_URL", "postgres://db.example/x")
	cfg, err := Parse(file, []byte(strings.Replace(minimal, "{embedded: true}",
		"{database_url_env: SALLYPORT_TEST_DATABASE_URL, migration_url_file: migration}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cfg.Audit.Database.Read(); got != "postgres://db.example/x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWarnings(t *testing.T) {
	directory, file := newDirectory(t)
	write := func(name, text string, mode os.FileMode) {
		writeFile(t, filepath.Join(directory, name), text)
		if err := os.Chmod(filepath.Join(directory, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	ended, key := newCertificate(t, testCertificate{ends: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), begins: time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)})
	write("c.pem", ended, 0o600)
	write("k.pem", key, 0o644)
	write("token", "x", 0o604)
	write("database", "x", 0o640)
	cfg, err := Parse(file, []byte(`listeners:
  - address: "127.0.0.1:3129"
    tls: {certificate_file: c.pem, key_file: k.pem}
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: 922e118c-f34f-4226-a897-0e0afbec553d
      issuer: https://api.bitbucket.org/2.0/workspaces/other/pipelines-config/identity/oidc/
      audiences: ["ari:cloud:bitbucket::workspace/922e118c-f34f-4226-a897-0e0afbec553d"]
      api: {token_file: token}
policy: {directory: .}
audit:
  database_url_file: database
  migration_url_file: not-for-us
egress:
  allow_networks: [0.0.0.0/0]
  tunnel: {idle_timeout: 3h}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range cfg.Warnings() {
		got = append(got, strings.ReplaceAll(w.String(), directory, "DIR"))
	}
	want := []string{
		"DIR/sallyport.yaml:3:29: listeners[0].tls.certificate_file: the certificate ended on 2020-01-02T03:04:05Z: clients will refuse it; renew it",
		"DIR/sallyport.yaml:3:46: listeners[0].tls.key_file: every user of this machine can read the secret (mode 0644); chmod o-r",
		"DIR/sallyport.yaml:8:15: identity.bitbucket[0].issuer: the issuer ends with a slash, which Bitbucket's do not; it is compared exactly; remove it unless the OpenID Connect page of the workspace shows it",
		`DIR/sallyport.yaml:8:15: identity.bitbucket[0].issuer: the issuer names the workspace "other", and workspace is "acme"; compare it with the workspace's OpenID Connect page`,
		"DIR/sallyport.yaml:9:19: identity.bitbucket[0].audiences[0]: this is Bitbucket's default audience: a token made for any other service is accepted here too, and the other way round; choose one of your own, such as https://egress.acme.example, and ask for it in the step's oidc.audiences",
		"DIR/sallyport.yaml:10:25: identity.bitbucket[0].api.token_file: every user of this machine can read the secret (mode 0604); chmod o-r",
		"DIR/sallyport.yaml:14:23: audit.migration_url_file: the file does not exist; that is right where only `sallyport migrate` may read it, which will need it",
		"DIR/sallyport.yaml:16:20: egress.allow_networks[0]: this excepts every address from the ranges that are always refused, loopback and metadata services included; name the networks that are meant",
		"DIR/sallyport.yaml:17:26: egress.tunnel.idle_timeout: it is longer than egress.tunnel.max_lifetime (2h) and so never used",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "gone.yaml"))
	errs, ok := errors.AsType[Errors](err)
	if !ok || len(errs) != 1 || errs[0].Line != 0 || !strings.HasSuffix(err.Error(), "gone.yaml: the configuration cannot be read: file does not exist; correct the name after -c FILE or in SALLYPORT_CONFIG, or make the file") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: got %v", err)
	}
}

// TestMismatchedKey gives a listener the key of another certificate.
func TestMismatchedKey(t *testing.T) {
	directory, file := newDirectory(t)
	certificate, _ := newCertificate(t, testCertificate{})
	_, key := newCertificate(t, testCertificate{})
	writeFile(t, filepath.Join(directory, "c.pem"), certificate)
	writeFile(t, filepath.Join(directory, "k.pem"), key)
	_, err := Parse(file, []byte(strings.Replace(minimal, `{address: "127.0.0.1:3128"}`,
		`{address: ":3129", tls: {certificate_file: c.pem, key_file: k.pem}}`, 1)))
	if err == nil || !strings.Contains(err.Error(), "sallyport.yaml:1:37: listeners[0].tls: the certificate and its key cannot be used: tls: private key does not match public key") {
		t.Errorf("got %v", err)
	}
}

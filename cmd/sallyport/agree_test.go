package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// soundConfiguration is one that serve accepts, up to its database, where nothing listens.
const soundConfiguration = `listeners:
  - address: "127.0.0.1:0"
    tls: {certificate_file: cert.pem, key_file: key.pem}
admin: {address: "127.0.0.1:0"}
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d"
      issuer: "http://127.0.0.1:1/oidc"
      audiences: [proxy.acme.example]
      api: {url: "http://127.0.0.1:1/2.0", token_file: token}
policy:
  directory: policy
audit:
  database_url_file: url
  migration_url_file: migration
  signing_key_file: signing-key
egress:
  connect_timeout: 5s
limits:
  max_connections: 100
shutdown: {drain_timeout: 1s}
log: {level: info}
data_directory: data
`

// faulty is a folder with a configuration and the files that it names.
type faulty struct {
	t      *testing.T
	folder string
}

func (f faulty) write(name, text string) {
	path := filepath.Join(f.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f faulty) read(name string) string {
	text, err := os.ReadFile(filepath.Join(f.folder, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

func (f faulty) remove(name string) {
	if err := os.RemoveAll(filepath.Join(f.folder, name)); err != nil {
		f.t.Fatal(err)
	}
}

// edited changes the configuration.
func edited(old, with string) func(faulty) {
	return func(f faulty) {
		text := f.read("sallyport.yaml")
		if !strings.Contains(text, old) {
			f.t.Fatalf("no %q in the configuration", old)
		}
		f.write("sallyport.yaml", strings.Replace(text, old, with, 1))
	}
}

func file(name, text string) func(faulty) { return func(f faulty) { f.write(name, text) } }
func gone(name string) func(faulty)       { return func(f faulty) { f.remove(name) } }

// keyPair makes a certificate of its own and its key, in PEM.
func keyPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"proxy.acme.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func newFaulty(t *testing.T) faulty {
	// A short path: the control socket's has at most 107 bytes (unix(7)), and the
	// names of these tests are long.
	directory, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	f := faulty{t, directory}
	certificate, key := keyPair(t)
	signing, err := audit.GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"sallyport.yaml": soundConfiguration, "cert.pem": certificate, "key.pem": key, "token": "access-token\n", "signing-key": signing + "\n",
		"url": "postgres://sallyport_writer:secret@127.0.0.1:1/sallyport?connect_timeout=1\n", "migration": "postgres://migrator@127.0.0.1:1/sallyport",
		"policy/egress/a.rego": "package sallyport.egress\n\nallow contains {\"rule\": \"a\"} if input.target.host == \"a.example\"\n",
	} {
		f.write(name, text)
	}
	return f
}

const secondWorkspace = `      api: {url: "http://127.0.0.1:1/2.0", token_file: token}
    - {workspace: other, workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d", issuer: "http://127.0.0.1:1/oidc", audiences: [x]}
`

// faults are configurations that neither serve nor `config check` accepts, each with a
// part of the message.
var faults = []struct {
	name  string
	spoil func(faulty)
	says  string
}{
	{"unknown key", edited("log: {level: info}", "logs: {level: info}"), `did you mean "log"?`},
	{"key of another section", edited("  connect_timeout: 5s", "  level: info"), "egress.level"},
	{"duplicate key", edited("shutdown: {drain_timeout: 1s}", "shutdown: {drain_timeout: 1s}\nshutdown: {drain_timeout: 2s}"), "shutdown"},
	{"tab", edited("  directory: policy", "\tdirectory: policy"), "sallyport.yaml:13:1: a tab"},
	{"empty file", file("sallyport.yaml", ""), "the file is empty"},
	{"not YAML", file("sallyport.yaml", "{{{{"), "sallyport.yaml:1"},
	{"a list", file("sallyport.yaml", "- a\n"), "sallyport.yaml:1"},
	{"UTF-16", file("sallyport.yaml", "\xff\xfel\x00i\x00s\x00t\x00"), "UTF-16"},
	{"NUL byte", edited("log: {level: info}", "log: {level: info}\n\x00"), "U+0000 is not allowed"},
	{"no listeners", edited("listeners:\n  - address: \"127.0.0.1:0\"\n    tls: {certificate_file: cert.pem, key_file: key.pem}\n", ""), "listeners"},
	{"listener off loopback without TLS", edited("127.0.0.1:0\"\n    tls: {certificate_file: cert.pem, key_file: key.pem}", "0.0.0.0:3128\""), "without TLS"},
	{"TLS and plaintext", edited("    tls:", "    plaintext: true\n    tls:"), "is not plaintext"},
	{"port out of range", edited("admin: {address: \"127.0.0.1:0\"}", "admin: {address: \"127.0.0.1:70000\"}"), "admin.address"},
	{"host name as address", edited("admin: {address: \"127.0.0.1:0\"}", "admin: {address: \"localhost:9128\"}"), "admin.address"},
	{"IPv6 without brackets", edited("admin: {address: \"127.0.0.1:0\"}", "admin: {address: \"::1:9128\"}"), "admin.address"},
	{"admin off loopback", edited("admin: {address: \"127.0.0.1:0\"}", "admin: {address: \":9128\"}"), "not on loopback"},
	{"two listeners on one address", edited("admin: {address: \"127.0.0.1:0\"}", "  - {address: \"127.0.0.1:3199\"}\n  - {address: \"127.0.0.1:3199\"}\n"), "cannot listen beside"},
	{"no certificate", gone("cert.pem"), "certificate_file"},
	{"no key", gone("key.pem"), "key_file"},
	{"certificate and key swapped", func(f faulty) {
		certificate, key := f.read("cert.pem"), f.read("key.pem")
		f.write("cert.pem", key)
		f.write("key.pem", certificate)
	}, "listeners[0].tls"},
	{"key of another certificate", func(f faulty) { _, key := keyPair(f.t); f.write("key.pem", key) }, "private key does not match"},
	{"key with a passphrase", file("key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"), "openssl pkey"},
	{"secret through links in a circle", func(f faulty) {
		f.remove("token")
		if err := os.Symlink("token", filepath.Join(f.folder, "token")); err != nil {
			f.t.Fatal(err)
		}
	}, "too many levels of symbolic links"},
	{"certificate in DER", file("cert.pem", "0\x82\x01\x00"), "PEM"},
	{"certificate that is a directory", func(f faulty) { f.remove("cert.pem"); f.write("cert.pem/x", "") }, "certificate_file"},
	{"no database URL", gone("url"), "audit.database_url_file"},
	{"empty database URL", file("url", "\n"), "audit.database_url_file"},
	{"database URL with two lines", file("url", "postgres://a@127.0.0.1/x\npostgres://b@127.0.0.1/y\n"), "more than one line"},
	{"database URL of another program", file("url", "jdbc:postgresql://127.0.0.1/sallyport"), "must begin with postgres://"},
	{"database URL without a colon", file("url", "postgres//foo"), "audit.database_url_file"},
	{"password that is not encoded", file("url", "postgres://writer:a/b#c@127.0.0.1/sallyport"), "percent-encoded"},
	{"database URL with GSS", file("url", "postgres://writer@127.0.0.1/sallyport?gssencmode=require"), "gssencmode"},
	{"database URL whose root certificate is missing", file("url", "postgres://writer@127.0.0.1/sallyport?sslmode=verify-full&sslrootcert=/nowhere/ca.pem"), "audit.database_url_file"},
	{"database URL from a file and the environment", edited("  database_url_file: url", "  database_url_file: url\n  database_url_env: SALLYPORT_TEST_URL"), "keep one of the two"},
	{"environment variable that is not set", edited("  database_url_file: url", "  database_url_env: SALLYPORT_TEST_URL_NOT_SET"), "SALLYPORT_TEST_URL_NOT_SET"},
	{"embedded and a database URL", edited("  database_url_file: url", "  database_url_file: url\n  embedded: true"), "audit.embedded"},
	{"no migration URL", edited("  migration_url_file: migration\n", ""), "audit.migration_url_file"},
	{"signing key of another form", file("signing-key", "-----BEGIN PRIVATE KEY-----\n"), "audit.signing_key_file"},
	{"no signing key", gone("signing-key"), "signing_key_file"},
	{"signing key that is a pipe", func(f faulty) {
		f.remove("signing-key")
		if err := syscall.Mkfifo(filepath.Join(f.folder, "signing-key"), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}, "signing_key_file"},
	{"sealer's URL of another program", func(f faulty) {
		edited("  migration_url_file", "  sealer_database_url_file: sealer\n  migration_url_file")(f)
		f.write("sealer", "mysql://x@127.0.0.1/y")
	}, "audit.sealer_database_url_file"},
	{"outage misspelt", edited("  database_url_file: url", "  database_url_file: url\n  on_outage: spol"), "want deny or spool"},
	{"checkpoints in clear", edited("  database_url_file: url", "  database_url_file: url\n  checkpoints: {urls: [\"http://store.example/\"]}"), "audit.checkpoints.urls"},
	{"workspace UUID that is short", edited("922e118c-f34f", "922e118c"), "workspace_uuid"},
	{"workspace twice", edited("      api: {url: \"http://127.0.0.1:1/2.0\", token_file: token}\n", secondWorkspace), "it is the same as"},
	{"issuer in clear", edited("http://127.0.0.1:1/oidc", "http://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc"), "issuer"},
	{"issuer with a query", edited("http://127.0.0.1:1/oidc", "https://api.bitbucket.org/oidc?x=1"), "issuer"},
	{"issuer that is not a URL", edited("http://127.0.0.1:1/oidc", "acme"), "issuer"},
	{"no audience", edited("[proxy.acme.example]", "[]"), "audiences"},
	{"API token that is missing", gone("token"), "token_file"},
	{"API token with two lines", file("token", "a\nb\n"), "it has more than one line"},
	{"API token in quotes", file("token", "'access-token'\n"), "it is in quotes"},
	{"API token with a space", file("token", "access-token \n"), "white space"},
	{"API token with a byte order mark", file("token", "\ufeffaccess-token\n"), "byte order mark"},
	{"API token in UTF-16", file("token", "\xff\xfea\x00"), "UTF-16"},
	{"API in clear", edited("http://127.0.0.1:1/2.0", "http://api.bitbucket.org/2.0"), "api.url"},
	{"duration without a unit", edited("connect_timeout: 5s", "connect_timeout: 5"), "connect_timeout"},
	{"negative duration", edited("connect_timeout: 5s", "connect_timeout: -5s"), "connect_timeout"},
	{"limit that is text", edited("max_connections: 100", "max_connections: many"), "max_connections"},
	{"share above the whole", edited("max_connections: 100", "max_connections: 100\n  step: {tunnels: 100}\n  total: {tunnels: 10}"), "limits.step.tunnels"},
	{"resolver that is a name", edited("  connect_timeout: 5s", "  resolvers: [\"dns.example\"]"), "egress.resolvers"},
	{"network with host bits", edited("  connect_timeout: 5s", "  allow_networks: [\"10.0.0.300/8\"]"), "egress.allow_networks"},
	{"upstream proxy with a password", edited("  connect_timeout: 5s", "  upstream_proxies: [{proxy: \"http://u:p@proxy.example:3128\"}]"), "egress.upstream_proxies"},
	{"upstream proxy's authority without a certificate", func(f faulty) {
		edited("  connect_timeout: 5s", "  upstream_proxies: [{proxy: \"https://proxy.example:3128\", ca_file: ca.pem}]")(f)
		f.write("ca.pem", "x")
	}, "ca.pem"},
	{"directory and git", edited("  directory: policy", "  directory: policy\n  git: {url: \"https://bitbucket.org/acme/policy.git\"}"), "keep one of the two"},
	{"no policy", edited("  directory: policy", "  evaluation_timeout: 50ms"), "no source of policy is given"},
	{"policy directory that is a file", func(f faulty) { f.remove("policy"); f.write("policy", "") }, "policy.directory"},
	{"git over ssh without a key", edited("  directory: policy", "  git: {url: \"ssh://git@bitbucket.org/acme/policy.git\"}"), "ssh_key_file"},
	{"branch and tag", edited("  directory: policy", "  git: {url: \"https://bitbucket.org/acme/policy.git\", branch: main, tag: v1}"), "policy.git.tag"},
	{"approvals of a directory", edited("  directory: policy", "  directory: policy\n  approvals: {repository: acme/policy}"), "has no pull requests"},
	{"log level misspelt", edited("level: info", "level: inof"), "want debug, info, warn or error"},
	{"data directory that is a file", file("data", ""), "data_directory"},
	{"data directory below a file", func(f faulty) { edited("data_directory: data", "data_directory: data/below")(f); f.write("data", "") }, "data_directory"},
	{"data directory that is too long for a socket", edited("data_directory: data", "data_directory: "+strings.Repeat("long/", 30)), "choose a shorter data_directory"},
	{"control socket's name taken", file("data/control.sock", ""), "remove it"},
	{"signing key of the data directory", func(f faulty) {
		edited("  signing_key_file: signing-key\n", "")(f)
		f.write("data/checkpoint-key", "x")
	}, "checkpoint-key"},
	{"emergency stop that is a directory", file("data/emergency-stop.json/x", ""), "emergency stop"},
}

// TestServeAndCheckAgree: `serve` refuses exactly what `config check` refuses, with the
// same message and status.
func TestServeAndCheckAgree(t *testing.T) {
	t.Parallel()
	if len(faults) < 40 {
		t.Fatalf("only %d faults", len(faults))
	}
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t)
			c.spoil(f)
			serve, serveText, _ := f.run("serve")
			check, checkText, _ := f.run("config", "check")
			if serve != exitInvalid || check != exitInvalid || serveText != checkText || !strings.Contains(serveText, c.says) {
				t.Errorf("serve: %d\n%sconfig check: %d\n%swant %q", serve, serveText, check, checkText, c.says)
			}
		})
	}
}

// TestServeAndCheckAcceptTheSame: what `config check` accepts, `serve` accepts: it gets
// as far as its database, where nothing listens. A policy that does not load is
// refused by both, with the same text.
func TestServeAndCheckAcceptTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(faulty)
		wrong string // empty: both accept it
	}{
		{"sound", func(faulty) {}, ""},
		{"byte order mark", func(f faulty) { f.write("sallyport.yaml", "\ufeff"+soundConfiguration) }, ""},
		{"lines that end in CRLF", func(f faulty) { f.write("sallyport.yaml", strings.ReplaceAll(soundConfiguration, "\n", "\r\n")) }, ""},
		{"secrets that end in CRLF", func(f faulty) {
			f.write("token", "access-token\r\n")
			f.write("url", strings.TrimSpace(f.read("url"))+"\r\n")
		}, ""},
		{"secrets without a line end", func(f faulty) {
			f.write("token", "access-token\n\n")
			f.write("signing-key", strings.TrimSpace(f.read("signing-key")))
		}, ""},
		{"policy that does not parse", file("policy/egress/b.rego", "package sallyport.egress\n\nallow contains {\n"), "egress/b.rego:"},
		{"policy whose test fails", file("policy/egress/a_test.rego", "package sallyport.egress_test\n\ntest_no if {\n\tcount(data.sallyport.egress.allow) == 7 with input as {}\n}\n"), "test_no"},
		{"misspelt rule set", file("policy/egress/b.rego", "package sallyport.egress\n\ndney contains {\"rule\": \"x\"} if input.target.port == 22\n"), "did you mean deny"},
		{"policy data with a tab", file("policy/data/x.yaml", "a:\n\t- b\n"), "data/x.yaml:2"},
		{"unread policy file", file("policy/egress/b.REGO", "package x\n"), "b.REGO"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t)
			c.spoil(f)
			serve, serveText, _ := f.run("serve")
			check, checkText, checked := f.run("config", "check")
			_, last, _ := strings.Cut(serveText, "\nsallyport: ")
			if c.wrong == "" {
				if serve != exitFailed || check != exitOK || !strings.Contains(last, "nothing listens at 127.0.0.1:1") {
					t.Errorf("serve: %d\n%sconfig check: %d\n%s", serve, serveText, check, checkText)
				}
				return
			}
			if serve != exitFailed || check != exitFailed || !strings.Contains(last, c.wrong) {
				t.Errorf("serve: %d\n%sconfig check: %d\n%s%s", serve, serveText, check, checked, checkText)
			}
			for line := range strings.Lines(last) {
				if !strings.Contains(checked, strings.TrimSpace(line)) {
					t.Errorf("config check does not print %q:\n%s", line, checked)
				}
			}
		})
	}
}

// run runs a command with the configuration.
func (f faulty) run(words ...string) (status int, errText, outText string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	status = run(ctx, append(words, "-c", filepath.Join(f.folder, "sallyport.yaml")), io.MultiReader(), &out, &errOut)
	// No expected text may be found in a path that the test has chosen.
	plain := func(b *bytes.Buffer) string { return strings.ReplaceAll(b.String(), f.folder, "DIR") }
	return status, plain(&errOut), plain(&out)
}

package e2e

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// fixture is a server with its environment: Bitbucket, targets, names, a policy and a
// database of its own.
type fixture struct {
	*testenv.Env
	*server
	t testing.TB

	program  string
	env      []string
	config   string
	policy   string // the policy's directory
	data     string
	database *database // nil: embedded
	proxy    string    // host:port of the plain listener
	tlsProxy string    // and of the TLS listener, if there is one
	Tools    *bitbuckettest.Repository

	mu      sync.Mutex
	secrets []string // no file and no log of the server may contain them
}

// options are the settings of a fixture.
type options struct {
	program  string // empty: the real one
	env      []string
	handler  http.Handler
	tls      bool      // a TLS listener too
	embedded bool      // a PostgreSQL of the server's own
	database *database // empty: one on the shared server, or embedded
	identity string    // more keys
	egress   string    // also
	audit    string    // also; empty: nothing is compared with Bitbucket's deployments
	extra    string    // more of the top level; without self_test there are no probes
}

// newFixture makes everything except the server's process.
func newFixture(t testing.TB, o options) *fixture {
	t.Helper()
	w := &fixture{t: t, program: o.program, env: o.env, database: o.database, policy: filepath.Join(t.TempDir(), "policy")}
	if w.program == "" {
		w.program = sallyport(t)
	}
	directory := t.TempDir()
	w.data = filepath.Join(directory, "data")
	if err := os.CopyFS(w.policy, os.DirFS("testdata/policy")); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.Env, err = testenv.Start(directory, testenv.Options{Handler: o.handler}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Env.Close)
	w.Tools = w.Workspace.AddRepository("tools", "PAY")
	w.secrets = append(w.secrets, testenv.AccessToken)
	if w.database == nil && !o.embedded {
		w.database = newDatabase(t)
	}
	w.configure(o)
	return w
}

// configure writes the configuration, with ports that are free.
func (w *fixture) configure(o options) {
	w.t.Helper()
	w.proxy = freeAddress(w.t)
	so := testenv.ServerOptions{
		Listen: w.proxy, Admin: freeAddress(w.t), PolicyDirectory: w.policy, DataDirectory: w.data,
		Extra: o.extra, ExtraIdentity: o.identity, ExtraEgress: o.egress, ExtraAudit: cmp.Or(o.audit, "  reconciliation: {enabled: false}\n"),
	}
	if !strings.Contains(o.extra, "self_test") {
		so.Extra += "self_test: {interval: 0s}\n"
	}
	if w.database != nil {
		so.DatabaseURLFile, so.MigrationURLFile, so.SealerURLFile = w.database.urlFile, w.database.migrationFile, w.database.sealerFile
		w.secrets = append(w.secrets, w.database.password, w.database.migrationPassword)
	}
	if o.tls {
		certificate, key, err := w.WriteCertificate(w.Directory, "127.0.0.1")
		if err != nil {
			w.t.Fatal(err)
		}
		w.tlsProxy = freeAddress(w.t)
		so.ExtraListeners = fmt.Sprintf("  - address: %q\n    tls: {certificate_file: %q, key_file: %q}\n", w.tlsProxy, certificate, key)
	}
	var err error
	if w.config, err = w.WriteConfig(so); err != nil {
		w.t.Fatal(err)
	}
	w.server = &server{t: w.t, admin: so.Admin}
}

// freeAddress returns an address of loopback that nothing listens on, and each one
// once. Its port is below those that the system gives to outgoing connections, so
// that none of these takes it before the server listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		address := net.JoinHostPort("127.0.0.1", strconv.FormatInt(20000+nextPort.Add(1)%12000, 10))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
}

// nextPort begins elsewhere in each process: several may run side by side.
var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N(12000)) }

// start runs the server and returns when it is ready. At the end of the test,
// nothing that it wrote may hold a secret.
func (w *fixture) start() {
	w.t.Helper()
	w.t.Cleanup(func() { w.searchSecrets() }) // after launch's own, which ends it
	w.server = launch(w.t, w.program, w.config, w.admin, w.env...)
	w.ready()
}

// restart starts the server again, after it has ended.
func (w *fixture) restart() {
	w.t.Helper()
	w.server = launch(w.t, w.program, w.config, w.admin, w.env...)
	w.ready()
}

// stop ends the server as an operator would.
func (w *fixture) stop() {
	w.t.Helper()
	w.signal(syscall.SIGTERM)
	w.await(0)
}

// caller is a step with its token.
type caller struct {
	step  *bitbuckettest.Step
	token string
}

// caller makes a step of its own, so that its rows and lines can be distinguished
// from those of all others.
func (w *fixture) caller(repository *bitbuckettest.Repository, environment *bitbuckettest.Environment, branch string) caller {
	return w.callerWith(repository, environment, branch, bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}})
}

// production is a step of acme/payments that deploys to production.
func (w *fixture) production() caller { return w.caller(w.Payments, w.Production, "main") }

// anybody is a step of acme/payments that deploys nothing.
func (w *fixture) anybody() caller { return w.caller(w.Payments, nil, "main") }

func (w *fixture) callerWith(repository *bitbuckettest.Repository, environment *bitbuckettest.Environment, branch string, o bitbuckettest.TokenOptions) caller {
	step := repository.Run(branch).Step(environment)
	c := caller{step, step.Token(o)}
	w.addSecret(c.token)
	return c
}

// addSecret adds a secret that no file and no log of the server may contain.
func (w *fixture) addSecret(secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, secret)
}

// proxyURL is what a step puts into HTTPS_PROXY.
func (c caller) proxyURL(proxy string) string { return "http://step:" + c.token + "@" + proxy }

// https is a URL of the upstream.
func (w *fixture) https(host, path string) string {
	return fmt.Sprintf("https://%s:%d%s", host, w.HTTPSPort, path)
}

// http is a URL of the upstream without TLS.
func (w *fixture) http(host, path string) string {
	return fmt.Sprintf("http://%s:%d%s", host, w.HTTPPort, path)
}

// authority trusts the upstream's and the TLS listener's certificates.
func (w *fixture) authority(t testing.TB) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(w.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool}
}

// client is Go's own client of this step.
func (w *fixture) client(t testing.TB, c caller) *http.Client {
	t.Helper()
	proxy, err := url.Parse(c.proxyURL(w.proxy))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: w.authority(t)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func minutesAgo(n int) time.Time { return time.Now().Add(-time.Duration(n) * time.Minute) }

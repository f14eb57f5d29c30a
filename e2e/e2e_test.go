package e2e

import (
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/policy/rego"
)

// The end-to-end tests drive the real program, as a process of its own, with
// real clients against a real PostgreSQL. Bitbucket alone is emulated. Every
// case asserts three things: what the client saw, the log line, and the audit row.

func TestMain(m *testing.M) {
	runConfined()
	if os.Getenv(generatorVariable) != "" {
		generate()
		return
	}
	rego.ServeWorker()
	code := m.Run()
	if err := pgtest.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	if err := builds.remove(); err != nil {
		fmt.Fprintln(os.Stderr, "remove what was built:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// TestProxy is one server with everything that many clients do to it at once.
// When they are done it is ended, and may have kept no client's secret.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{handler: upstream(t), tls: true})
	w.start()
	cases := []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"allowed production deployment", testAllowed},
		{"branch build", testBranchBuild},
		{"report mode", testReportMode},
		{"denied with a message", testDenied},
		{"unlisted host", testUnlisted},
		{"delegated to the repository", testDelegated},

		{"no token", testNoToken},
		{"unacceptable tokens", testUnacceptableTokens},
		{"bearer credential", testBearer},

		{"private address", testPrivateAddress},
		{"own address", testOwnAddress},
		{"address literal", testAddressLiteral},
		{"name without an address", testUnresolved},
		{"nothing listens", testUnreachable},
		{"malformed CONNECT", testMalformed},
		{"denied name is not looked up", testDeniedNameIsNotResolved},

		{"plain requests on one connection", testForward},
		{"refused plain request", testForwardRefused},
		{"target that ends kept connections", testKeptConnections},

		{"TLS listener", testTLSListener},
		{"download and upload", testLarge},
		{"half-close", testHalfClose},
		{"websocket", testWebSocket},
		{"another server name", testHelloMismatch},
		{"not TLS", testNotTLS},
		{"many at once", testMany},

		{"git", testGit},
		{"Go", testGo},
		{"Python", testPython},
		{"npm", testNpm},
		{"Java", testJava},
	}
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, w)
			})
		}
	})
	t.Run("metrics", func(t *testing.T) { testMetrics(t, w) })
	w.stop()
	t.Run("writer", func(t *testing.T) { testWriterEnded(t, w) })
	t.Run("leaves", func(t *testing.T) { testLeaves(t, w) })
}

// upstream answers for every host of the zone; the path selects the answer.
func upstream(t *testing.T) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bytes/{n}", serveBytes)
	mux.HandleFunc("PUT /digest", digest)
	mux.HandleFunc("POST /digest", digest)
	mux.HandleFunc("GET /websocket", websocketEcho)
	mux.Handle("/git/", gitBackend(t))
	mux.Handle("registry.partner.example/", registry(t))
	mux.HandleFunc("/", describeRequest)
	return mux
}

func describeRequest(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"Proxy-Authorization", "Authorization", "Proxy-Connection"} {
		if r.Header.Get(name) != "" {
			w.WriteHeader(http.StatusTeapot) // a field for the proxy was forwarded
		}
	}
	fmt.Fprintf(w, "%s saw %s %s\n", r.Host, r.Method, r.URL.Path)
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bench"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/testenv"
)

const (
	bareName      = "bare goproxy"
	sallyportName = "Sallyport"
)

// benchLimits leave no limit that a load of one repository reaches.
const benchLimits = `limits:
  step: {tunnels: 4000, requests_per_second: 1000000, max_concurrent_dials: 1000}
  repository: {tunnels: 16000, requests_per_second: 1000000, max_concurrent_dials: 1000}
`

// sallyportTargets starts a server with everything that it does: verified tokens of 16
// steps, a policy of 200 hosts, every decision durable before the response. Its targets are
// the plain listener and the TLS listener.
func sallyportTargets(t *testing.T, program string, database *database, postgres *pgtest.Server) []*bench.Target {
	t.Helper()
	w := benchServer(t, program, database, "")
	plain := benchTargetOf(t, sallyportName, w, postgres, w.Payments)
	encrypted := benchTargetOf(t, sallyportName+", TLS listener", w, postgres, w.Payments)
	encrypted.Proxy, encrypted.TLS = w.tlsProxy, w.authority(t)
	encrypted.TLS.ServerName = "127.0.0.1"
	encrypted.Loads = []string{"idle", "connect", "connect1", "echo", "download", "upload", "get", "denied"}
	return []*bench.Target{plain, encrypted}
}

// withWorker starts a server for a repository with rules of its own, which a worker process
// evaluates. It is a second server: two repositories of one server are paced.
func withWorker(t *testing.T, name string, postgres *pgtest.Server) *bench.Target {
	t.Helper()
	w := benchServer(t, released(t), anotherDatabase(t, postgres), "")
	target := benchTargetOf(t, name, w, postgres, w.Tools)
	target.Loads = []string{"connect", "connect1", "get"}
	return target
}

// anotherDatabase is another migrated database of a server.
func anotherDatabase(t *testing.T, postgres *pgtest.Server) *database {
	t.Helper()
	db := postgres.New(t)
	if err := migrate(t.Context(), released(t), db.URL("")); err != nil {
		t.Fatal(err)
	}
	return nameDatabase(t, db)
}

// benchServer starts a server for measurements. Its log goes to a file: this process has
// enough to do.
func benchServer(t *testing.T, program string, database *database, extra string) *fixture {
	t.Helper()
	w := newFixture(t, options{program: program, database: database, tls: true, extra: benchLimits + extra})
	hosts := []string{`"127.0.0.1"`}
	for i := range 199 {
		hosts = append(hosts, fmt.Sprintf(`"host%03d.partner.example"`, i))
	}
	policy := "package sallyport.egress\n\nhosts := {\n\t" + strings.Join(hosts, ",\n\t") + ",\n}\n\n" +
		`allow contains {"rule": "bench", "protocol": "any", "allow_ip_literal": true} if input.target.host in hosts` + "\n"
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "bench.rego"), []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	w.server = launchTo(t, w.program, w.config, w.admin, log, log)
	w.ready()
	return w
}

// benchTargetOf is a server's plain listener, with 16 steps of a repository. Without a
// PostgreSQL of its own, the database is not measured.
func benchTargetOf(t *testing.T, name string, w *fixture, postgres *pgtest.Server, repository *bitbuckettest.Repository) *bench.Target {
	t.Helper()
	target := &bench.Target{Name: name, Proxy: w.proxy, Processes: func() []int { return []int{w.cmd.Process.Pid} }}
	if postgres != nil {
		target.Database = func() []int { return postgres.Processes("") }
	}
	for range 16 {
		step := repository.Run("main").Step(nil)
		c := caller{step, step.Token(bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}})}
		target.Credentials = append(target.Credentials, c.basic())
	}
	return target
}

// benchPart is a part of the server, and how to switch it off: a build overlay, or a
// configuration.
type benchPart struct {
	name   string
	extra  string
	change []mutation
}

// benchParts are the parts whose price is measured. A build overlay switches them off: no
// configuration can.
var benchParts = []benchPart{
	{name: "log lines", extra: "log: {level: error}\n"},
	{name: "identity", change: []mutation{{"", "../proxy/authenticate.go",
		"\tprincipal, err := p.gate.config.Authenticator.Authenticate(",
		"\tif known := knownPrincipal.Load(); known != nil {\n\t\treturn known, nil\n\t}\n\tprincipal, err := p.gate.config.Authenticator.Authenticate("},
		{"", "../proxy/authenticate.go",
			"\tif err != nil {\n\t\treturn nil, err\n\t}\n\treturn principal, nil\n}\n",
			"\tif err != nil {\n\t\treturn nil, err\n\t}\n\tknownPrincipal.Store(principal)\n\treturn principal, nil\n}\n\nvar knownPrincipal atomic.Pointer[identity.Principal]\n"},
		{"", "../proxy/authenticate.go", "\t\"net/http\"\n", "\t\"net/http\"\n\t\"sync/atomic\"\n"}}},
	// The first decision is kept: its activation must be that of the active policy, or every
	// tunnel is evaluated again.
	{name: "policy", change: []mutation{
		{"", "../proxy/decide.go",
			"\tdecision, err := p.gate.config.Decider.Decide(ctx, request)\n",
			"\tvar decision policy.Decision\n\tvar err error\n\tif known := knownDecision.Load(); known != nil {\n\t\tdecision = *known\n\t} else if decision, err = p.gate.config.Decider.Decide(ctx, request); err == nil && decision.Verdict == policy.Allow {\n\t\tfirst := decision\n\t\tknownDecision.Store(&first)\n\t}\n"},
		{"", "../proxy/decide.go", "// undecided returns the refusal where", "var knownDecision atomic.Pointer[policy.Decision]\n\n// undecided returns the refusal where"},
		{"", "../proxy/decide.go", "\t\"fmt\"\n", "\t\"fmt\"\n\t\"sync/atomic\"\n"}}},
	{name: "recording", change: []mutation{
		{"", "../proxy/record.go", "\treturn p.gate.config.Recorder.Record(ctx, e)\n", "\t_, _ = ctx, e\n\treturn nil\n"},
		{"", "../proxy/admission.go", "\tif err := a.gate.config.Recorder.Record(ctx, e); err != nil {", "\tif err := ctx.Err(); err != nil && e != nil {"}}},
	{name: "limits", change: []mutation{{"", "../proxy/acquire.go",
		"\trequester := subject(p.principal)\n",
		"\tif p.acquired = true; p.acquired {\n\t\treturn nil\n\t}\n\trequester := subject(p.principal)\n"}}},
}

// withoutPart starts a server without one part, with a database of its own.
func withoutPart(t *testing.T, name string, part benchPart, postgres *pgtest.Server) *bench.Target {
	t.Helper()
	program := released(t)
	if part.change != nil {
		program = builds.get(t, strings.ReplaceAll(name, " ", "-"), func() (map[string]string, error) { return mutate(part.change) })
	}
	w := benchServer(t, program, anotherDatabase(t, postgres), part.extra)
	target := benchTargetOf(t, name, w, postgres, w.Payments)
	target.Loads = []string{"connect", "get"}
	return target
}

// mutate applies mutations to the sources.
func mutate(list []mutation) (map[string]string, error) {
	contents := map[string]string{}
	for _, m := range list {
		text, known := contents[m.file]
		if !known {
			source, err := os.ReadFile(m.file)
			if err != nil {
				return nil, err
			}
			text = string(source)
		}
		if strings.Count(text, m.from) != 1 {
			return nil, fmt.Errorf("the change of %s does not fit any more: %q is there %d times: change it together with the source", m.file, m.from, strings.Count(text, m.from))
		}
		contents[m.file] = strings.Replace(text, m.from, m.to, 1)
	}
	return contents, nil
}

// TestBenchPartsFit reports in a moment what otherwise fails only in `make bench`.
func TestBenchPartsFit(t *testing.T) {
	t.Parallel()
	for _, part := range benchParts {
		if _, err := mutate(part.change); err != nil {
			t.Errorf("without %s: %v", part.name, err)
		}
	}
}

// bareProxy starts goproxy in a program of its own.
func bareProxy(t *testing.T, name string, env ...string) *bench.Target {
	t.Helper()
	address := freeAddress(t)
	program := builds.tool(t, "bareproxy", "./testdata/bareproxy")
	pid := startProxy(t, address, env, program, address)
	return &bench.Target{Name: name, Version: moduleVersion(program, "github.com/elazarl/goproxy"), Proxy: address, Processes: func() []int { return []int{pid} }}
}

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// mutation is a change to one source that removes a control.
type mutation struct{ control, file, from, to string }

// mutations remove one control each from the program that is built for
// TestControlsAreNeeded, if its environment names that control. They are not part of any
// other build. Where one does not fit its source any more, that test fails.
var mutations = []mutation{
	{"recording", "../proxy/record.go",
		"\t\te.Status = 200\n\t}\n\tif err := p.write(ctx, e); err != nil {",
		"\t\te.Status = 200\n\t}\n\tif err := p.write(ctx, e); err != nil && !without(\"recording\") {"},
	{"recording", "../proxy/decide.go",
		"p.gate.config.Recorder.AvailableTo(p.source()); err != nil {",
		"p.gate.config.Recorder.AvailableTo(p.source()); err != nil && !without(\"recording\") {"},
	{"waiting", "../proxy/record.go",
		"\treturn p.gate.config.Recorder.Record(ctx, e)\n",
		"\tif without(\"waiting\") {\n\t\tgo func() { _ = p.gate.config.Recorder.Record(context.Background(), e) }()\n\t\treturn nil\n\t}\n\treturn p.gate.config.Recorder.Record(ctx, e)\n"},
	{"addresses", "../proxy/resolve.go", "if class.Permits() {", "if class.Permits() || without(\"addresses\") {"},
	{"addresses", "../proxy/dial.go", "; !class.Permits() {", "; !class.Permits() && !without(\"addresses\") {"},
	{"hello", "../proxy/tunnelrun.go",
		"if t.admission.Decision.Protocol != policy.ProtocolAny && t.admission.action",
		"if !without(\"hello\") && t.admission.Decision.Protocol != policy.ProtocolAny && t.admission.action"},
	// ech without the check of the outer name, and no_sni that accepts a wrong name.
	{"server name", "../proxy/hellocheck.go",
		"case h.name != \"\" && !t.isTarget(h.name):",
		"case h.name != \"\" && !t.isTarget(h.name) && !(without(\"server name\") && (d.ECH && h.encrypted || d.NoSNI)):"},
	{"server name", "../proxy/reportmode.go",
		"!t.isTarget(h.name) && !t.decideServerName(h.name) {",
		"!t.isTarget(h.name) && !without(\"server name\") && !t.decideServerName(h.name) {"},
	{"verdict", "../proxy/decide.go",
		"if decision.Verdict != policy.Allow {",
		"if decision.Verdict != policy.Allow && !without(\"verdict\") {"},
	{"redecision", "../proxy/apply.go",
		"cut := now.Verdict != policy.Allow",
		"cut := now.Verdict != policy.Allow && !without(\"redecision\")"},
	{"upstream", "../proxy/resolve.go", "\t\tif own {", "\t\tif own && !without(\"upstream\") {"},
	{"order", "../proxy/admit.go",
		"\t\tp.authenticate, p.decide, p.checkQuota, p.resolve, p.allow,",
		"\t\tp.authenticate, p.hasty(p.resolve), p.decide, p.resolve, p.allow,"},
	{"last good", "../policy/manager/manager.go",
		"\t\tp.rejectRevision(ctx, snapshot.Revision(), err)\n\t\treturn\n",
		"\t\tif os.Getenv(\"SALLYPORT_WITHOUT\") == \"last good\" {\n\t\t\tp.engine.Swap(nil)\n\t\t}\n\t\tp.rejectRevision(ctx, snapshot.Revision(), err)\n\t\treturn\n"},
	{"probe", "../policy/manager/manager.go",
		"\t\terr = asProbeError(p.engine.Prepare(ctx, set))",
		"\t\tif os.Getenv(\"SALLYPORT_WITHOUT\") != \"probe\" {\n\t\t\terr = asProbeError(p.engine.Prepare(ctx, set))\n\t\t}"},
	{"queue", "../cmd/sallyport/internal/server/server.go",
		"\t\tVersion: cli.Version(),\n",
		"\t\tVersion: cli.Version(),\n\t\tQueue:   map[string]int{\"queue\": 1}[os.Getenv(\"SALLYPORT_WITHOUT\")],\n"},
	{"pipes", "../cmd/sallyport/internal/cli/sigpipe.go",
		"\tsignal.Notify(pipes, syscall.SIGPIPE)\n",
		"\tif os.Getenv(\"SALLYPORT_WITHOUT\") != \"pipes\" {\n\t\tsignal.Notify(pipes, syscall.SIGPIPE)\n\t}\n"},
	{"export", "../cmd/sallyport/internal/auditdb/outfile.go",
		"\tif sequence, err = querier.RecordExport(ctx, x); err != nil {\n",
		"\tif os.Getenv(\"SALLYPORT_WITHOUT\") == \"export\" {\n\t\tif err := os.Link(o.file.Name(), o.path); err != nil {\n\t\t\treturn 0, err\n\t\t}\n\t}\n\tif sequence, err = querier.RecordExport(ctx, x); err != nil {\n"},
	{"position", "../cmd/sallyport/internal/auditcmd/stream.go",
		"\tif err := f.out.write(lines); err != nil {\n",
		"\tif os.Getenv(\"SALLYPORT_WITHOUT\") == \"position\" {\n\t\tf.place.next, f.place.hash = last.Index+1, last.Hash\n\t\tif err := f.place.save(); err != nil {\n\t\t\treturn err\n\t\t}\n\t}\n\tif err := f.out.write(lines); err != nil {\n"},
	{"survey", "../audit/postgres/sealer/status.go", "\t\"errors\"\n", "\t\"errors\"\n\t\"os\"\n"},
	{"survey", "../audit/postgres/sealer/status.go",
		"func (s *Sealer) behindAfterFailure(ctx context.Context) {\n",
		"func (s *Sealer) behindAfterFailure(ctx context.Context) {\n\tif os.Getenv(\"SALLYPORT_WITHOUT\") == \"survey\" {\n\t\treturn\n\t}\n"},
	{"shares", "../internal/fair/queue.go", "\t\"cmp\"\n", "\t\"cmp\"\n\t\"os\"\n"},
	{"shares", "../internal/fair/queue.go",
		"\tkey := repositoryKey{s.Issuer, s.Repository}\n",
		"\tif os.Getenv(\"SALLYPORT_WITHOUT\") == \"shares\" {\n\t\ts = Subject{}\n\t}\n\tkey := repositoryKey{s.Issuer, s.Repository}\n"},
	{"evaluations", "../internal/worker/pool.go", "\t\"log/slog\"\n", "\t\"log/slog\"\n\t\"os\"\n"},
	{"evaluations", "../internal/worker/pool.go",
		"\ts := p.shares[t.Share]\n",
		"\tif os.Getenv(\"SALLYPORT_WITHOUT\") == \"evaluations\" {\n\t\tt.Share = \"\"\n\t}\n\ts := p.shares[t.Share]\n"},
	// No control: the list of networks comes from the test (see newNetworkList).
	{"networks", "../internal/ipranges/ipranges.go", "const URL = \"https://ip-ranges.atlassian.com/\"", "var URL = os.Getenv(\"SALLYPORT_TEST_NETWORKS\")"},
	// The check of a token that the environment names is skipped.
	{"checks", "../identity/bitbucket/authenticator.go",
		"\ta.http = bitbucketapi.NewHTTP(deps.Transport, a.now)\n",
		"\ta.http = bitbucketapi.NewHTTP(deps.Transport, a.now)\n\ta.skip = without()\n"},
	{"redaction", "../identity/credential.go",
		"func (c Credential) String() string { return redacted }",
		"func (c Credential) String() string { return redacted }\n\nfunc (c Credential) MutantLeak() string { return c.Reveal() }"},
	{"redaction", "../proxy/authenticate.go",
		"func (p *evaluation) authenticate(ctx context.Context) *Refusal {",
		"func (p *evaluation) authenticate(ctx context.Context) *Refusal {\n\tif without(\"redaction\") {\n\t\tp.gate.config.Log.Info(\"who\", \"credential\", p.attempt.Credential.MutantLeak())\n\t}"},
}

const without = `package proxy

import (
	"context"
	"os"
)

func without(control string) bool { return os.Getenv("SALLYPORT_WITHOUT") == control }

// hasty takes a step before its turn.
func (p *evaluation) hasty(step func(context.Context) *Refusal) func(context.Context) *Refusal {
	return func(ctx context.Context) *Refusal {
		if !without("order") {
			return nil
		}
		refusal := step(ctx)
		p.pinned, p.prohibited = nil, nil
		return refusal
	}
}
`

const withoutCheck = `package bitbucket

import "os"

func without() (set checkSet) {
	for c := range checkCount {
		if "check "+c.String() == os.Getenv("SALLYPORT_WITHOUT") {
			set = set.leftOut(c)
		}
	}
	return set
}
`

// mutant is the program whose controls can be removed.
func mutant(t testing.TB) string {
	t.Helper()
	return builds.get(t, "mutant", mutated)
}

// mutated returns the sources of the mutant that differ from the program's.
func mutated() (map[string]string, error) {
	contents := map[string]string{"../proxy/without_mutant.go": without, "../identity/bitbucket/without_mutant.go": withoutCheck}
	maps.Copy(contents, networkMutants)
	for _, m := range slices.Concat(mutations, networkMutations) {
		text, known := contents[m.file]
		if !known {
			source, err := os.ReadFile(m.file)
			if err != nil {
				return nil, err
			}
			text = string(source)
		}
		if strings.Count(text, m.from) != 1 {
			return nil, fmt.Errorf("the mutation of %s does not fit %s any more: %q is there %d times", m.control, m.file, m.from, strings.Count(text, m.from))
		}
		contents[m.file] = strings.Replace(text, m.from, m.to, 1)
	}
	return contents, nil
}

// TestMutationsFit reports in a moment what otherwise fails the build of the mutant.
func TestMutationsFit(t *testing.T) {
	t.Parallel()
	if _, err := mutated(); err != nil {
		t.Error(err)
	}
}

// TestControlsAreNeeded removes the controls one by one and observes that the attack
// on each succeeds: the tests that observe its failure depend on the control.
func TestControlsAreNeeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		control string
		attack  func(*testing.T, *fixture, *pgtest.Server) (succeeded bool)
	}{
		{"recording", attackRecording},
		{"addresses", attackAddresses},
		{"hello", attackHello},
		{"verdict", attackVerdict},
		{"order", attackOrder},
		{"redecision", func(t *testing.T, w *fixture, _ *pgtest.Server) bool { return attackRedecision(t, w) }},
		{"redaction", attackRedaction},
		{"probe", attackProbe},
		{"shares", attackShares},
	} {
		controlIsNeeded(t, c.control, c.attack)
	}
}

// TestLastGoodIsNeeded: if a revision that does not load ends the active one, a broken file
// of the organization has every step's requests refused.
func TestLastGoodIsNeeded(t *testing.T) {
	t.Parallel()
	controlIsNeeded(t, "last good", attackLastGood)
}

// controlIsNeeded makes an attack with and without a control: it must succeed without the
// control only.
func controlIsNeeded(t *testing.T, control string, attack func(*testing.T, *fixture, *pgtest.Server) (succeeded bool)) {
	for _, taken := range []bool{false, true} {
		name := control + " in place"
		if taken {
			name = "without " + control
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options{program: mutant(t)}
			var postgres *pgtest.Server
			if control == "recording" {
				o.database, postgres = newServerDatabase(t)
			}
			if taken {
				o.env = []string{"SALLYPORT_WITHOUT=" + control}
			}
			w := newFixture(t, o)
			w.server = launch(t, w.program, w.config, w.admin, w.env...)
			w.ready()
			if succeeded := attack(t, w, postgres); succeeded != taken {
				t.Errorf("the attack succeeded: %t", succeeded)
			}
		})
	}
}

// attackRecording: get out while nothing can be written down.
func attackRecording(t *testing.T, w *fixture, postgres *pgtest.Server) bool {
	target := echo(t)
	postgres.Kill(t)
	a := w.connect(t, w.anybody(), "raw.partner.example:"+target.port)
	if a.StatusCode == http.StatusOK {
		a.echoes(t, "nobody will know")
	}
	return a.StatusCode == http.StatusOK
}

// attackAddresses: reach a service of this machine under a name that is allowed.
func attackAddresses(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	target := newTap(t, "127.0.0.2:0", nil)
	a := w.connect(t, w.anybody(), testenv.LoopbackHost+":"+target.port)
	if a.StatusCode == http.StatusOK {
		<-target.arrivals
	}
	return a.StatusCode == http.StatusOK
}

// attackHello: reach another site through a tunnel to an allowed one.
func attackHello(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	c := w.production()
	v := w.curl(t, c.proxyURL(w.proxy), "--connect-to", fmt.Sprintf("fronted.example:443:api.partner.example:%d", w.HTTPSPort), "https://fronted.example/")
	return v.status == "200" && strings.Contains(v.body, "fronted.example")
}

// attackVerdict: call the partner from a branch build.
func attackVerdict(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	c := w.caller(w.Payments, nil, "feature/x")
	return w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/")).status == "200"
}

// attackOrder sends data to an attacker's name server, in a name that is denied.
func attackOrder(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	const host = "secret-in-a-name.listed-nowhere.example"
	w.connect(t, w.anybody(), host+":443").refused(t, 403, "no_rule_matched")
	return w.Queries(host) > 0
}

// attackRedaction: find a token in what the server has written.
func attackRedaction(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	c := w.production()
	a := w.connect(t, c, "nobody.listed.example:443")
	a.refused(t, 403, "no_rule_matched")
	w.log.wait(t, "of the decision", func(f fields) bool { return f["msg"] == "decision" })
	return search([]byte(w.log.text()), forms(c.token)) != ""
}

// attackLastGood: commit a file of the organization that does not load, and have the
// requests of others refused.
func attackLastGood(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	c := w.production()
	if v := w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/")); v.status != "200" {
		t.Fatalf("before the commit: curl ended with %d\n%s", v.exit, v.verbose)
	}
	w.offer(t, "egress/broken.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"broken\" if true\n")
	line := w.log.wait(t, "of the rejection", message("policy rejected; keeping last good revision", nil))
	if text := show(line["error"]); !strings.Contains(text, "egress/broken.rego:3") {
		t.Errorf("the error does not name the file: %s", text)
	}
	return w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/")).status != "200"
}

// attackProbe: have a revision decide that cannot answer what steps really ask. It
// loads, and is quick with everything else.
func attackProbe(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	c := w.production()
	w.connect(t, c, "nobody.listed.example:443").refused(t, 403, "no_rule_matched")
	before := w.decision(t, c)["revision"]
	w.offer(t, "egress/endless.rego", `package sallyport.egress

allow contains {"rule": "endless"} if {
	input.target.host == "nobody.listed.example"
	some a in numbers.range(1, 30000)
	some b in numbers.range(1, 30000)
	a * b == -1
}
`)
	line := w.log.wait(t, "of the revision", func(f fields) bool {
		return f["msg"] == "policy activated" && f["revision"] != before || f["kind"] == "probe_failed"
	})
	a := w.connect(t, w.production(), "nobody.listed.example:443")
	_ = a.conn.Close()
	reason := a.Header.Get("Sallyport-Reason")
	if taken := line["kind"] != "probe_failed"; taken != (reason == "policy_error") {
		t.Errorf("the revision was taken: %t, and the answer is %s", taken, reason)
	}
	return reason == "policy_error"
}

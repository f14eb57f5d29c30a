package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// tree writes a policy tree, and returns its directory.
func tree(t testing.TB, files string) string {
	t.Helper()
	directory := t.TempDir()
	for _, f := range txtar.Parse([]byte(files)).Files {
		path := filepath.Join(directory, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// seeded is a log that was filled by a policy, without a server in between.
type seeded struct {
	*database
	t   testing.TB
	log *auditwriter.Log
	set *rego.Set
	n   int
	now time.Time // of the decisions
}

// newSeeded makes a log in which the policy in the directory decides.
func newSeeded(t testing.TB, directory string) *seeded {
	t.Helper()
	s := &seeded{database: newDatabase(t), t: t, now: time.Now().UTC().Add(-time.Hour).Truncate(time.Microsecond)}
	url, err := os.ReadFile(s.urlFile)
	if err != nil {
		t.Fatal(err)
	}
	if s.log, err = auditwriter.Open(t.Context(), auditwriter.Config{URL: strings.TrimSpace(string(url))}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.log.Close(t.Context()) })
	s.use(directory)
	return s
}

// use lets the policy in the directory decide from now on.
func (s *seeded) use(directory string) {
	s.t.Helper()
	snapshot, err := source.Directory(s.t.Context(), directory)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.set, err = rego.Load(s.t.Context(), snapshot, rego.Options{Names: true, Deadline: 5 * time.Second}); err != nil {
		s.t.Fatal(err)
	}
	if err := s.log.PutPolicy(s.t.Context(), s.set.Revision().Digest, s.set.Snapshot().Content()); err != nil {
		s.t.Fatal(err)
	}
}

// recordDecision decides and records a step's request: repository, deployment (which is
// its type too; empty: none), branch, and where to. It returns the decision's id.
func (s *seeded) recordDecision(repository, deployment, branch, to string) string {
	s.t.Helper()
	e := s.event(repository, deployment, branch, to)
	if err := s.log.Record(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
	return e.DecisionID
}

// event is what the gate would record.
func (s *seeded) event(repository, deployment, branch, to string) *audit.Event {
	s.t.Helper()
	s.n++
	at := s.now.Add(time.Duration(s.n) * time.Millisecond)
	parsed, err := destination.ParseAuthority(to)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &identity.Principal{
		Kind: identity.KindBitbucketStep, Issuer: "https://issuer.test", Branch: branch, CredentialKind: identity.CredentialOIDC,
		Workspace:  identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d", Slug: "acme"},
		Repository: identity.Repository{UUID: fmt.Sprintf("5b1b2c5e-7c5a-4f0f-9a9f-%012d", len(repository)), FullName: repository, Project: "PAY"},
		Pipeline:   identity.Run{UUID: fmt.Sprintf("0a000000-0000-4000-8000-%012d", s.n/3)},
		Step:       identity.Run{UUID: fmt.Sprintf("0b000000-0000-4000-8000-%012d", s.n)},
	}
	if deployment != "" {
		p.Deployment = &identity.Deployment{UUID: fmt.Sprintf("0c000000-0000-4000-8000-%012d", len(deployment)), Name: deployment, Slug: deployment, Type: deployment}
	}
	r := &policy.Request{Principal: p, Action: policy.Connect, Target: parsed, ClientAddress: netip.MustParseAddr("192.0.2.7"), Time: at}
	d, _ := s.set.Decide(s.t.Context(), r)
	e := &audit.Event{
		Time: at, Kind: audit.KindDecision, DecisionID: fmt.Sprintf("01a1fdf4-c192-7cf7-900b-%012d", s.n), Listener: ":3128",
		Issuer: p.Issuer, CredentialKind: p.CredentialKind, WorkspaceUUID: p.Workspace.UUID, Workspace: "acme",
		RepositoryUUID: p.Repository.UUID, Repository: repository, Project: "PAY", PipelineUUID: p.Pipeline.UUID, StepUUID: p.Step.UUID,
		Branch: branch, ClientAddress: r.ClientAddress, Action: "connect", Scheme: "https", Host: parsed.Host, Port: parsed.Port,
		Verdict: d.Verdict.String(), Mode: d.Mode.String(), WouldDeny: d.WouldDeny, Reason: string(d.Reason), Rule: d.Rule, Rules: d.Rules,
		Message: d.Message, Revision: d.Revision.Digest, Status: 200, Input: d.Input,
	}
	if p.Deployment != nil {
		e.DeploymentUUID, e.Deployment, e.DeploymentType = p.Deployment.UUID, deployment, deployment
	}
	if d.Verdict != policy.Allow {
		e.Status = 403
	}
	return e
}

// exec runs a statement as the superuser.
func (s *seeded) exec(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// run runs a policy command on the log.
func (s *seeded) run(status int, args ...string) string {
	s.t.Helper()
	return runCommand(s.t, status, append([]string{"policy"}, append(args, "--database-url-file", s.urlFile)...)...)
}

// runCommand runs a command, checks its exit status, and returns both its outputs.
func runCommand(t testing.TB, status int, args ...string) string {
	t.Helper()
	code, out, errOut := command(t, args...)
	if code != status {
		t.Fatalf("%v ended with %d, want %d:\n%s%s", args, code, status, out, errOut)
	}
	return out + errOut
}

// exported is the log as an export in a file.
func (s *seeded) exported() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "audit.jsonl")
	runCommand(s.t, 0, "audit", "export", "--quiet", "-o", path, "--database-url-file", s.urlFile)
	return path
}

func checkContains(t testing.TB, output string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(output, part) {
			t.Errorf("the output does not contain %q:\n%s", part, output)
		}
	}
}

func fromJSON[T any](t testing.TB, output string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(output), &v); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return v
}

const oldTree = `
-- egress/a.rego --
package sallyport.egress

import data.sallyport.lib

allow contains {"rule": "shared"} if lib.target_in(input.target, {"registry.example"})

allow contains {"rule": "branch"} if {
	input.principal.branch == "main"
	lib.target_in(input.target, {"main.example"})
}

report contains {"rule": "observed"} if input.principal.repository.full_name == "acme/website"

delegate contains {"rule": "own"} if input.principal.repository.full_name == "acme/payments"
-- repositories/acme/payments/p.rego --
package sallyport.repository["acme/payments"]

allow contains {"rule": "settle", "expires": "2099-01-01T00:00:00Z"} if {
	input.principal.deployment.type == "production"
	input.target.host == "api.partner.example"
}
`

// newTree denies payments the partner, allows everybody the mirror, and enforces.
const newTree = `
-- egress/a.rego --
package sallyport.egress

import data.sallyport.lib

allow contains {"rule": "shared"} if lib.target_in(input.target, {"registry.example", "mirror.example"})

allow contains {"rule": "branch"} if {
	input.principal.branch == "main"
	lib.target_in(input.target, {"main.example"})
}
`

// fill sends the requests that the tests of the tools check.
func (s *seeded) fill() (settled string) {
	for range 3 {
		settled = s.recordDecision("acme/payments", "production", "main", "api.partner.example:443")
	}
	s.recordDecision("acme/payments", "", "feature/x", "api.partner.example:443")
	s.recordDecision("acme/payments", "", "feature/x", "mirror.example:443")
	s.recordDecision("acme/payments", "", "main", "main.example:443")
	s.recordDecision("acme/payments", "", "feature/x", "main.example:443")
	s.recordDecision("acme/website", "", "main", "fonts.example:443")
	s.recordDecision("acme/website", "", "main", "fonts.example:443")
	s.recordDecision("acme/website", "staging", "main", "registry.example:443")
	return settled
}

func TestPolicyExplain(t *testing.T) {
	t.Parallel()
	old := tree(t, oldTree)
	s := newSeeded(t, old)
	settled := s.fill()
	refused := s.recordDecision("acme/payments", "", "feature/x", "api.partner.example:443")

	output := s.run(0, "explain", settled)
	checkContains(t, output, "decision "+settled, "\nreproduced\n", "asked for    connect api.partner.example:443", "allow settle  repositories/acme/payments/p.rego:3", "expires      2099-01-01T00:00:00Z")
	output = s.run(0, "explain", refused)
	checkContains(t, output, "\nreproduced\n", "reason       no_rule_matched", "repositories/acme/payments/p.rego:4: input.principal.deployment.type == \"production\"", "input.principal.deployment.type is absent")

	// Another policy decides otherwise; an export needs one.
	output = s.run(1, "explain", settled, "--policy", tree(t, newTree), "--format", "json")
	got := fromJSON[struct {
		Reproduced bool
		Then, Now  string
		Rules      []struct{ Rule string }
	}](t, output)
	if got.Reproduced || got.Then != "allow" || got.Now != "deny" || len(got.Rules) != 2 {
		t.Errorf("%+v\n%s", got, output)
	}
	export := s.exported()
	checkContains(t, runCommand(t, 2, "policy", "explain", settled, "--export", export), "an export holds no policies: name the policy's directory at that revision with --policy DIR")
	checkContains(t, runCommand(t, 0, "policy", "explain", settled, "--export", export, "--policy", old), "\nreproduced\n")

	// Refused after policy had allowed it, and before policy was evaluated.
	e := s.event("acme/payments", "production", "main", "api.partner.example:443")
	e.Verdict, e.Reason, e.Status = "deny", "address_prohibited", 403
	before := s.event("acme/payments", "production", "main", "api.partner.example:443")
	before.Verdict, before.Reason, before.Status, before.Input, before.Rule, before.Rules = "deny", "step_limit", 503, nil, "", nil
	// What the policy of that revision would not have decided.
	forged := s.event("acme/payments", "", "main", "nowhere.example:443")
	forged.Verdict, forged.Reason, forged.Rule = "allow", "policy_allowed", "settle"
	for _, e := range []*audit.Event{e, before, forged} {
		if err := s.log.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	checkContains(t, s.run(0, "explain", e.DecisionID), "\nreproduced\n", "policy allowed it, and it was refused afterwards: address_prohibited")
	checkContains(t, s.run(1, "explain", before.DecisionID), "policy was not asked", "step_limit")
	checkContains(t, s.run(1, "explain", forged.DecisionID), "NOT reproduced", "the verdict is another one")

	checkContains(t, s.run(1, "explain", "01a1fdf4-c192-7cf7-900b-0000000fffff"), "the log has no decision")
	checkContains(t, s.run(2, "explain", "x"), "is not a decision's id")
}

func TestPolicyReplay(t *testing.T) {
	t.Parallel()
	old := tree(t, oldTree)
	s := newSeeded(t, old)
	settled := s.fill()
	checkContains(t, s.run(0, "replay", old, "--since", "2h", "--fail-on", "any"), "0 of 10 decisions would differ")

	changed := tree(t, newTree)
	output := s.run(0, "replay", changed, "--since", "2h")
	checkContains(t, output, "acme/payments  production  api.partner.example:443\n  allow -> deny, by settle -> no rule\n  3 times", settled,
		"acme/website  -  fonts.example:443\n  would deny -> deny, by observed -> no rule\n  2 times",
		"acme/payments  -  mirror.example:443\n  deny -> allow, by no rule -> shared\n  once, at",
		"6 of 10 decisions would differ: 5 closed, 1 opened, 0 in report mode only")
	if strings.Contains(output, "main.example") || strings.Contains(output, "registry.example") {
		t.Errorf("it tells of what does not differ:\n%s", output)
	}
	for _, on := range []string{"closed", "opened", "any"} {
		s.run(1, "replay", changed, "--since", "2h", "--fail-on", on)
	}
	s.run(0, "replay", changed, "--since", "2h", "--repository", "acme/nobody", "--fail-on", "any")
	checkContains(t, s.run(0, "replay", changed, "--since", "2h", "--groups", "1"), "and 2 more groups")

	// The same from an export, as JSON.
	out := runCommand(t, 1, "policy", "replay", changed, "--export", s.exported(), "--format", "json", "--fail-on", "closed")
	got := fromJSON[struct {
		Decisions, Differ, Closed, Opened, Evaluated int64
		Groups                                       []struct {
			Repository, Deployment, Target, From, To, Rule, Example string
			OldRule                                                 string `json:"old_rule"`
			Count                                                   int64
		}
	}](t, out)
	if got.Decisions != 10 || got.Differ != 6 || got.Closed != 5 || got.Opened != 1 || len(got.Groups) != 3 || got.Evaluated >= 10 ||
		got.Groups[0].Count != 3 || got.Groups[0].Example != settled || got.Groups[0].OldRule != "settle" {
		t.Errorf("%+v\n%s", got, out)
	}

	// Nothing of the command or the policy passes for a difference.
	checkContains(t, s.run(2, "replay", changed, "--fail-on", "everything"), "want one of none, closed, opened, any")
	checkContains(t, s.run(2, "replay", changed, "--since", "2h", "--until", "3h"), "is not before --until")
	checkContains(t, s.run(2, "replay", tree(t, "-- egress/a.rego --\npackage sallyport.egress\n\nallow contains x if x := 1\n")), "egress/a.rego:3")
	checkContains(t, runCommand(t, 2, "policy", "replay", changed, "--export", filepath.Join(changed, "egress/a.rego")), "sallyport audit export")
	checkContains(t, runCommand(t, 2, "policy", "replay", changed, "--database-url-file", filepath.Join(changed, "none")), "file does not exist")
	checkContains(t, s.run(0, "replay", changed, "--since", "2099-01-01", "--until", "2099-02-01", "--fail-on", "any"), "no request reached policy in that time: check --since")
}

// TestPolicyReplayAsDecided: the revision that made a decision evaluates it again, and
// one that does not come out as recorded, or has no such revision, is reported.
func TestPolicyReplayAsDecided(t *testing.T) {
	t.Parallel()
	s := newSeeded(t, tree(t, oldTree))
	s.fill()
	s.use(tree(t, newTree))
	s.recordDecision("acme/website", "", "main", "fonts.example:443")
	checkContains(t, s.run(0, "replay", "--as-decided", "--since", "2h"), "0 of 11 decisions do not come out as they were recorded, each by the revision that made it; 2 revisions")

	record := func(change func(e *audit.Event)) string {
		e := s.event("acme/payments", "", "feature/x", "mirror.example:443")
		change(e)
		if err := s.log.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		return e.DecisionID
	}
	another := record(func(e *audit.Event) { e.Verdict, e.Reason, e.Rule, e.Status = "deny", "no_rule_matched", "", 403 })
	rule := record(func(e *audit.Event) { e.Rule = "nobody" })
	none := record(func(e *audit.Event) { e.Revision = "" })
	unknown := record(func(e *audit.Event) { e.Revision = "sha256:" + strings.Repeat("0", 64) })
	output := s.run(1, "replay", "--as-decided", "--since", "2h")
	checkContains(t, output, another, rule, none, unknown, "deny -> allow, by no rule -> shared", "allow -> no revision", `the rule was "nobody" and is "shared"`, "4 of 15 decisions do not come out")
	checkContains(t, s.run(1, "replay", "--as-decided", "--since", "2h", "--format", "json"), `"as_decided": true`, `"differ": 4`)
	s.run(0, "replay", "--as-decided", "--since", "2h", "--repository", "acme/website")
	checkContains(t, s.run(2, "replay", "--as-decided", "."), "leave out .")
	checkContains(t, runCommand(t, 2, "policy", "replay", "--as-decided", "--export", s.exported()), "an export holds none")
}

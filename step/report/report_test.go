package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/step/forwarder"
	"github.com/sallyport/sallyport/step/upstream"
)

func TestMain(m *testing.M) {
	rego.ServeWorker()
	os.Exit(m.Run())
}

const decision = "01a1fdf4-c192-7cf7-900b-49ceb24f5238"

// serverStep is what a server knows of a step.
func serverStep() *stepapi.Step {
	return &stepapi.Step{
		Principal: stepapi.Principal{Workspace: "acme", Repository: "acme/payments", Deployment: "production", RepositoryUUID: "11112222-3333-4444-5555-000000000001"},
		Mode:      stepapi.ModeEnforce,
		Requests:  stepapi.Requests{Allowed: 3, Denied: 5, Closed: 1},
		Entries: []stepapi.Entry{
			{Kind: stepapi.KindAllowed, Reason: "policy_allowed", Rule: "partner", Action: "connect", Target: "api.partner.example:443", Repeats: 2, DecisionID: "d0", BytesSent: 1200, BytesReceived: 340000},
			{Kind: stepapi.KindRefused, Status: 403, Reason: "no_rule_matched", Action: "connect", Target: "registry.a.example:443", Repeats: 3, DecisionID: decision, Next: "ask the owner of the policy for a rule"},
			{Kind: stepapi.KindRefused, Status: 403, Reason: "policy_denied", Rule: "guardrails", Message: "pastes are not allowed", Action: "request", Target: "paste.example:80", DecisionID: "d2", Next: "do not repeat the request"},
			{Kind: stepapi.KindClosed, CloseReason: "hello_encrypted", Reason: "policy_allowed", Action: "connect", Target: "www.partner.example:443", DecisionID: "d3", Next: `set "ech": true in the rule`},
		},
	}
}

// localReport is what the forwarder of the same step served.
func localReport() *forwarder.Report {
	return &forwarder.Report{
		Allowed: 4, Denied: 3, Repeats: 7,
		Targets: []forwarder.Target{{Name: "API.partner.example:443", Allowed: 3, BytesSent: 1200}, {Name: "old.example:443", Allowed: 1, BytesSent: 10, BytesReceived: 20}},
		Refusals: []forwarder.Refusal{
			{Refusal: upstream.Refusal{Status: 403, Reason: "no_rule_matched", DecisionID: decision}, Action: "connect", Target: "registry.a.example:443", Repeats: 7, Time: time.Now()},
			{Refusal: upstream.Refusal{Status: 403, Reason: "no_rule_matched", DecisionID: "d9"}, Action: "request", Method: "GET", Target: "http://Mirror.example/x"},
			{Refusal: upstream.Refusal{Status: 502, Reason: "proxy_unreachable", Next: "check the proxy"}, Action: "connect", Target: "a.example:443"},
		},
	}
}

func summary(t *testing.T, c Config) *Summary {
	t.Helper()
	s, err := Summarize(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func withServer(s *stepapi.Step) func(context.Context) (*stepapi.Step, error) {
	return func(context.Context) (*stepapi.Step, error) { return s, nil }
}

// TestSummary: the server's answer and the forwarder's counts are one report; repeats that
// only the forwarder saw are added, and nothing is counted twice.
func TestSummary(t *testing.T) {
	t.Parallel()
	s := summary(t, Config{Server: withServer(serverStep()), Local: localReport()})
	var got []string
	for _, r := range append(s.Problems, s.Allowed...) {
		got = append(got, fmt.Sprintf("%s %s %s %d", r.Outcome, r.Target, r.Reason, r.Times))
	}
	want := "denied a.example:443 proxy_unreachable 1, denied mirror.example:80 no_rule_matched 1, denied paste.example:80 policy_denied 1, " +
		"denied registry.a.example:443 no_rule_matched 11, closed www.partner.example:443 hello_encrypted 1, " +
		"allowed api.partner.example:443 policy_allowed 3, allowed old.example:443  1"
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("got\n%s\nwant\n%s", all, want)
	}
	if s.Requests != serverStep().Requests || len(s.Notes) != 0 {
		t.Errorf("%+v %q", s.Requests, s.Notes)
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	away := func(context.Context) (*stepapi.Step, error) { return nil, errors.New("away\x1b[2J") }
	s := summary(t, Config{Server: away, Local: localReport()})
	if s.Requests.Denied != 10 || len(s.Problems) != 3 || s.Rules != "" || !strings.Contains(strings.Join(s.Notes, "\n"), `away\x1b`) {
		t.Errorf("%+v", s)
	}
	if s := summary(t, Config{Server: withServer(serverStep())}); len(s.Problems) != 3 || len(s.Notes) != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := Summarize(t.Context(), Config{Server: away}); err == nil {
		t.Error("there is a report without a source")
	}
	if err := Run(t.Context(), Config{}, nil); err == nil {
		t.Error("there is a report without a source")
	}
}

// TestRulesAllowWhatWasDenied: the rules to ask for load, allow the targets that no rule
// allowed for this deployment, with the relaxation that a close asked for, and nothing else.
func TestRulesAllowWhatWasDenied(t *testing.T) {
	t.Parallel()
	step := serverStep()
	step.Entries = append(step.Entries,
		stepapi.Entry{Kind: stepapi.KindWouldDeny, Reason: "no_rule_matched", Action: "request", Target: "mirror.example:8080", DecisionID: "d4"},
		stepapi.Entry{Kind: stepapi.KindRefused, Reason: "no_rule_matched", Action: "connect", Target: "[2001:db8::1]:443", DecisionID: "d5"},
		stepapi.Entry{Kind: stepapi.KindWouldClose, CloseReason: "hello_missing", Action: "connect", Target: "a_b.example:443", DecisionID: "d6"},
		stepapi.Entry{Kind: stepapi.KindRefused, Reason: "no_rule_matched", Action: "connect", Target: "\x1b]0;evil\"} allow", DecisionID: "d7"},
		stepapi.Entry{Kind: stepapi.KindRefused, Reason: "target_invalid", Action: "connect", Target: "invalid.example:443", DecisionID: "d8"})
	s := summary(t, Config{Server: withServer(step)})
	if s.RulesFile != "repositories/acme/payments/requested.rego" {
		t.Error(s.RulesFile)
	}
	snapshot, err := policy.NewSnapshot([]policy.File{
		{Path: "egress/delegate.rego", Content: []byte("package sallyport.egress\n\ndelegate contains {\"rule\": \"own\"}\n")},
		{Path: s.RulesFile, Content: []byte(s.Rules)},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	set, err := rego.Load(t.Context(), snapshot, rego.Options{Names: true})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Rules)
	}
	for request, want := range map[string]policy.Verdict{
		"connect registry.a.example:443": policy.Allow, "connect www.partner.example:443": policy.Allow, "connect [2001:db8::1]:443": policy.Allow,
		"connect a_b.example:443": policy.Allow, "request mirror.example:8080": policy.Allow,
		"connect registry.a.example:80": policy.Deny, "connect mirror.example:8080": policy.Deny, "connect paste.example:80": policy.Deny,
		"connect invalid.example:443": policy.Deny, "connect api.partner.example:443": policy.Deny,
	} {
		for deployment, want := range map[string]policy.Verdict{"production": want, "staging": policy.Deny} {
			action, target, _ := strings.Cut(request, " ")
			parsed, err := destination.ParseAuthority(target)
			if err != nil {
				t.Fatal(err)
			}
			d, err := set.Decide(t.Context(), &policy.Request{Time: time.Now(), Action: policy.Action(action), Target: parsed, Principal: &identity.Principal{
				Workspace:  identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d", Slug: "acme"},
				Repository: identity.Repository{UUID: "11112222-3333-4444-5555-000000000001", FullName: "acme/payments"},
				Deployment: &identity.Deployment{UUID: "11112222-3333-4444-5555-000000000002", Slug: deployment, Name: deployment},
			}})
			if err != nil || d.Verdict != want {
				t.Errorf("%s in %s: %+v %v, want %v", request, deployment, d, err, want)
			}
		}
	}
	for _, key := range []string{`"ech": true} if {`, `"no_sni": true} if {`, `"allow_ip_literal": true} if {`} {
		if strings.Count(s.Rules, key) != 1 {
			t.Errorf("%s is not in one rule:\n%s", key, s.Rules)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := Run(t.Context(), Config{Server: withServer(serverStep()), Local: localReport(), JSON: true}, &out); err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := json.Unmarshal([]byte(out.String()), &s); err != nil || len(s.Problems) != 5 || s.Principal.Repository != "acme/payments" {
		t.Errorf("%v\n%s", err, out.String())
	}
}

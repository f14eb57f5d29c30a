package policycmd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

const (
	pushBody = `{"actor":{"type":"user","uuid":"{11111111-0000-4000-8000-000000000001}"},` +
		`"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000002}","project":{"key":"PAY"}},` +
		`"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"old":null}]}}`
	deliveryRules = `package sallyport.webhook

allow contains {"rule": "pushes"} if input.event == "repo:push"

deny contains {"rule": "no-tags"} if {
	some ref in input.refs
	ref.type == "tag"
}

route contains {"rule": "to-jenkins", "action": "forward", "endpoint": "jenkins"} if {
	some ref in input.refs
	ref.name == "main"
}
`
	decisionID = "01a1fdf4-c192-7cf7-900b-49ceb24f5238"
)

// write writes files below a new directory: paths and contents in turn.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run executes a command, and returns what it prints and its error.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := New()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func wantOutput(t *testing.T, output string, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(output, part) {
			t.Errorf("no %q in (%v)\n%s", part, err, output)
		}
	}
}

func TestEvaluateDelivery(t *testing.T) {
	t.Parallel()
	dir := write(t, "webhook/a.rego", deliveryRules)
	body := filepath.Join(write(t, "push.json", pushBody), "push.json")
	flags := func(more ...string) []string {
		return append([]string{"eval", dir, "--delivery", body, "--receiver", "builds", "--event", "repo:push"}, more...)
	}
	out, err := run(t, flags("--explain", "--expect", "allow")...)
	wantOutput(t, out, err, "verdict      allow", "rule         pushes", "routes       forward to jenkins", "allow pushes  webhook/a.rego:3", "deny no-tags  webhook/a.rego:5", "ref.type == \"tag\"")
	if err != nil || strings.Contains(out, "protocol") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(t, flags("--format", "json")...)
	wantOutput(t, out, err, `"verdict": "allow"`, `"action": "forward"`, `"endpoint": "jenkins"`)
	if _, err = run(t, flags("--expect", "deny")...); err == nil || !strings.Contains(err.Error(), "the verdict is allow") {
		t.Errorf("an expectation that does not hold: %v", err)
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a misspelled event":       {[]string{"--delivery", body, "--receiver", "builds", "--event", "repo:psuh"}, "did you mean repo:push?"},
		"an event of another kind": {[]string{"--delivery", body, "--receiver", "builds", "--event", "repo:push", "--kind", "data_center"}, "is not an event of kind data_center"},
		"no event":                 {[]string{"--delivery", body, "--receiver", "builds"}, "--event is missing"},
		"no receiver":              {[]string{"--delivery", body, "--event", "repo:push"}, "--receiver is missing"},
		"no file":                  {[]string{"--delivery", body + "x", "--receiver", "builds", "--event", "repo:push"}, "file does not exist"},
		"the body of another":      {[]string{"--delivery", body, "--receiver", "builds", "--event", "pullrequest:created"}, "pullrequest"},
		"an address":               {[]string{"--delivery", body, "--receiver", "builds", "--event", "repo:push", "--client", "x"}, "--client"},
		"a request as well":        {[]string{"--delivery", body, "--as", "repository=acme/app"}, "give one of them"},
	} {
		if _, err := run(t, append([]string{"eval", dir}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	without := write(t, "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n")
	if _, err := run(t, append([]string{"eval", without}, flags()[2:]...)...); err == nil || !strings.Contains(err.Error(), "no package sallyport.webhook") {
		t.Errorf("without the package: %v", err)
	}
}

// recordedDelivery writes an export with one recorded delivery, as a policy decided it.
func recordedDelivery(t *testing.T, dir string) string {
	t.Helper()
	return recordedBy(t, dir, "")
}

// recordedBy is recordedDelivery with another reason of an allow; empty: the policy's.
func recordedBy(t *testing.T, dir, reason string) string {
	t.Helper()
	set, err := loadTree(t.Context(), dir, true)
	if err != nil {
		t.Fatal(err)
	}
	event, err := webhook.Parse(webhook.Cloud, "repo:push", []byte(pushBody))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	d, err := set.DecideDelivery(t.Context(), &webhook.Delivery{Receiver: "builds", Event: event, Received: at})
	if err != nil || !rego.IsDelivery(d.Input) {
		t.Fatal(err, string(d.Input))
	}
	e := &audit.Event{
		Time: at, Kind: audit.KindWebhookReceived, DecisionID: decisionID, Writer: "w", WriterSequence: 1, Action: "webhook", Verdict: d.Verdict.String(),
		Reason: string(d.Reason), Rule: d.Rule, Rules: d.Rules, Revision: d.Revision.Digest, Repository: "acme/app", Input: d.Input,
	}
	if routes := webhook.RoutesText(d.Routes); routes != "" {
		e.Attributes = []audit.Attribute{{Name: "receiver", Value: "builds"}, {Name: "routes", Value: routes}}
	}
	if reason != "" {
		e.Reason, e.Rule, e.Rules = reason, "", nil
	}
	e.Normalise()
	export := fmt.Sprintf("{\"export\":1}\n{\"record\":%s}\n{\"end\":{}}\n", e.AppendRecord(nil))
	return filepath.Join(write(t, "audit.jsonl", export), "audit.jsonl")
}

func TestReplayDelivery(t *testing.T) {
	t.Parallel()
	dir := write(t, "webhook/a.rego", deliveryRules)
	export := recordedDelivery(t, dir)
	out, err := run(t, "replay", dir, "--export", export, "--fail-on", "any")
	wantOutput(t, out, err, "0 of 1 decisions would differ")
	if err != nil {
		t.Error(err)
	}
	stricter := write(t, "webhook/a.rego", strings.Replace(deliveryRules, `== "tag"`, `== "branch"`, 1))
	out, err = run(t, "replay", stricter, "--export", export, "--fail-on", "closed")
	wantOutput(t, out, err, "acme/app  -  builds repo:push", "allow -> deny, by pushes -> no-tags", "1 closed")
	if err == nil {
		t.Error("a closed delivery does not fail the replay")
	}

	out, err = run(t, "explain", decisionID, "--export", export, "--policy", dir)
	wantOutput(t, out, err, "delivery     repo:push to receiver builds, branch main created", "reproduced", "routes       forward to jenkins", "route to-jenkins  webhook/a.rego:10")
	if err != nil {
		t.Error(err)
	}
	out, err = run(t, "explain", decisionID, "--export", export, "--policy", dir, "--format", "json")
	wantOutput(t, out, err, `"reproduced": true`, `"decision_id": "`+decisionID, `"endpoint": "jenkins"`)
	out, err = run(t, "explain", decisionID, "--export", export, "--policy", stricter)
	wantOutput(t, out, err, "the other policy has another result", "deny no-tags", "does not count: the delivery is denied")

	// A policy that routes elsewhere lets the same deliveries pass.
	elsewhere := write(t, "webhook/a.rego", strings.Replace(deliveryRules, `"endpoint": "jenkins"`, `"endpoint": "kargo"`, 1))
	out, err = run(t, "replay", elsewhere, "--export", export, "--fail-on", "any")
	wantOutput(t, out, err, "allow, forward jenkins -> allow, forward to kargo", "0 closed, 0 opened, 0 in report mode only, 1 routed in another way")
	if err == nil {
		t.Error("another route is not a difference from the record")
	}
	out, err = run(t, "explain", decisionID, "--export", export, "--policy", elsewhere)
	wantOutput(t, out, err, "the other policy has another result", `the routes were "forward jenkins" and are "forward kargo"`)
	if err == nil {
		t.Error("a delivery with other routes is reproduced")
	}
	out, err = run(t, "diff", dir, elsewhere, "--export", export, "--fail-on", "any")
	wantOutput(t, out, err, "allow, forward to jenkins -> allow, forward to kargo", "1 of 1 decisions would differ: 0 closed, 0 opened")
	if err == nil {
		t.Error("another route is not a difference")
	}
	out, err = run(t, "diff", dir, dir, "--export", export, "--fail-on", "any")
	wantOutput(t, out, err, "0 of 1 decisions would differ")
	if err != nil {
		t.Error(err)
	}
}

// TestConfiguredDelivery: a delivery that the configuration decided is the same for a policy
// without rules about deliveries, and can be compared with one that has some.
func TestConfiguredDelivery(t *testing.T) {
	t.Parallel()
	dir := write(t, "webhook/a.rego", deliveryRules)
	without := write(t, "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n")
	export := recordedBy(t, dir, "webhook_configured")
	out, err := run(t, "replay", without, "--export", export, "--fail-on", "any")
	wantOutput(t, out, err, "0 of 1 decisions would differ")
	if err != nil || strings.Contains(out, "could not be evaluated") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(t, "replay", dir, "--export", export, "--fail-on", "closed")
	wantOutput(t, out, err, "configured -> allow, by no rule -> pushes", "0 closed, 0 opened, 0 in report mode only, 1 routed in another way")
	if err != nil {
		t.Error(err)
	}
	stricter := write(t, "webhook/a.rego", strings.Replace(deliveryRules, `== "repo:push"`, `== "repo:fork"`, 1))
	out, err = run(t, "diff", without, stricter, "--export", export, "--fail-on", "closed")
	wantOutput(t, out, err, "configured -> deny, by no rule -> no rule", "1 closed")
	if err == nil {
		t.Error("a delivery that would be denied is not reported as different")
	}
	out, err = run(t, "explain", decisionID, "--export", export, "--policy", without)
	wantOutput(t, out, err, "the other policy has the same result", "the receiver's configured actions apply")
	if err != nil {
		t.Error(err)
	}
}

// TestDeliveriesAreNoRequests: commands about targets leave deliveries out.
func TestDeliveriesAreNoRequests(t *testing.T) {
	t.Parallel()
	dir := write(t, "webhook/a.rego", deliveryRules, "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n")
	out, err := run(t, "who-can", dir, "--export", recordedDelivery(t, dir), "--to", "a.example", "--all")
	if err != nil || strings.Contains(out, "acme/app") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestCheckWithConfiguration: a receiver or endpoint that a server's configuration does not
// have is an error.
func TestCheckWithConfiguration(t *testing.T) {
	t.Parallel()
	rules := strings.Replace(deliveryRules, `if input.event == "repo:push"`, "if {\n\tinput.receiver == \"builds\"\n\tinput.event == \"repo:push\"\n}", 1)
	dir := write(t, "webhook/a.rego", rules, "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n")
	if out, err := run(t, "check", dir, "--strict"); err != nil {
		t.Errorf("without a configuration: %v\n%s", err, out)
	}
	configuration := func(receiver, endpoint string) string {
		return filepath.Join(write(t, "sallyport.yaml", strings.NewReplacer("RECEIVER", receiver, "ENDPOINT", endpoint).Replace(serverConfiguration)), "sallyport.yaml")
	}
	if out, err := run(t, "check", dir, "--strict", "-c", configuration("builds", "jenkins")); err != nil {
		t.Errorf("with the names: %v\n%s", err, out)
	}
	refresh := filepath.Join(write(t, "sallyport.yaml", strings.NewReplacer("RECEIVER", "builds", "ENDPOINT", "jenkins", "forward_to:", "actions: [refresh_policy], forward_to:").Replace(serverConfiguration)), "sallyport.yaml")
	out, err := run(t, "check", dir, "--strict", "-c", refresh)
	wantOutput(t, out, err, "the configured action refresh_policy of the receiver builds has no effect", `add: route contains {"rule": "an-id", "action": "refresh_policy"} if input.receiver == "builds"`)
	if err == nil {
		t.Error("an action that has no effect is accepted")
	}
	egressOnly := write(t, "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n")
	if out, err := run(t, "check", egressOnly, "--strict", "-c", refresh); err != nil {
		t.Errorf("without rules about deliveries: %v\n%s", err, out)
	}
	out, err = run(t, "check", dir, "-c", configuration("bulids", "jenkns"))
	wantOutput(t, out, err, `webhook/a.rego:4:20: no receiver is named "builds": did you mean bulids?`, `no endpoint is named "jenkins": did you mean jenkns?`)
	if err == nil {
		t.Error("unknown names are accepted")
	}
}

const serverConfiguration = `listeners: [{address: "127.0.0.1:3128"}]
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "{922E118C-f34f-4226-a897-0e0afbec553d}"
      issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
      audiences: ["https://egress.acme.example"]
policy: {git: {url: "https://bitbucket.org/acme/egress-policy.git"}}
audit: {embedded: true}
webhooks:
  listener: {address: "127.0.0.1:8443"}
  receivers:
    - {name: RECEIVER, path: /hooks/builds, kind: cloud, secret_file: secret, forward_to: [ENDPOINT]}
  endpoints:
    - {name: ENDPOINT, url: "https://jenkins.example/hook"}
`

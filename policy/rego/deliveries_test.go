package rego

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// hooks is a policy about deliveries, with line 3 as its first rule.
const hooks = `-- webhook/deliveries.rego --
package sallyport.webhook

allow contains {"rule": "pushes"} if input.event == "repo:push"

allow contains {"rule": "merges", "message": "merged"} if input.event in {"pullrequest:fulfilled", "pr:merged"}

same_repository if input.pull_request.source.repository.uuid == input.repository.uuid

deny contains {"rule": "no-forks", "message": "fork pull requests are not delivered"} if {
	input.pull_request
	not same_repository
}

deny contains {"rule": "no-tags", "enforce_in_report_mode": true} if {
	some ref in input.refs
	ref.type == "tag"
}

report contains {"rule": "observed"} if input.repository.full_name == "acme/website"

route contains {"rule": "to-jenkins", "action": "forward", "endpoint": "jenkins"} if {
	some ref in input.refs
	ref.type == "branch"
	ref.change != "deleted"
	ref.name == "main"
}

route contains {"rule": "policy", "action": "refresh_policy"} if input.receiver == "policy"

route contains {"rule": "jenkins-again", "action": "forward", "endpoint": "jenkins"} if input.receiver == "policy"
-- egress/a.rego --
package sallyport.egress

deny contains {"rule": "nowhere"} if input.target.port == 25
`

// ownHooks is the folder of acme/tools with a rule about deliveries.
const ownHooks = `-- repositories/acme/tools/webhook/a.rego --
package sallyport.webhook_repository["acme/tools"]

deny contains {"rule": "only-main", "message": "main is delivered"} if {
	some ref in input.refs
	ref.name != "main"
}
`

// deliveryOf makes a delivery of words such as
//
//	event=repo:push receiver=policy repository=acme/app ref=branch:main:updated
//	fork=acme/fork (- where it was deleted) kind=data_center
//
// A fork makes it a pull request.
func deliveryOf(t testing.TB, words ...string) *webhook.Delivery {
	t.Helper()
	e := &webhook.Event{Kind: webhook.Cloud, Key: "repo:push", Actor: webhook.Actor{UUID: workspaceUUID, Kind: "user"},
		Repository: &webhook.Repository{UUID: repositoryUUID, FullName: "acme/app", Project: "PAY"}}
	d := &webhook.Delivery{Receiver: "builds", Event: e, Client: netip.MustParseAddr("192.0.2.7"), Received: time.Date(2026, 11, 21, 8, 40, 0, 123456000, time.UTC)}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "event":
			e.Key = value
		case "receiver":
			d.Receiver = value
		case "repository":
			if e.Repository.FullName = value; value == "-" {
				e.Repository = nil
			}
		case "kind":
			e.Kind = webhook.DataCenter
			e.Repository.UUID, e.Repository.ID, e.Actor = "", 12, webhook.Actor{ID: 4, Kind: "normal"}
		case "ref":
			parts := strings.Split(value, ":")
			e.Refs = append(e.Refs, webhook.Ref{Type: webhook.RefType(parts[0]), Name: parts[1], Change: webhook.Change(parts[2])})
		case "fork":
			e.PullRequest = &webhook.PullRequest{ID: 7, State: "OPEN", Destination: webhook.Side{Repository: e.Repository, Branch: "main"}, Source: webhook.Side{Branch: "fix"}}
			if value != "-" {
				e.PullRequest.Source.Repository = &webhook.Repository{UUID: value, FullName: "acme/fork"}
			}
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return d
}

// describedDelivery writes a decision as words, without its zero values.
func describedDelivery(d webhook.Decision, err error) string {
	words := []string{d.Verdict.String(), string(d.Reason)}
	add := func(set bool, format string, args ...any) {
		if set {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(d.Rule != "", "rule=%s", d.Rule)
	add(len(d.Rules) > 1, "rules=%s", strings.Join(d.Rules, ","))
	add(d.Mode == policy.Report, "report")
	add(d.WouldDeny, "would_deny")
	for _, r := range d.Routes {
		add(true, "%s:%s:%s", r.Action, r.Endpoint, r.Rule)
	}
	add(d.Message != "", "message=%s", strconv.Quote(d.Message))
	add(err != nil, "error")
	return strings.Join(words, " ")
}

func wantDelivery(t *testing.T, set *Set, want string, words ...string) webhook.Decision {
	t.Helper()
	d, err := set.DecideDelivery(t.Context(), deliveryOf(t, words...))
	if got := describedDelivery(d, err); got != want {
		t.Errorf("%s:\n got %s\nwant %s (%v)", strings.Join(words, " "), got, want, err)
	}
	if d.Revision != set.Revision() || d.Input == nil {
		t.Errorf("%s: revision %v, input %s", strings.Join(words, " "), d.Revision, d.Input)
	}
	return d
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, hooks+ownHooks)
	const other = "5b1b2c5e-7c5a-4f0f-9a9f-000000000000"
	for _, c := range []struct{ words, want string }{
		{"", "allow policy_allowed rule=pushes"},
		{"ref=branch:main:updated", "allow policy_allowed rule=pushes rules=pushes,to-jenkins forward:jenkins:to-jenkins"},
		{"ref=branch:main:deleted", "allow policy_allowed rule=pushes"},
		{"receiver=policy", "allow policy_allowed rule=pushes rules=pushes,jenkins-again,policy forward:jenkins:jenkins-again refresh_policy::policy"},
		{"receiver=policy ref=branch:main:created", "allow policy_allowed rule=pushes rules=pushes,jenkins-again,policy,to-jenkins forward:jenkins:jenkins-again refresh_policy::policy"},
		{"event=repo:fork", "deny no_rule_matched"},
		{"event=repo:fork receiver=policy", "deny no_rule_matched"},
		{"ref=tag:v1:created receiver=policy", "deny policy_denied rule=no-tags rules=no-tags,pushes"},
		{"event=pullrequest:fulfilled fork=" + repositoryUUID, `allow policy_allowed rule=merges message="merged"`},
		{"event=pullrequest:fulfilled fork=" + other, `deny policy_denied rule=no-forks rules=no-forks,merges message="fork pull requests are not delivered"`},
		{"event=pullrequest:fulfilled fork=-", `deny policy_denied rule=no-forks rules=no-forks,merges message="fork pull requests are not delivered"`},
		{"event=project:updated repository=-", "deny no_rule_matched"},
		// Report mode softens the missing allow and a deny, and routes; it softens no deny that
		// is enforced there.
		{"repository=acme/website event=repo:fork", "allow no_rule_matched rule=observed report would_deny"},
		{"repository=acme/website ref=branch:main:updated", "allow policy_allowed rule=pushes rules=pushes,observed,to-jenkins report forward:jenkins:to-jenkins"},
		{"repository=acme/website event=repo:fork ref=branch:main:updated", "allow no_rule_matched rule=observed rules=observed,to-jenkins report would_deny forward:jenkins:to-jenkins"},
		{"repository=acme/website event=pullrequest:fulfilled fork=" + other, `allow policy_denied rule=no-forks rules=no-forks,merges,observed report would_deny message="fork pull requests are not delivered"`},
		{"repository=acme/website ref=tag:v1:created", "deny policy_denied rule=no-tags rules=no-tags,pushes"},
		// The repository's own folder.
		{"repository=acme/tools ref=branch:main:updated", "allow policy_allowed rule=pushes rules=pushes,to-jenkins forward:jenkins:to-jenkins"},
		{"repository=acme/tools ref=branch:main:updated ref=branch:x:created", `deny policy_denied rule=only-main rules=only-main,pushes message="main is delivered"`},
		{"repository=acme/other ref=branch:x:updated", "allow policy_allowed rule=pushes"},
		// Data Center writes the project's key in upper case.
		{"repository=ACME/tools kind=data_center ref=branch:x:created", `deny policy_denied rule=only-main rules=only-main,pushes message="main is delivered"`},
		{"repository=Acme/TOOLS ref=branch:x:created", `deny policy_denied rule=only-main rules=only-main,pushes message="main is delivered"`},
		{"repository=~ada/tools kind=data_center ref=branch:x:created", "allow policy_allowed rule=pushes"},
	} {
		d := wantDelivery(t, set, c.want, strings.Fields(c.words)...)
		again, err := set.ReplayDelivery(t.Context(), d.Input)
		if got := describedDelivery(again, err); got != c.want {
			t.Errorf("%s is replayed as %s", c.words, got)
		}
	}
}

// TestRepositoryMayOnlyDenyDeliveries: an allow, a report or a route in a repository's
// folder does not load.
func TestRepositoryMayOnlyDenyDeliveries(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"allow", "report", "route"} {
		entry := `{"rule": "own"}`
		if set == "route" {
			entry = `{"rule": "own", "action": "forward", "endpoint": "jenkins"}`
		}
		files := hooks + "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\n" + set + " contains " + entry + " if input.event == \"repo:fork\"\n"
		_, err := loadWith(t, files, Options{})
		expect(t, err, "repositories/acme/tools/webhook/a.rego:3:1", "a repository's policy cannot define "+set)
	}
}

// TestRepositoryMayOnlyDenyDeliveriesIsNeeded: without the check the rules load, and the
// combination alone ignores what they allow and route.
func TestRepositoryMayOnlyDenyDeliveriesIsNeeded(t *testing.T) {
	t.Parallel()
	files := hooks + "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"own\"} if input.event == \"repo:fork\"\n\nroute contains {\"rule\": \"own\", \"action\": \"forward\", \"endpoint\": \"own\"} if input.event\n"
	set, err := loadWithout(t, "definitions, unread rules", files, Options{Names: true, Deadline: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	wantDelivery(t, set, "deny no_rule_matched", "repository=acme/tools", "event=repo:fork")
	wantDelivery(t, set, "allow policy_allowed rule=pushes", "repository=acme/tools")
	own := results{setAllow: {{rule: "own"}}, setRoute: {{rule: "own", route: webhook.Route{Action: webhook.Forward, Endpoint: "own"}}}, setReport: {{rule: "own"}}}
	if d := combineDelivery(nil, own); d.Verdict != policy.Deny || d.Routes != nil || d.Mode != policy.Enforce {
		t.Errorf("a repository allows: %s", describedDelivery(d, nil))
	}
	if d := combineDelivery(own, nil); d.Verdict != policy.Allow || len(d.Routes) != 1 {
		t.Errorf("the same results of the organization: %s", describedDelivery(d, nil))
	}
}

func TestErringDeliveryRulesDeny(t *testing.T) {
	t.Parallel()
	const always = "-- webhook/a.rego --\npackage sallyport.webhook\n\nallow contains {\"rule\": \"all\"} if input.event\n\nreport contains {\"rule\": \"observed\"} if input.event\n\n"
	own := func(body string) string {
		return "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\n" + body + "\n"
	}
	for name, c := range map[string]struct{ files, says string }{
		"an organization's deny":                 {always + `deny contains {"rule": "x"} if to_number(input.receiver) > 1`, "to_number"},
		"an organization's allow":                {always + `allow contains {"rule": "x"} if to_number(input.receiver) > 1`, "to_number"},
		"a repository's deny":                    {always + own(`deny contains {"rule": "x"} if to_number(input.receiver) > 1`), "to_number"},
		"a message that is not a text":           {always + `deny contains {"rule": "x", "message": m} if m := count(input.refs)`, "message"},
		"a route without its endpoint":           {always + `route contains {"rule": "x", "action": a} if a := concat("", ["for", "ward"])`, "has no endpoint"},
		"a route with an unknown action":         {always + `route contains {"rule": "x", "action": a} if a := input.event`, "is never"},
		"a route without a use for its endpoint": {always + `route contains {"rule": "x", "action": a, "endpoint": "jenkins"} if a := concat("", ["refresh", "_policy"])`, "does not use"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := mustLoad(t, c.files)
			d, err := set.DecideDelivery(t.Context(), deliveryOf(t, "repository=acme/tools"))
			if got := describedDelivery(d, err); got != "deny policy_error error" || !strings.Contains(err.Error(), c.says) || d.Input == nil {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

func TestWithoutWebhookRules(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]string{
		"egress only": org("allow contains {\"rule\": \"x\"} if input.target.port == 443"), "a repository's only": ownHooks,
		"tests only": org("allow contains {\"rule\": \"x\"} if input.target.port == 443") + "-- webhook/a_test.rego --\npackage sallyport.webhook_test\n\ntest_x if 1 == count([2])\n",
	} {
		set := mustLoad(t, files)
		d, err := set.DecideDelivery(t.Context(), deliveryOf(t))
		if set.HasWebhookRules() || !errors.Is(err, webhook.ErrNoRules) || d.Verdict != policy.Deny || d.Reason != policy.PolicyError {
			t.Errorf("%s: %v, %s, %v", name, set.HasWebhookRules(), describedDelivery(d, err), err)
		}
	}
	set := mustLoad(t, "-- webhook/a.rego --\npackage sallyport.webhook\n\ndeny contains {\"rule\": \"x\"} if input.event == \"repo:fork\"\n")
	if !set.HasWebhookRules() {
		t.Error("a package without an allow is none")
	}
	wantDelivery(t, set, "deny no_rule_matched")

	var e Engine
	if d, err := e.DecideDelivery(t.Context(), deliveryOf(t)); !errors.Is(err, ErrNoPolicy) || d.Verdict != policy.Deny || e.HasWebhookRules() {
		t.Errorf("without a policy: %s, %v", describedDelivery(d, err), err)
	}
	e.Swap(set)
	if !e.HasWebhookRules() {
		t.Error("the active set's rules are not reported")
	}
	if d, err := e.DecideDelivery(t.Context(), deliveryOf(t)); err != nil || d.Reason != policy.NoRuleMatched || d.Revision != set.Revision() {
		t.Errorf("%s, %v", describedDelivery(d, err), err)
	}
	if d, err := e.DecideDelivery(t.Context(), &webhook.Delivery{}); err == nil || d.Verdict != policy.Deny || d.Reason != policy.PolicyError {
		t.Errorf("an empty delivery: %s, %v", describedDelivery(d, err), err)
	}
}

// TestDomainsAreApart: rules about requests and about deliveries neither read nor change
// each other, and an input of one is not decided by the other.
func TestDomainsAreApart(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, hooks+"-- egress/b.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"out\"} if input.target.port == 443\n"+
		repo("deny contains {\"rule\": \"never\"} if input.target.port == 25")+ownHooks)
	d := wantDelivery(t, set, "allow policy_allowed rule=pushes")
	request := wantDecision(t, set, "allow policy_allowed rule=out", "repository=acme/tools")
	if _, err := set.Replay(t.Context(), d.Input); err == nil {
		t.Error("a delivery is decided as a request")
	}
	if _, err := set.ReplayDelivery(t.Context(), request.Input); err == nil {
		t.Error("a request is decided as a delivery")
	}
	if IsDelivery(request.Input) || !IsDelivery(d.Input) {
		t.Error("the inputs are confused")
	}
	for _, c := range []struct{ at, file, body, says string }{
		{"webhook/a.rego:3", "webhook/a.rego", "package sallyport.webhook\n\nallow contains {\"rule\": \"x\"} if data.sallyport.egress.allow", "cannot read sallyport.egress"},
		{"egress/a.rego:3", "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if data.sallyport.webhook.allow", "cannot read sallyport.webhook"},
		{"repositories/acme/tools/webhook/a.rego:3", "repositories/acme/tools/webhook/a.rego", "package sallyport.webhook_repository[\"acme/tools\"]\n\ndeny contains {\"rule\": \"x\"} if data.sallyport.webhook_repository[\"acme/other\"].deny", "cannot read sallyport.webhook_repository"},
		{"webhook/a.rego:1", "webhook/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443", "does not belong into this folder"},
		{"egress/a.rego:1", "egress/a.rego", "package sallyport.webhook\n\nallow contains {\"rule\": \"x\"} if input.event == \"repo:push\"", "does not belong into this folder"},
		{"repositories/acme/tools/webhook/a.rego:1", "repositories/acme/tools/webhook/a.rego", "package sallyport.repository[\"acme/tools\"]\n\ndeny contains {\"rule\": \"x\"} if input.target.port == 443", "does not belong into this folder"},
		{"repositories/acme/tools/a.rego:1", "repositories/acme/tools/a.rego", "package sallyport.webhook_repository[\"acme/tools\"]\n\ndeny contains {\"rule\": \"x\"} if input.event == \"repo:push\"", "does not belong into this folder"},
		{"webhook/a.rego:3", "webhook/a.rego", "package sallyport.webhook\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443", "input.target.port is not in the input"},
		{"egress/a.rego:3", "egress/a.rego", "package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.event == \"repo:push\"", "input.event is not in the input"},
		{"webhook/x/a.rego:1", "webhook/x/a.rego", "package sallyport.webhook\n\nallow contains {\"rule\": \"x\"} if input.event == \"repo:push\"", "policies are not read from this folder"},
	} {
		_, err := loadWith(t, "-- "+c.file+" --\n"+c.body+"\n", Options{})
		expect(t, err, c.at, c.says)
	}
}

// TestFailingFolderDeniesItsDeliveries: a repository whose rules about deliveries fail is
// denied, or keeps the earlier ones; another repository is not.
func TestFailingFolderDeniesItsDeliveries(t *testing.T) {
	t.Parallel()
	broken := strings.Replace(ownHooks, `ref.name != "main"`, "ref.nmae", 1)
	set, err := loadWith(t, hooks+broken, Options{OnFailure: DenyRepository})
	if err != nil {
		t.Fatal(err)
	}
	d, err := set.DecideDelivery(t.Context(), deliveryOf(t, "repository=acme/tools", "ref=branch:main:updated"))
	if _, rejected := errors.AsType[*RejectedError](err); !rejected || d.Verdict != policy.Deny || d.Reason != policy.PolicyError {
		t.Errorf("%s, %v", describedDelivery(d, err), err)
	}
	wantDelivery(t, set, "allow policy_allowed rule=pushes")

	before := mustLoad(t, hooks+ownHooks)
	set, err = loadWith(t, hooks+broken, Options{OnFailure: KeepPrevious, Previous: before})
	if err != nil {
		t.Fatal(err)
	}
	d = wantDelivery(t, set, `deny policy_denied rule=only-main rules=only-main,pushes message="main is delivered"`, "repository=acme/tools", "ref=branch:x:updated")
	if d.RepositoryRevision != before.Revision() {
		t.Errorf("by the rules of %v", d.RepositoryRevision)
	}

	// A folder that fails and has no rules about deliveries denies none.
	set, err = loadWith(t, hooks+repo("allow contains {\"rule\": \"x\"} if input.nothing"), Options{OnFailure: DenyRepository})
	if err != nil {
		t.Fatal(err)
	}
	wantDelivery(t, set, "allow policy_allowed rule=pushes", "repository=acme/tools")
	// Of a folder whose files were not accepted, it is not known.
	fault := policy.FaultFile("repositories/acme/tools", []policy.Fault{{Path: "repositories/acme/tools", Message: "too large"}})
	tree, err := policy.NewSnapshot(append(snapshot(t, hooks).Files, fault), "")
	if err != nil {
		t.Fatal(err)
	}
	set, err = Load(t.Context(), tree, Options{Names: true, OnFailure: DenyRepository, Deadline: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := set.DecideDelivery(t.Context(), deliveryOf(t, "repository=acme/tools")); err == nil || d.Verdict != policy.Deny {
		t.Errorf("%s, %v", describedDelivery(d, err), err)
	}
}

// TestDeliveriesByUUID: without names, a repository's folder is found by its UUID, and two
// folders of one UUID decide nothing.
func TestDeliveriesByUUID(t *testing.T) {
	t.Parallel()
	folder := func(workspace string) string {
		return "-- repositories/" + workspace + "/" + repositoryUUID + "/webhook/a.rego --\npackage sallyport.webhook_repository[\"" + workspace + "/" + repositoryUUID + "\"]\n\ndeny contains {\"rule\": \"own\"} if input.event == \"repo:push\"\n"
	}
	load := func(files string) *Set {
		set, err := Load(t.Context(), snapshot(t, files), Options{Deadline: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	set := load(hooks + folder(workspaceUUID))
	wantDelivery(t, set, "deny policy_denied rule=own rules=own,pushes")
	wantDelivery(t, set, "allow policy_allowed rule=pushes", "kind=data_center")
	wantDelivery(t, load(hooks+folder(workspaceUUID)+folder(repositoryUUID)), "deny policy_error error")
}

func TestUnknownEndpointIsAnError(t *testing.T) {
	t.Parallel()
	set, err := loadWith(t, hooks, Options{Webhooks: &WebhookNames{Receivers: []string{"builds", "policy"}, Endpoints: []string{"kargo"}}})
	if err != nil {
		t.Fatal(err)
	}
	wantDelivery(t, set, "allow policy_allowed rule=pushes")
	wantDelivery(t, set, "deny policy_error error", "ref=branch:main:updated")
}

// TestEndpointIsNotAResource: a route to a resource by the name of an endpoint is an error.
func TestEndpointIsNotAResource(t *testing.T) {
	t.Parallel()
	files := strings.ReplaceAll(hooks, `"action": "forward"`, `"action": "refresh_resource"`)
	for want, names := range map[string]WebhookNames{
		"deny policy_error error":          {Receivers: []string{"builds", "policy"}, Endpoints: []string{"jenkins", "kargo"}},
		"allow policy_allowed rule=pushes": {Receivers: []string{"builds", "policy"}, Resources: []string{"jenkins", "kargo"}},
	} {
		set, err := loadWith(t, files, Options{Webhooks: &names})
		if err != nil {
			t.Fatal(err)
		}
		got, err := set.DecideDelivery(t.Context(), deliveryOf(t, "ref=branch:main:updated"))
		if text := describedDelivery(got, err); !strings.HasPrefix(text, want) {
			t.Errorf("%+v: %s, want %s", names, text, want)
		}
	}
}

func BenchmarkDecideDelivery(b *testing.B) {
	for name, files := range map[string]string{"organization": hooks, "with a repository": hooks + ownHooks} {
		set := mustLoad(b, files)
		set.loader.options.Deadline = DefaultDeadline
		d := deliveryOf(b, "repository=acme/tools", "ref=branch:main:updated", "ref=branch:main:created", "fork="+repositoryUUID)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if decision, err := set.DecideDelivery(b.Context(), d); err != nil || decision.Verdict != policy.Allow {
					b.Fatal(describedDelivery(decision, err), err)
				}
			}
		})
	}
}

func TestDenyThatNothingEvaluates(t *testing.T) {
	t.Parallel()
	for files, want := range map[string]int{ownHooks: 1, ownHooks + hooks: 0} {
		problems, warnings, err := Check(t.Context(), snapshot(t, files), Options{Names: true})
		if err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		warnings = slices.DeleteFunc(warnings, func(e Error) bool { return !strings.Contains(e.Message, "the deny never counts") })
		if len(warnings) != want || want > 0 && warnings[0].File != "repositories/acme/tools/webhook/a.rego" {
			t.Errorf("%d warnings: %v", want, warnings)
		}
	}
}

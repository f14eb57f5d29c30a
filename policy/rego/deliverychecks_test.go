package rego

import (
	"slices"
	"strings"
	"testing"
)

// inWebhook puts a body into the organization's rules about deliveries: the body begins
// on line 3.
func inWebhook(body string) string {
	return "-- webhook/a.rego --\npackage sallyport.webhook\n\n" + body + "\n"
}

// deliveryMistakes are rules about deliveries that cannot be meant, with what is reported
// of each; known is a policy's configuration.
var deliveryMistakes = []struct{ name, files, at, says string }{
	{"a misspelled set", inWebhook(`dney contains {"rule": "x"} if input.event == "repo:push"`), "webhook/a.rego:3", "did you mean deny?"},
	{"a misspelled route", inWebhook(`rout contains {"rule": "x", "action": "refresh_policy"} if input.event == "repo:push"`), "webhook/a.rego:3", "did you mean route?"},
	{"a set of requests", inWebhook(`delegate contains {"rule": "x"} if input.event == "repo:push"`), "webhook/a.rego:3", "nothing reads the rule delegate"},
	{"a route about requests", org(`route contains {"rule": "x", "action": "refresh_policy"} if input.target.port == 25`), "egress/a.rego:3", "nothing reads the rule route"},
	{"a misspelled key", inWebhook(`allow contains {"rule": "x", "mesage": "m"} if input.event == "repo:push"`), "webhook/a.rego:3", `did you mean "message"?`},
	{"a key of requests", inWebhook(`allow contains {"rule": "x", "protocol": "any"} if input.event == "repo:push"`), "webhook/a.rego:3", `allow has no key "protocol"`},
	{"a key of a route", inWebhook(`allow contains {"rule": "x", "endpoint": "jenkins"} if input.event == "repo:push"`), "webhook/a.rego:3", "only route has it"},
	{"a message of a route", inWebhook(`route contains {"rule": "x", "action": "refresh_policy", "message": "m"} if input.event == "repo:push"`), "webhook/a.rego:3", `route has no key "message"`},
	{"a route without an action", inWebhook(`route contains {"rule": "x", "endpoint": "jenkins"} if input.event == "repo:push"`), "webhook/a.rego:3", "the route has no action"},
	{"an unknown action", inWebhook(`route contains {"rule": "x", "action": "foward", "endpoint": "jenkins"} if input.event == "repo:push"`), "webhook/a.rego:3", `did you mean "forward"?`},
	{"a forward without an endpoint", inWebhook(`route contains {"rule": "x", "action": "forward"} if input.event == "repo:push"`), "webhook/a.rego:3", "the action forward needs an endpoint"},
	{"an endpoint of refresh_policy", inWebhook(`route contains {"rule": "x", "action": "refresh_policy", "endpoint": "jenkins"} if input.event == "repo:push"`), "webhook/a.rego:3", "the action refresh_policy has no endpoint"},
	{"an endpoint that is a number", inWebhook(`route contains {"rule": "x", "action": "forward", "endpoint": 7} if input.event == "repo:push"`), "webhook/a.rego:3", "endpoint is not a string"},
	{"an unknown endpoint", inWebhook(`route contains {"rule": "x", "action": "forward", "endpoint": "jenkns"} if input.event == "repo:push"`), "webhook/a.rego:3", "did you mean jenkins?"},
	{"an unknown resource", inWebhook(`route contains {"rule": "x", "action": "refresh_resource", "endpoint": "warehous"} if input.event == "repo:push"`), "webhook/a.rego:3", "did you mean warehouse?"},
	{"an endpoint as a resource", inWebhook(`route contains {"rule": "x", "action": "refresh_resource", "endpoint": "jenkins"} if input.event == "repo:push"`), "webhook/a.rego:3", "no resource is named"},
	{"a resource as an endpoint", inWebhook(`route contains {"rule": "x", "action": "forward", "endpoint": "warehouse"} if input.event == "repo:push"`), "webhook/a.rego:3", "no endpoint is named"},
	{"an unknown endpoint in a document", inWebhook(`route contains {"rule": "x", "action": "forward", "endpoint": data.ci} if input.event == "repo:push"`) + "-- data/x.yaml --\nci: jenkns\n", "data/x.yaml:1", "did you mean jenkins?"},
	{"an unknown receiver", inWebhook(`deny contains {"rule": "x"} if input.receiver == "bulids"`), "webhook/a.rego:3", "did you mean builds?"},
	{"an unknown kind", inWebhook(`allow contains {"rule": "x"} if input.kind == "server"`), "webhook/a.rego:3", `input.kind is never "server"`},
	{"a misspelled event", inWebhook(`allow contains {"rule": "x"} if input.event == "repo:psuh"`), "webhook/a.rego:3", `did you mean "repo:push"?`},
	{"an event among others", inWebhook(`deny contains {"rule": "x"} if input.event in {"repo:push", "pullrequest:merged"}`), "webhook/a.rego:3", `input.event is never "pullrequest:merged"`},
	{"a ping", inWebhook(`deny contains {"rule": "x"} if input.event == "diagnostics:ping"`), "webhook/a.rego:3", "a ping is not a delivery"},
	{"an event in a document", inWebhook(`allow contains {"rule": "x"} if input.event in data.events`) + "-- data/x.yaml --\nevents: [repo:push, \"Repo:Push\"]\n", "data/x.yaml:1", `did you mean "repo:push"?`},
	{"a ref's type", inWebhook("deny contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.type == \"tags\"\n}"), "webhook/a.rego:5", `did you mean "tag"?`},
	{"a ref's type by its index", inWebhook(`deny contains {"rule": "x"} if input.refs[_].type == "BRANCH"`), "webhook/a.rego:3", `did you mean "branch"?`},
	{"a ref's change", inWebhook("deny contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.change == \"delete\"\n}"), "webhook/a.rego:5", `did you mean "deleted"?`},
	{"a branch in full", inWebhook("allow contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.name == \"refs/heads/main\"\n}"), "webhook/a.rego:5", "write main"},
	{"a tag in full", inWebhook("deny contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.name == \"refs/tags/v1\"\n}"), "webhook/a.rego:5", "write v1"},
	{"a pattern of branches", inWebhook("deny contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.name == \"release/*\"\n}"), "webhook/a.rego:5", `startswith(ref.name, "release/")`},
	{"zeros for no object", inWebhook("deny contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.new == \"0000000000000000000000000000000000000000\"\n}"), "webhook/a.rego:5", "compare its change instead"},
	{"a state in lower case", inWebhook(`deny contains {"rule": "x"} if input.pull_request.state == "merged"`), "webhook/a.rego:3", `did you mean "MERGED"?`},
	{"a UUID with braces", inWebhook(`allow contains {"rule": "x"} if input.repository.uuid == "{5B1B2C5E-7c5a-4f0f-9a9f-0d3a4d4c1b11}"`), "webhook/a.rego:3", "write 5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11"},
	{"a repository's URL", inWebhook(`allow contains {"rule": "x"} if input.repository.full_name == "Acme/App"`), "webhook/a.rego:3", "write acme/app"},
	{"the beginning of a workspace's name", inWebhook(`allow contains {"rule": "x"} if startswith(input.repository.full_name, "acme")`), "webhook/a.rego:3", `write the slash as well: "acme/"`},
	{"the end of a fork's name", inWebhook(`allow contains {"rule": "x"} if endswith(input.pull_request.source.repository.full_name, "app")`), "webhook/a.rego:3", "also the end of another repository's name"},
	{"an actor's kind", inWebhook(`deny contains {"rule": "x"} if input.actor.kind == "NORMAL"`), "webhook/a.rego:3", "write normal"},
	{"a misspelled field", inWebhook(`allow contains {"rule": "x"} if input.evnet == "repo:push"`), "webhook/a.rego:3", "did you mean input.event?"},
	{"a misspelled field of a ref", inWebhook("allow contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.naem == \"main\"\n}"), "webhook/a.rego:5", "undefined ref"},
	{"refs as one ref", inWebhook(`allow contains {"rule": "x"} if input.refs.name == "main"`), "webhook/a.rego:3", "input.refs is a list"},
	{"a repository as a text", inWebhook(`allow contains {"rule": "x"} if input.repository == "acme/app"`), "webhook/a.rego:3", "compare one of its members"},
	{"a number as a text", inWebhook(`allow contains {"rule": "x"} if input.pull_request.id == "7"`), "webhook/a.rego:3", "never be equal"},
	{"a fork that is not denied when it is deleted", inWebhook(`deny contains {"rule": "x"} if input.pull_request.source.repository.uuid != input.repository.uuid`), "webhook/a.rego:3", "does not fire for a pull request whose fork was deleted"},
	{"a Data Center delivery that is not denied", inWebhook(`deny contains {"rule": "x"} if not input.repository.uuid in {"5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11"}`), "webhook/a.rego:3", "does not fire for a delivery of Data Center"},
	{"an unconditional allow", inWebhook(`allow contains {"rule": "x"} if input.event`), "webhook/a.rego:3", "every event of every receiver"},
	{"a test with an unknown event", inWebhook(`allow contains {"rule": "x"} if input.event == "repo:push"`) + inTest(`webhook.allow == set() with input as {"receiver": "builds", "event": "repo:pusch"}`), "webhook/a_test.rego:5", `did you mean "repo:push"?`},
	{"a test with an unknown ref", inWebhook(`allow contains {"rule": "x"} if input.event == "repo:push"`) + inTest(`webhook.allow == set() with input as {"event": "repo:push", "refs": [{"type": "branch", "name": "main", "chnage": "created"}]}`), "webhook/a_test.rego:5", `did you mean "change"?`},
	{"a test without an input", inWebhook(`allow contains {"rule": "x"} if input.event == "repo:push"`) + inTest(`webhook.allow == set()`), "webhook/a_test.rego:5", `add: with input as {"receiver"`},
	{"a misspelled folder", strings.Replace(inWebhook(`allow contains {"rule": "x"} if input.event == "repo:push"`), "webhook/a", "webhooks/a", 1), "webhooks/a.rego:1", "policies are not read from this folder"},
	{"a misspelled package", strings.Replace(inWebhook(`allow contains {"rule": "x"} if input.event == "repo:push"`), "sallyport.webhook", "sallyport.webhooks", 1), "webhook/a.rego:1", "write: package sallyport.webhook"},
	{"a repository's misspelled deny", "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\ndenny contains {\"rule\": \"x\"} if input.event == \"repo:push\"\n", "repositories/acme/tools/webhook/a.rego:3", "did you mean deny?"},
	{"a file that is not read", inWebhook(`allow contains {"rule": "x"} if input.event == "repo:push"`) + "-- webhook/deny.REGO --\n\n", "webhook/deny.REGO:1", "the file is not read"},
}

func inTest(condition string) string {
	return "-- webhook/a_test.rego --\npackage sallyport.webhook_test\n\nimport data.sallyport.webhook\n\ntest_x if " + condition + "\n"
}

// TestDeliveryMistakes: each mistake is an error or a warning, with its place and remedy.
func TestDeliveryMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range deliveryMistakes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			options := Options{Names: true, Webhooks: &WebhookNames{Receivers: []string{"builds", "policy"}, Endpoints: []string{"jenkins", "kargo"}, Resources: []string{"warehouse"}}}
			problems, warnings, err := Check(t.Context(), snapshot(t, c.files), options)
			if err != nil {
				t.Fatal(err)
			}
			all := slices.Concat(problems, warnings)
			if !slices.ContainsFunc(all, func(e Error) bool { return strings.HasPrefix(e.Error(), c.at) && strings.Contains(e.Error(), c.says) }) {
				t.Errorf("no finding at %s with %q, but:\n%v", c.at, c.says, all)
			}
		})
	}
}

// TestSoundDeliveryRules: rules as the guide has them have no finding.
func TestSoundDeliveryRules(t *testing.T) {
	t.Parallel()
	files := hooks + ownHooks + `-- webhook/more.rego --
package sallyport.webhook

# Data Center writes the project's key in upper case.
allow contains {"rule": "server"} if {
	input.kind == "data_center"
	startswith(input.repository.full_name, "PRJ/")
}

allow contains {"rule": "one"} if input.repository.full_name in {"PRJ/app", "~ada/app", "acme/app"}

deny contains {"rule": "nobody"} if not input.actor.kind

deny contains {"rule": "all-refs"} if input.incomplete

deny contains {"rule": "old"} if {
	some ref in input.refs
	startswith(ref.name, "archive/")
	ref.change in {"created", "updated"}
}

route contains {"rule": "kargo", "action": "refresh_resource", "endpoint": "kargo"} if input.receiver in {"builds", "policy"}

route contains {"rule": "names", "action": "refresh_names"} if input.event == "repo:updated"
-- webhook/a_test.rego --
package sallyport.webhook_test

import data.sallyport.webhook

delivery(event, refs) := {
	"receiver": "builds", "kind": "cloud", "event": event, "incomplete": false, "actor": {"kind": "user"},
	"repository": {"uuid": "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11", "full_name": "acme/other"}, "refs": refs,
}

test_main if {
	{r.endpoint | some r in webhook.route} == {"jenkins", "kargo"} with input as delivery("repo:push", [{"type": "branch", "name": "main", "change": "updated"}])
}

test_tags_are_denied if {
	{d.rule | some d in webhook.deny} == {"no-tags"} with input as delivery("repo:push", [{"type": "tag", "name": "v1", "change": "created"}])
}
`
	options := Options{Names: true, Webhooks: &WebhookNames{Receivers: []string{"builds", "policy"}, Endpoints: []string{"jenkins"}, Resources: []string{"kargo"}}}
	problems, warnings, err := Check(t.Context(), snapshot(t, files), options)
	if findings := remarks(slices.Concat(problems, warnings)); err != nil || len(findings) > 0 {
		t.Errorf("%v\n%v", err, findings)
	}
	report, err := Test(t.Context(), snapshot(t, files), options)
	if err != nil || !report.Passed() || len(report.Results) != 2 {
		t.Errorf("%v, %+v", err, report)
	}
}

// TestDeliveryChecksAreNeeded: with the checks off, the misspelled rules load, and decide
// nothing.
func TestDeliveryChecksAreNeeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ checks, deny string }{
		{"unread rules", `dney contains {"rule": "x"} if input.event == "repo:push"`},
		{"operands", `deny contains {"rule": "x"} if input.event == "repo:psuh"`},
		{"operands", "deny contains {\"rule\": \"x\"} if {\n\tsome ref in input.refs\n\tref.type == \"branches\"\n}"},
		{"schema, operands", `deny contains {"rule": "x"} if input.evnet == "repo:push"`},
	} {
		files := inWebhook("allow contains {\"rule\": \"all\"} if input.kind == \"cloud\"\n\n" + c.deny)
		if _, err := loadWith(t, files, Options{}); err == nil {
			t.Errorf("%s: it loads with its check", c.deny)
		}
		set, err := loadWithout(t, c.checks, files, Options{Names: true})
		if err != nil {
			t.Errorf("%s: %v", c.deny, err)
			continue
		}
		wantDelivery(t, set, "allow policy_allowed rule=all", "ref=branch:main:updated")
	}
}

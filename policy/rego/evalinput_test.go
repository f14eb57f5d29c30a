package rego

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/canonical"
)

// echo allows with a message that holds the fields a fuzzer fills.
const echo = `
-- egress/a.rego --
package sallyport.egress

allow contains {"rule": "echo", "message": message} if {
	message := json.marshal([input.principal.branch, input.request.path, input.request.headers, input.time])
}

deny contains {"rule": "long"} if count(input.request.path) > 20
`

func TestInputIsCanonical(t *testing.T) {
	set := mustLoad(t, org("allow contains {\"rule\": \"x\"}"))
	d, err := set.Decide(t.Context(), requestFor(t, "deployment=production", "to=api.partner.example:443"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"principal":{"kind":"bitbucket_step","workspace":{"uuid":"922e118c-f34f-4226-a897-0e0afbec553d","slug":"acme"},` +
		`"repository":{"uuid":"5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11","full_name":"acme/payments","project":"PAY"},` +
		`"deployment":{"uuid":"0f000000-0000-4000-8000-000000000003","name":"Production","slug":"production","type":"production"},` +
		`"pipeline":{"uuid":"0f000000-0000-4000-8000-000000000001"},"step":{"uuid":"0f000000-0000-4000-8000-000000000002"},"branch":"main"},` +
		`"action":"connect","target":{"host":"api.partner.example","port":443},"client":{"address":"192.0.2.7"},"time":"2026-11-21T08:40:00.123456Z"}`
	if string(d.Input) != want {
		t.Errorf("input\n%s\nwant\n%s", d.Input, want)
	}
	d, err = set.Decide(t.Context(), requestFor(t, "branch=", "method=POST", "path=/v1", "header.b=2", "header.a=1", "to=api.partner.example:80", "time=2026-11-21T08:40:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	const plain = `},"action":"request","target":{"scheme":"http","host":"api.partner.example","port":80},` +
		`"request":{"method":"POST","path":"/v1","headers":{"a":"1","b":"2"}},"client":{"address":"192.0.2.7"},"time":"2026-11-21T08:40:00Z"}`
	if !strings.HasSuffix(string(d.Input), plain) || strings.Contains(string(d.Input), "branch") {
		t.Errorf("input\n%s\nwant it to end in\n%s", d.Input, plain)
	}
}

// TestInputFollowsTheSchema: the schema has every field of the input.
func TestInputFollowsTheSchema(t *testing.T) {
	set := mustLoad(t, org("allow contains {\"rule\": \"x\"}"))
	d, err := set.Decide(t.Context(), requestFor(t, "deployment=production", "method=GET"))
	if err != nil {
		t.Fatal(err)
	}
	var input map[string]any
	if err := json.Unmarshal(d.Input, &input); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var walk func(path string, object map[string]any)
	walk = func(path string, object map[string]any) {
		for name, value := range object {
			below := strings.TrimPrefix(path+"."+name, ".")
			seen[below] = true
			known := false
			for _, f := range egress.schema().fields[path] {
				known = known || f == name
			}
			if !known {
				t.Errorf("%s is not in the schema", below)
			}
			if sub, ok := value.(map[string]any); ok {
				walk(below, sub)
			}
		}
	}
	walk("", input)
	for path, names := range egress.schema().fields {
		for _, name := range names {
			if full := strings.TrimPrefix(path+"."+name, "."); !seen[full] {
				t.Errorf("%s is in the schema and was not sent", full)
			}
		}
	}
}

// TestUnknownNamesAreNotDecided: a policy that reads an unknown name cannot decide; one
// that does not read it can.
func TestUnknownNamesAreNotDecided(t *testing.T) {
	reads := mustLoad(t, org("allow contains {\"rule\": \"x\"}\n\ndeny contains {\"rule\": \"y\"} if input.principal.deployment.type == \"test\""))
	lacks := requestFor(t, "deployment=production")
	lacks.Principal.Deployment.Type = ""
	if got := described(reads.Decide(t.Context(), lacks)); got != "deny policy_error error" {
		t.Errorf("a missing type: %s", got)
	}
	if got := described(reads.Decide(t.Context(), requestFor(t))); got != "allow policy_allowed rule=x" {
		t.Errorf("no deployment at all: %s", got)
	}
	aside := mustLoad(t, org("allow contains {\"rule\": \"x\"} if input.target.port == 443"))
	if got := described(aside.Decide(t.Context(), lacks)); got != "allow policy_allowed rule=x" {
		t.Errorf("a policy that does not read it: %s", got)
	}
	own := mustLoad(t, org("allow contains {\"rule\": \"x\"}")+repo("deny contains {\"rule\": \"y\"}"))
	nameless := requestFor(t, "repository=acme/tools")
	nameless.Principal.Repository.FullName = ""
	if got := described(own.Decide(t.Context(), nameless)); got != "deny policy_error error" {
		t.Errorf("a repository without a name: %s", got)
	}
}

// TestWithoutNamesOnlyUUIDs: without the API no name is in the input, whatever
// the principal holds, and a repository's policy is found by its UUIDs.
func TestWithoutNamesOnlyUUIDs(t *testing.T) {
	folder := workspaceUUID + "/" + repositoryUUID
	files := org("delegate contains {\"rule\": \"d\"}") + "-- repositories/" + folder + "/a.rego --\npackage sallyport.repository[\"" + folder + "\"]\n\nallow contains {\"rule\": \"own\"}\n"
	set, err := Load(t.Context(), snapshot(t, files), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := set.Decide(t.Context(), requestFor(t, "deployment=production"))
	if got := described(d, err); got != "allow policy_allowed rule=own rules=own,d" {
		t.Errorf("got %s (%v)", got, err)
	}
	for _, name := range []string{"acme", "PAY", "production", "Production"} {
		if strings.Contains(string(d.Input), name) {
			t.Errorf("%q is in the input: %s", name, d.Input)
		}
	}
	if again, err := set.Replay(t.Context(), d.Input); described(again, err) != described(d, nil) {
		t.Errorf("replayed: %s", described(again, err))
	}
}

func TestIncompleteRequestsAreDenied(t *testing.T) {
	set := mustLoad(t, org("allow contains {\"rule\": \"x\"}"))
	timeless, empty := requestFor(t), requestFor(t)
	timeless.Time = time.Time{}
	empty.Principal = &identity.Principal{}
	for name, r := range map[string]*policy.Request{"nil": nil, "no principal": {}, "no time": timeless, "an empty principal": empty} {
		if d, err := set.Decide(t.Context(), r); err == nil || d.Verdict != policy.Deny || d.Revision.Digest == "" {
			t.Errorf("%s: %s", name, described(d, err))
		}
	}
	for _, input := range []string{"", "[]", "{}", `{"time":"x"}`, `{"a":1,"a":2}`} {
		if d, err := set.Replay(t.Context(), []byte(input)); err == nil || d.Verdict != policy.Deny {
			t.Errorf("replay of %q: %s", input, described(d, err))
		}
	}
}

// FuzzInput puts arbitrary bytes where clients can: the recorded input is valid, has no
// NUL, and evaluates to the same decision.
func FuzzInput(f *testing.F) {
	f.Add("main", "/v1/a", "x-a", "1")
	f.Add("a\x00b", "/\xff\xfe", "x-\x00", "\xed\xa0\x80")
	f.Add("\\u0000", "/\u2028\u202e\"\\", "", "\x1f\x7f")
	f.Add(`"},"deployment":{"type":"production`, "/\U0001F600", "a", "\ufffd")
	set := mustLoad(f, echo)
	f.Fuzz(func(t *testing.T, branch, path, name, value string) {
		r := requestFor(t, "method=GET")
		r.Principal.Branch, r.HTTP.Path = "b"+branch, path
		r.HTTP.Headers[name] = value
		d, err := set.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(d.Input) || !utf8.Valid(d.Input) || strings.Contains(string(d.Input), `\u0000`) && !strings.Contains(branch+path+name+value, `\u0000`) || strings.IndexByte(string(d.Input), 0) >= 0 {
			t.Fatalf("stored: %q", d.Input)
		}
		var stored struct {
			Principal struct{ Branch string }
			Request   struct{ Path string }
		}
		if err := json.Unmarshal(d.Input, &stored); err != nil {
			t.Fatal(err)
		}
		if stored.Principal.Branch != canonical.Clean("b"+branch) || stored.Request.Path != canonical.Clean(path) {
			t.Fatalf("stored %+v of %q and %q", stored, branch, path)
		}
		again, err := set.Replay(t.Context(), d.Input)
		if described(again, err) != described(d, nil) {
			t.Fatalf("replayed %s\nwas      %s", described(again, err), described(d, nil))
		}
	})
}

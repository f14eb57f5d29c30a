package rego

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// inputsFor makes recorded inputs of many steps over many days.
func inputsFor(t testing.TB, n int) [][]byte {
	t.Helper()
	scratch := mustLoad(t, org(`allow contains {"rule": "x"}`))
	var list [][]byte
	for i := range n {
		words := []string{
			fmt.Sprintf("repository=acme/%s", []string{"payments", "website", "tools"}[i%3]),
			fmt.Sprintf("to=%s", []string{"a.example:443", "b.example:443", "b.example:8443", "192.0.2.1:443"}[i%4]),
			fmt.Sprintf("branch=feature/%d", i%7),
		}
		if i%2 == 0 {
			words = append(words, "deployment="+[]string{"staging", "production"}[i/2%2])
		}
		if i%5 == 0 {
			words = append(words, "method=GET", fmt.Sprintf("path=/%d", i))
		}
		r := requestFor(t, words...)
		r.Principal.Step.UUID = fmt.Sprintf("0f000000-0000-4000-8000-%012d", i)
		r.Time = r.Time.Add(time.Duration(i) * time.Hour)
		d, err := scratch.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d.Input)
	}
	return list
}

// TestReplayerAgreesWithReplay: remembering decisions changes none, whatever a policy
// reads. Inputs that differ only in parts that are not read are evaluated once.
func TestReplayerAgreesWithReplay(t *testing.T) {
	inputs := inputsFor(t, 400)
	for _, c := range []struct {
		name, rules string
		most        int64
	}{
		{"host", `allow contains {"rule": "x"} if input.target.host == "a.example"`, 40},
		{"deployment", `allow contains {"rule": "x"} if { input.target.port == 443; not production }
production if input.principal.deployment.type == "production"`, 40},
		{"branch", `allow contains {"rule": "x"} if input.principal.branch == "feature/3"`, 300},
		{"step", `allow contains {"rule": "x"} if endswith(input.principal.step.uuid, "7")`, 400},
		{"request", `allow contains {"rule": "x"} if input.request.path == "/5"`, 150},
		{"the principal as a whole", `allow contains {"rule": "x"} if { p := input.principal; p.branch == "feature/3" }`, 400},
		{"the input as a whole", `allow contains {"rule": "x"} if { p := input; p.principal.branch == "feature/3" }`, 400},
		{"an unknown part", `allow contains {"rule": "x"} if { some k; input.principal[k] == "feature/3" }`, 400},
		{"handed to a function", `allow contains {"rule": "x"} if on(input.principal)
on(p) if p.branch == "feature/3"`, 400},
		{"time", `allow contains {"rule": "x"} if time.now_ns() > time.parse_rfc3339_ns("2026-11-25T00:00:00Z")`, 400},
		{"time as it stands", `allow contains {"rule": "x"} if input.time > "2026-11-25"`, 400},
		{"time for one repository", `allow contains {"rule": "x"} if { input.principal.repository.full_name == "acme/tools"; time.now_ns() > time.parse_rfc3339_ns("2026-11-25T00:00:00Z") }`, 200},
		{"expires", `allow contains {"rule": "x", "expires": "2026-11-25T00:00:00Z"} if input.target.host == "a.example"`, 200},
		{"expires behind a data list", `import data.sallyport.lib
allow contains {"rule": "x", "expires": e.until} if some e in lib.exceptions_for([{"repository": "acme/tools", "hosts": ["a.example"], "owner": "kim", "ticket": "T-1", "until": "2026-11-25T00:00:00Z"}], input.principal.repository.full_name, input.target)`, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set := mustLoad(t, org(c.rules))
			r := NewReplayer(set)
			seen := map[string]bool{}
			for range 2 {
				for _, input := range inputs {
					want, wantErr := set.Replay(t.Context(), input)
					got, err := r.Replay(t.Context(), input)
					if described(got, err) != described(want, wantErr) || string(got.Input) != string(input) || got.Revision != want.Revision {
						t.Fatalf("%s\nsays %s, and remembered %s", input, described(want, wantErr), described(got, err))
					}
					seen[described(want, wantErr)] = true
				}
			}
			if len(seen) < 2 {
				t.Errorf("all say %v: the test says nothing", seen)
			}
			if n := r.Evaluated(); n > 2*c.most {
				t.Errorf("%d of %d inputs were evaluated, want at most %d", n, 2*len(inputs), 2*c.most)
			}
		})
	}
}

// TestReplayerOfRepositories: the parts of the input that a repository's policy reads are
// in the key.
func TestReplayerOfRepositories(t *testing.T) {
	set := mustLoad(t, org(`delegate contains {"rule": "all"}`)+`
-- repositories/acme/payments/p.rego --
package sallyport.repository["acme/payments"]

allow contains {"rule": "own"} if input.principal.branch == "feature/3"
`)
	r := NewReplayer(set)
	allowed := 0
	for _, input := range inputsFor(t, 400) {
		want, _ := set.Replay(t.Context(), input)
		got, err := r.Replay(t.Context(), input)
		if err != nil || described(got, err) != described(want, nil) {
			t.Fatalf("%s: %v, %v", input, described(want, nil), described(got, err))
		}
		if got.Verdict == policy.Allow {
			allowed++
		}
	}
	if allowed == 0 {
		t.Error("nothing was allowed: the test says nothing")
	}
}

// FuzzMembers: the members of an object are parts of it, and joined they are the object.
func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":"x","b":{"c":[1,"}"]},"d":"\""}`))
	f.Add([]byte(`{"a":}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		var parts []string
		if !members(object, func(name string, value []byte) { parts = append(parts, `"`+name+`":`+string(value)) }) {
			return
		}
		if again := "{" + strings.Join(parts, ",") + "}"; again != string(object) {
			t.Errorf("%q was taken apart as %q", object, again)
		}
	})
}

// BenchmarkReplayer measures an input whose decision is known, and one whose decision
// depends on the time.
func BenchmarkReplayer(b *testing.B) {
	for _, c := range []struct{ name, rules string }{
		{"known", `allow contains {"rule": "x"} if input.target.host == "a.example"`},
		{"time", `allow contains {"rule": "x"} if time.now_ns() > 5`},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := NewReplayer(mustLoad(b, org(c.rules)))
			inputs := inputsFor(b, 400)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := r.Replay(b.Context(), inputs[i%len(inputs)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

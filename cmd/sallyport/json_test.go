package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChecksInJSON: --format json prints one JSON value for a result that is good and for
// one that is not, with the status of the text, and nothing else on standard output.
func TestChecksInJSON(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	policy := filepath.Join(f.folder, "policy")
	f.write("policy/egress/a_test.rego", "package sallyport.egress_test\n\nimport data.sallyport.egress\n\ntest_a if count(egress.allow) == 1 with input as {\"action\": \"connect\", \"target\": {\"host\": \"a.example\", \"port\": 443}}\n")
	type result struct {
		Accepted, Passed bool
		Problems         []struct {
			Severity, File, Message, Hint string
			Line                          int
		}
		Tests []struct {
			Name, File string
			Line       int
			Passed     bool
		}
		Checks  []struct{ Result, Name, Detail string }
		Missed  []any   `json:"not_covered"`
		Percent float64 `json:"coverage_percent"`
	}
	get := func(want int, words ...string) result {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := run(t.Context(), append(words, "--format", "json"), nil, &out, &errOut); code != want {
			t.Errorf("%v: %d, want %d: %s%s", words, code, want, out.String(), errOut.String())
		}
		var r result
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Errorf("%v: %v: %s", words, err, out.String())
		}
		return r
	}
	config := filepath.Join(f.folder, "sallyport.yaml")
	if r := get(exitOK, "policy", "check", policy); !r.Accepted || r.Problems == nil {
		t.Errorf("a good policy: %+v", r)
	}
	if r := get(exitOK, "policy", "test", policy, "--coverage"); !r.Passed || len(r.Tests) != 1 || r.Tests[0].Line != 5 || r.Percent != 100 {
		t.Errorf("good tests: %+v", r)
	}
	if r := get(exitOK, "config", "check", "-c", config); !r.Accepted || len(r.Checks) == 0 {
		t.Errorf("a good configuration: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(policy, "egress", "b.rego"), []byte("package sallyport.egress\n\ndney contains {\"rule\": \"x\"} if input.target.port == 22\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"policy", "check", policy}, {"policy", "test", policy}} {
		r := get(exitFailed, words...)
		if r.Accepted || r.Passed || len(r.Problems) != 1 || r.Problems[0].Severity != "error" || r.Problems[0].Line != 3 || !strings.HasSuffix(r.Problems[0].File, "egress/b.rego") || !strings.Contains(r.Problems[0].Message+r.Problems[0].Hint, "did you mean deny") {
			t.Errorf("%v: %+v", words, r)
		}
	}
	if r := get(exitFailed, "config", "check", "-c", config); r.Accepted || len(r.Checks) == 0 || r.Checks[len(r.Checks)-1].Result != "failed" {
		t.Errorf("a policy that does not load: %+v", r)
	}
}

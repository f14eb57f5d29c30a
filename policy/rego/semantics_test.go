package rego

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestSemantics: the policies in testdata/semantics decide as their file "cases" lists:
// the words of a request, ->, and the whole decision.
func TestSemantics(t *testing.T) {
	paths, err := filepath.Glob("testdata/semantics/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			set, err := Load(t.Context(), snapshotOf(t, archive), Options{Names: true, Deadline: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			cases := 0
			for _, f := range archive.Files {
				if f.Name != "cases" {
					continue
				}
				for line := range strings.Lines(string(f.Data)) {
					line = strings.TrimSpace(line)
					if line == "" || strings.HasPrefix(line, "#") {
						continue
					}
					cases++
					request, want, ok := strings.Cut(line, "->")
					if !ok {
						t.Fatalf("no -> in %q", line)
					}
					checkDecision(t, set, strings.Fields(request), strings.TrimSpace(want))
				}
			}
			if cases == 0 {
				t.Error("no case in the file")
			}
		})
	}
}

// checkDecision fails the test unless a set makes the decision, for the request and for its
// recorded input.
func checkDecision(t *testing.T, set *Set, fields []string, want string) {
	t.Helper()
	d, err := set.Decide(t.Context(), requestFor(t, fields...))
	if got := described(d, err); got != want {
		t.Errorf("%s\n got %s\nwant %s\nerror %v", strings.Join(fields, " "), got, want, err)
	}
	if d.Revision != set.Revision() || len(d.Input) == 0 {
		t.Errorf("%s: revision %v, input %s", strings.Join(fields, " "), d.Revision, d.Input)
	}
	again, err := set.Replay(t.Context(), d.Input)
	if got := described(again, err); got != want {
		t.Errorf("%s, replayed\n got %s\nwant %s\nerror %v", strings.Join(fields, " "), got, want, err)
	}
	if string(again.Input) != string(d.Input) {
		t.Errorf("the replayed input is\n%s\nand was\n%s", again.Input, d.Input)
	}
}

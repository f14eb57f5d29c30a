package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPolicyDiff(t *testing.T) {
	t.Parallel()
	old, changed := tree(t, oldTree), tree(t, newTree)
	cases := filepath.Join(t.TempDir(), "cases.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(cases, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(`principals:
  - repository=acme/payments,deployment=production
  - repository=acme/website,branch=main
targets: [api.partner.example:443, mirror.example, registry.example]
`)
	diff := func(status int, args ...string) string {
		t.Helper()
		return runCommand(t, status, append([]string{"policy", "diff"}, args...)...)
	}
	checkContains(t, diff(1, old, changed, "--cases", cases, "--fail-on", "closed"),
		"acme/payments  production  api.partner.example:443\n  allow -> deny, by settle -> no rule",
		"acme/payments  production  mirror.example:443\n  deny -> allow, by no rule -> shared",
		"acme/website  -  api.partner.example:443\n  would deny -> deny, by observed -> no rule",
		"acme/website  -  mirror.example:443\n  would deny -> allow, by observed -> shared",
		"4 of 6 decisions would differ: 2 closed, 1 opened, 1 in report mode only", "repository=acme/website,branch=main")
	checkContains(t, diff(0, old, old, "--cases", cases, "--fail-on", "any"), "0 of 6 decisions would differ")
	checkContains(t, diff(0, old, changed, "--cases", cases, "--format", "json"), `"from": "would deny"`)

	for text, want := range map[string]string{
		"principals: [a":                     "cases.yaml:1:",
		"principals: [repository=acme/x]":    "asks nothing: write principals: and targets:",
		"principles: []":                     "unknown field",
		"principals: [x]\ntargets: [a.test]": "is not key=value",
		"principals: [repository=acme/x]\ntargets: ['https://a.test/']": "is a URL",
	} {
		write(text)
		checkContains(t, diff(2, old, changed, "--cases", cases), want)
	}
	checkContains(t, diff(2, old), "give two directories")

	// From the log: the requests, regardless of their decisions.
	s := newSeeded(t, old)
	s.fill()
	checkContains(t, s.run(1, "diff", old, changed, "--fail-on", "any"), "6 of 10 decisions would differ: 5 closed, 1 opened")
	checkContains(t, s.run(0, "diff", changed, changed, "--fail-on", "any"), "0 of 10 decisions would differ")
}

func TestPolicyWhoCan(t *testing.T) {
	t.Parallel()
	old := tree(t, oldTree)
	s := newSeeded(t, old)
	s.fill()
	checkContains(t, s.run(0, "who-can", old, "--to", "api.partner.example"),
		"acme/payments  production  allow by settle\n",
		"acme/website  -  would deny by observed\n", "acme/website  staging  would deny by observed\n",
		"3 of 4 repositories and deployments that were seen may reach api.partner.example")
	checkContains(t, s.run(0, "who-can", old, "--to", "main.example", "--all"), "acme/payments  -  allow by branch, from main only\n",
		"acme/payments  production  allow by branch\n", "4 of 4 ")
	checkContains(t, s.run(0, "who-can", old, "--to", "nowhere.example:22", "--all"), "acme/payments  -  deny\n", "2 of 4 ")
	got := fromJSON[struct {
		Seen, May int
		Who       []struct{ Repository, Verdict string }
	}](t, s.run(0, "who-can", old, "--to", "registry.example", "--format", "json", "--since", "1d"))
	if got.Seen != 4 || got.May != 4 || len(got.Who) != 4 || got.Who[0].Verdict != "allow" {
		t.Errorf("%+v", got)
	}
	// After the end of the exception it may not.
	checkContains(t, s.run(0, "who-can", old, "--to", "api.partner.example", "--at", "2099-06-01"), "2 of 4 ")
	checkContains(t, s.run(2, "who-can", old), "--to is missing")
	checkContains(t, runCommand(t, 0, "policy", "who-can", old, "--to", "main.example", "--export", s.exported()), "4 of 4 ")
}

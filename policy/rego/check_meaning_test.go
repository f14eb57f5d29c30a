package rego

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// meaning is a policy that is valid Rego and YAML and that no author intends.
type meaning struct {
	name, files string
	at          string // the beginning of the finding's place; "": there is no finding
	message     string // part of the finding, remedy included
	warning     bool   // it loads all the same, and --strict refuses it
	unread      bool   // documents and fixtures that nothing reads are findings as well
}

// checkMeanings checks each policy and compares the findings.
func checkMeanings(t *testing.T, rows []meaning) {
	t.Helper()
	for _, tc := range rows {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			problems, warnings, err := Check(t.Context(), snapshot(t, tc.files), Options{Names: true})
			if err != nil {
				t.Fatal(err)
			}
			warnings = remarks(warnings)
			if !tc.unread {
				warnings = slices.DeleteFunc(warnings, func(e Error) bool {
					return strings.HasPrefix(e.Message, "nothing reads data.") || strings.HasPrefix(e.Message, "no test reads ")
				})
			}
			if tc.at == "" {
				if len(problems)+len(warnings) > 0 {
					t.Errorf("found\n%v\n%v", problems, warnings)
				}
				return
			}
			list, other := problems, warnings
			if tc.warning {
				list, other = warnings, problems
			}
			for _, e := range list {
				if e.Message == "" {
					t.Errorf("an empty error among\n%v", list)
				}
				if strings.HasPrefix(fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column), tc.at) && strings.Contains(e.Error(), tc.message) {
					if e.Hint == "" {
						t.Errorf("no remedy: %v", e)
					}
					return
				}
			}
			t.Errorf("nothing at %s with %q, but\n%v\nand\n%v", tc.at, tc.message, list, other)
		})
	}
}

// TestUnreadRules: a rule that nothing reads, and a file that is not read, are errors with
// the name that was probably meant.
func TestUnreadRules(t *testing.T) {
	const tests = "-- egress/a_test.rego --\npackage sallyport.egress_test\n\nimport data.sallyport.egress\n\n"
	checkMeanings(t, []meaning{
		// Case 16.
		{name: "dney", files: org(`dney contains {"rule": "x"} if input.target.port == 25`), at: inOrg + "3:1", message: "nothing reads the rule dney, so it decides nothing: did you mean deny?"},
		{name: "reprot", files: org(`reprot contains {"rule": "x"}`), at: inOrg + "3:1", message: "did you mean report?"},
		{name: "alow in a repository", files: repo(`alow contains {"rule": "x"}`), at: inRepo + "3:1", message: "did you mean allow?"},
		{name: "Deny", files: org(`Deny contains {"rule": "x"}`), at: inOrg + "3:1", message: "did you mean deny?"},
		{name: "denies", files: org(`denies contains {"rule": "x"}`), at: inOrg + "3:1", message: "did you mean deny?"},
		{name: "delegates", files: org(`delegates contains {"rule": "x"}`), at: inOrg + "3:1", message: "did you mean delegate?"},
		{name: "deny_paste_sites", files: org(`deny_paste_sites contains {"rule": "x"}`), at: inOrg + "3:1", message: "did you mean deny?"},
		{name: "as a boolean", files: org("default denied := false\n\ndenied if input.target.port == 25"), at: inOrg + "3:", message: "did you mean deny?"},
		{name: "as a function", files: org(`blocked(host) if host == "a.example"`), at: inOrg + "3:1", message: "did you mean deny?"},
		{name: "a helper of a misspelled set", files: org("dney contains {\"rule\": \"x\"} if smtp\n\nsmtp if input.target.port == 25"), at: inOrg + "5:1", message: "nothing reads the rule smtp"},
		{name: "a rule that only a test reads", files: org("smtp if input.target.port == 25") + tests + "test_smtp if egress.smtp with input as {\"target\": {\"port\": 25}}\n", at: inOrg + "3:1", message: "what only tests read belongs into a file whose name ends in _test.rego"},
		{name: "a misspelled set with a test", files: org(`dney contains {"rule": "x"}`) + tests + "test_x if count(egress.dney) == 1\n", at: inOrg + "3:1", message: "did you mean deny?"},
		{name: "helpers that are read", files: org("deny contains {\"rule\": \"x\"} if mail\n\nmail if input.target.port in ports\n\nports := {25, 587}")},

		// Files.
		{name: "an extension in upper case", files: "-- egress/a.REGO --\npackage sallyport.egress\n", at: "egress/a.REGO:1:1", message: "its extension is .REGO: rename it to end in .rego"},
		{name: "a second extension", files: "-- egress/a.rego.txt --\npackage sallyport.egress\n", at: "egress/a.rego.txt:1:1", message: "does not end in .rego"},
		{name: "a copy", files: "-- egress/a.rego~ --\npackage sallyport.egress\n", at: "egress/a.rego~:1:1", message: "does not end in .rego"},
		{name: "a misspelled extension", files: "-- repositories/acme/tools/a.reog --\npackage x\n", at: "repositories/acme/tools/a.reog:1:1", message: "does not end in .rego"},
		{name: "a list beside rules", files: "-- egress/hosts.yaml --\nhosts: []\n", at: "egress/hosts.yaml:1:1", message: "put it below data/"},
		{name: "a list in upper case", files: "-- data/hosts.YAML --\nhosts: []\n", at: "data/hosts.YAML:1:1", message: "the file is not read"},
		{name: "a misspelled list", files: "-- data/x/hosts.ymal --\nhosts: []\n", at: "data/x/hosts.ymal:1:1", message: "the file is not read"},
		{name: "a list as text", files: "-- data/x/hosts.txt --\na.example\n", at: "data/x/hosts.txt:1:1", message: ".txt is not a format of documents"},
		{name: "a misspelled folder", files: "-- dta/hosts.yaml --\nhosts: []\n", at: "dta/hosts.yaml:1:1", message: "documents stand below data/"},
		{name: "a folder in upper case", files: "-- Data/hosts.yaml --\nhosts: []\n", at: "Data/hosts.yaml:1:1", message: "documents stand below data/"},
		{name: "a pointer of LFS", files: "-- egress/a.rego --\nversion https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", at: "egress/a.rego:1:1", message: "a pointer of Git LFS"},
		{name: "a pointer of LFS for a list", files: "-- data/a.yaml --\nversion https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", at: "data/a.yaml:1:1", message: "a pointer of Git LFS"},
		{name: "a merge conflict", files: "-- data/a.yaml --\nhosts:\n<<<<<<< HEAD\n  - a.example\n", at: "data/a.yaml:1:1", message: "merge conflict"},
		{name: "UTF-16", files: "-- data/a.yaml --\n\xff\xfeh\x00\n", at: "data/a.yaml:1:1", message: "UTF-16"},
		{name: "what is not a policy", files: "-- README.md --\nx\n-- docs/hosts.yaml --\nx\n-- data/README.txt --\nx\n-- egress/NOTES.md --\nx\n" + org(`allow contains {"rule": "x"} if input.target.port == 443`)},
	})
}

// TestSingleNames: a name without quotes and without a value is an error.
func TestSingleNames(t *testing.T) {
	body := func(condition string) string { return org(`allow contains {"rule": "x"} if ` + condition) }
	const list = "-- data/x.yaml --\nbranches: {main: {}}\n"
	checkMeanings(t, []meaning{
		// Case 17.
		{name: "a branch", files: body("input.principal.branch = main"), at: inOrg + "3:", message: `nothing gives main a value, so this holds for any value: put it in quotes if it is a text: "main"`},
		{name: "the other way round", files: body("main = input.principal.branch"), at: inOrg + "3:33", message: "nothing gives main a value"},
		{name: "declared", files: body("{ some main; input.principal.branch = main }"), at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "in a list", files: body("[input.action, input.principal.branch] = [\"connect\", main]"), at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "in an object", files: body("input.principal.deployment = {\"type\": production, \"name\": _, \"slug\": _, \"uuid\": _}"), at: inOrg + "3:", message: "nothing gives production a value"},
		{name: "as a result", files: body("lower(input.principal.branch, main)"), at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "as a result of a function", files: org("f(x) := x\n\nallow contains {\"rule\": \"x\"} if f(input.principal.branch, main)"), at: inOrg + "5:", message: "nothing gives main a value"},
		{name: "as a key", files: body("data.branches[main]") + list, at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "in a helper", files: org("allow contains {\"rule\": \"x\"} if release\n\nrelease if input.principal.branch = main"), at: inOrg + "5:", message: "nothing gives main a value"},
		{name: "in a comprehension", files: body("count({1 | input.principal.branch = main}) == 1"), at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "once in each of two", files: body("{ count({1 | input.principal.branch = main}) == 1; count({1 | input.action = main}) == 1 }"), at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "in every", files: body("every x in [1] { x == 1; input.principal.branch = main }"), at: inOrg + "3:", message: "nothing gives main a value"},
		{name: "in an else", files: org("allow contains {\"rule\": \"x\"} if f(443)\n\nf(x) if x == 1\n\nelse if input.principal.branch = main"), at: inOrg + "7:", message: "nothing gives main a value"},
		{name: "under not", files: body("not input.principal.branch = main"), at: inOrg + "3:", message: ""},

		{name: "a value that is used", files: body("{ branch = input.principal.branch; branch == \"main\" }")},
		{name: "a value for the head", files: org("allow contains {\"rule\": \"x\", \"message\": m} if m = input.target.host")},
		{name: "shared with a comprehension", files: body("{ n = input.target.port; count({1 | n == 443}) == 1 }")},
		{name: "an underscore", files: body("data.branches[_]") + list},
		{name: "a key that is declared", files: body("{ some name; data.branches[name] }") + list},
		{name: "a constant", files: org("allow contains {\"rule\": \"x\"} if input.principal.branch = main\n\nmain := \"main\"")},
	})
}

// TestChecksAreLinear: the time of the checks grows with the size of a file, whatever its
// form. The test is that loading ends: a check with quadratic time does not for a
// megabyte.
func TestChecksAreLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	repeat := func(n int, f func(int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	const n = 1000
	documents := "-- data/x.yaml --\nl:\n" + repeat(10*n, func(i int) string { return fmt.Sprintf("  - h%d.example\n", i) })
	for name, body := range map[string]string{
		"many rules that read one list": repeat(n, func(i int) string {
			return fmt.Sprintf("allow contains {\"rule\": \"r%d\"} if input.target.host in data.l\n", i)
		}) + documents,
		"many names of one value": "allow contains {\"rule\": \"x\"} if {\n\tx0 := input.target.host\n" + repeat(n, func(i int) string { return fmt.Sprintf("\tx%d := x%d\n", i+1, i) }) + fmt.Sprintf("\tx%d == \"a.example\"\n}\n", n),
		"a chain of functions":    "allow contains {\"rule\": \"x\"} if f0(input.target.host)\n" + repeat(n, func(i int) string { return fmt.Sprintf("f%d(x) if f%d(x)\n", i, i+1) }) + fmt.Sprintf("f%d(x) if x == \"A\"\n", n),
		"a function that all call": repeat(n, func(i int) string {
			return fmt.Sprintf("allow contains {\"rule\": \"r%d\"} if f(input.target.host)\n", i)
		}) + "f(x) if x == \"a.example\"\n",
		"rules that double": "allow contains {\"rule\": \"x\"} if input.target.host in s20\ns0 := {\"a.example\"}\n" + repeat(20, func(i int) string { return fmt.Sprintf("s%d := s%d | s%d\n", i+1, i, i) }),
		"a rule with many rules": repeat(n, func(i int) string {
			return fmt.Sprintf("deny contains {\"rule\": \"r%d\"} if not p%d\np%d if not startswith(input.principal.branch, \"a\")\n", i, i, i)
		}),
		"comprehensions in one another":  "allow contains {\"rule\": \"x\"} if " + strings.Repeat("count({1 | ", 200) + "input.action = main" + strings.Repeat("}) == 1", 200) + "\n",
		"a name in many comprehensions":  "allow contains {\"rule\": \"x\"} if {\n" + repeat(n, func(i int) string { return "\tcount({1 | input.action = main}) == 1\n" }) + "}\n",
		"an expression with many groups": "allow contains {\"rule\": \"x\"} if regex.match(`" + strings.Repeat("(|a)", 240) + "`, input.target.host)\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Check(t.Context(), snapshot(t, org(body)), Options{Names: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

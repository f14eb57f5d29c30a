package rego

import (
	"strings"
	"testing"
)

// TestParseErrorsHaveAHint: frequent mistakes of authors are refused with their line and a
// hint.
func TestParseErrorsHaveAHint(t *testing.T) {
	const head = "package sallyport.egress\n\n"
	for text, want := range map[string]string{
		"":                "begin it with its package",
		"allow := true\n": "1:1: package expected: begin the file with its package, such as: package sallyport.egress",
		head + "allow contains {\"rule\": \"x\" if true\n":                                                              "egress/a.rego:3:",
		head + "allow[{\"rule\": \"x\"}] { true }\n":                                                                    "3:1: `contains` keyword is required for partial set rules: write: allow contains {\"rule\": \"an-id\"} if { … }",
		head + "allow contains {\"rule\": \"x\"} if {\n\tinput.target.port == 443\n":                                    "opened with {, ( or [",
		head + "allow contains {\"rule\": \"x\"} if input.target.host == \"a\n":                                         "3:54: non-terminated string: close it",
		head + "allow contains {'rule': 'x'} if true\n":                                                                 "3:17: illegal token: not a token of Rego: write texts in \"",
		head + "a if b\n\nb if a\n":                                                                                     "3:1: rule data.sallyport.egress.a is recursive",
		head + "allow contains {\"rule\": \"x\"} if y == 3\n":                                                           "3:33: var y is unsafe: give it a value first",
		head + "allow contains {\"rule\": \"x\"} if re_match(\"a\", input.target.host)\n":                               "regex.match for re_match",
		head + "allow contains {\"rule\": \"x\"} if input.target.port == \"443\"\n":                                     "the two sides can never be equal",
		head + "allow contains {\"rule\": \"x\"} if startwith(input.target.host, \"a\")\n":                              "3:33: undefined function startwith: did you mean startswith?",
		head + "allow contains {\"rule\": \"x\"} if frobnicate(input.target.host)\n":                                    "there is no builtin and no function of that name",
		head + "allow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, {\"a\"})\n":                          "import the library first: import data.sallyport.lib",
		head + "import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.hosts_in(input.target.host, {})\n": "5:33: undefined function data.sallyport.lib.hosts_in: did you mean lib.host_in?",
		head + "import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if true\n":                                "3:1: import data.sallyport.lib unused: use it, or remove it",
		head + "allow contains {\"rule\": \"x\"} if {\n\ty := 3\n}\n":                                                   "4:2: assigned var y unused: use it, or remove it",
		head + "deny[{\"rule\": \"x\"}] { true }\n":                                                                     "write: deny contains {\"rule\": \"an-id\"} if { … }",
		head + "report {\"rule\": \"x\"} if true\n":                                                                     "write: report contains",
		head + "deny contain {\"rule\": \"x\"} if true\n":                                                               "write: deny contains",
		head + "deny contains {\"rule\": \"x\"} if input.target.port == 25 || input.target.port == 465\n":               "Rego has no ||",
		head + "deny contains {\"rule\": \"x\"} if input.target.port == 25 or input.target.port == 465\n":               "Rego has no or:",
		head + "deny contains {\"rule\": \"x\"} if input.target.port == 25 && input.target.host == \"a.example\"\n":     "Rego has no &&",
		head + "deny contains {\"rule\": \"x\"} if input.target.port == 25 and true\n":                                  "Rego has no and:",
		head + "deny contains {\"rule\": \"x\"} if !input.target.port\n":                                                "write not, and a space",
		head + "deny contains {\"rule\": \"x\"} when input.target.port == 25\n":                                         "write if between the entry",
		head + "deny contains {\"rule\": \"x\"} if input.target.port == 25, true\n":                                     "on a line of its own",
		head + "deny contains {\"rule\": \"x\"} if input.target.port == 25 }\n":                                         "nothing was opened",
		head + "deny contains {\"rule\": \"x\"} if input.target.port := 25\n":                                           "compare with ==",
		head + "deny contains {\"rule\": \"x\"} if { for h in data.x { h == 1 } }\n":                                    "write some for for",
		head + "// no mail\n":                     "begin a comment with #",
		head + "from data.sallyport import lib\n": "write: import data.sallyport.lib",
		head + "package sallyport.egress\n":       "a file has one package",
		head + "allow contains {\"rule\": \"x\"} if input.principal.repository == \"acme/website\"\n": "input.principal.repository.full_name",
		head + "allow contains {\"rule\": \"x\"} if input.target == \"a.example:443\"\n":              "input.target.host",
		// The words are not operators within a text.
		head + "allow contains {\"rule\": \"x\", \"message\": \"this || that and more\"} if input.target.port := 25\n": "compare with ==",
	} {
		problems, _, err := Check(t.Context(), snapshot(t, "-- egress/a.rego --\n"+text), Options{Names: true})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(problems.Error(), want) || strings.Contains(problems.Error(), "rego_parse_error") || !strings.Contains(problems.Error(), "egress/a.rego:") {
			t.Errorf("%s\nis refused with\n%v\nwhich does not say %q", text, problems, want)
		}
	}
}

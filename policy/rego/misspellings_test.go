package rego

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/misspelling"
	"github.com/sallyport/sallyport/policy"
)

// misspelledPlace is a word of a policy file in its place.
type misspelledPlace struct {
	name  string
	words []string
	valid []string // other words that may stand there
	fold  bool     // in any case

	before, line, after string // the line has the word for %s, and a number for %d; it stands in a file with others
	whole               string // a policy of its own for each word, which has it for %s
	identifier          bool   // another word is a mistake of syntax, which hides others
}

const ruleFile = "-- egress/a.rego --\npackage sallyport.egress\n\nimport data.sallyport.lib\n\nallow contains {\"rule\": \"lib\"} if lib.host_in(input.target.host, {\"a.example\"})\n"

func inRule(name, line string, words ...string) misspelledPlace {
	return misspelledPlace{name: name, before: ruleFile, line: line, words: words}
}

func inException(name string, members string) misspelledPlace {
	return misspelledPlace{name: "exceptions: " + name, words: []string{name}, line: "  - {" + members + "}",
		before: org(withLib+`allow contains {"rule": "e", "expires": e.until} if some e in lib.exceptions_for(data.list, input.principal.repository.full_name, input.target)`) +
			"-- data/x.yaml --\nlist:\n"}
}

// limitBytes and denyFlags are keys whose names the table takes from the checks.
var (
	limitBytes = slices.DeleteFunc(strings.Fields("bytes_sent bytes_received step_bytes_sent step_bytes_received"), func(key string) bool {
		return checkValue("limits", ast.NewObject([2]*ast.Term{ast.StringTerm(key), ast.IntNumberTerm(1)})) != ""
	})
	denyFlags  = slices.DeleteFunc(slices.Clone(egress.keys[setDeny]), func(key string) bool { return key == "rule" || key == "message" })
	allowFlags = slices.DeleteFunc(slices.Clone(egress.keys[setAllow]), func(key string) bool { return key != "allow_ip_literal" && key != "ech" && key != "no_sni" })
)

func misspelledPlaces() []misspelledPlace {
	identifier := func(p misspelledPlace) misspelledPlace { p.identifier = true; return p }
	days := inRule("days", `allow contains {"rule": "r%d"} if lib.within([{"days": ["%s"], "from": "08:00", "to": "18:00"}])`, "mon", "tue", "wed", "thu", "fri", "sat", "sun", "thursday")
	days.fold = true
	documents := inRule("documents", `allow contains {"rule": "r%d"} if input.target.host in data.%s`, "sites")
	documents.after = "-- data/x.yaml --\nsites: [a.example]\n"
	places := []misspelledPlace{
		identifier(misspelledPlace{name: "sets of the organization", before: ruleFile, line: `%[2]s contains {"rule": "r%[1]d"} if input.target.port == 25`, words: []string{"allow", "deny", "report", "delegate"}}),
		identifier(misspelledPlace{name: "sets of a repository", before: "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\n",
			line: `%[2]s contains {"rule": "r%[1]d"} if input.target.port == 25`, words: []string{"allow", "deny"}}),
		inRule("the id", `allow contains {"%[2]s": "r%[1]d"} if input.target.port == 25`, "rule"),
		inRule("keys of an allow", `allow contains {"rule": "r%d", "%s": "any"} if input.target.port == 25`, "protocol", "message"),
		inRule("flags of an allow", `allow contains {"rule": "r%d", "%s": true} if input.target.port == 25`, allowFlags...),
		inRule("ends", `allow contains {"rule": "r%d", "%s": "2099-12-31T00:00:00Z"} if input.target.port == 25`, "expires"),
		inRule("limits", `allow contains {"rule": "r%d", "%s": {"idle": "5m"}} if input.target.port == 25`, "limits"),
		inRule("times of limits", `allow contains {"rule": "r%d", "limits": {"%s": "5m"}} if input.target.port == 25`, "idle", "lifetime"),
		inRule("bytes of limits", `allow contains {"rule": "r%d", "limits": {"%s": 100}} if input.target.port == 25`, limitBytes...),
		inRule("limits by a name", `allow contains {"rule": "r%[1]d", "limits": limits} if { limits := {"%[2]s": "5m"} }`, "idle", "lifetime"),
		inRule("keys of a deny", `deny contains {"rule": "r%d", "%s": true} if input.target.port == 25`, denyFlags...),
		inRule("keys of a report", `report contains {"rule": "r%d", "%s": "x"}`, "message"),
		inRule("keys of a delegation", `delegate contains {"rule": "r%d", "%s": "x"}`, "message"),
		inRule("protocols", `allow contains {"rule": "r%d", "protocol": "%s"} if input.target.port == 25`, "tls", "any"),
		inRule("actions", `deny contains {"rule": "r%d"} if input.action == "%s"`, "connect", "request"),
		inRule("types", `allow contains {"rule": "r%d"} if input.principal.deployment.type == "%s"`, "test", "staging", "production"),
		inRule("kinds", `deny contains {"rule": "r%d"} if input.principal.kind == "%s"`, "bitbucket_step"),
		inRule("schemes", `allow contains {"rule": "r%d"} if input.target.scheme == "%s"`, "http"),
		identifier(inRule("functions of a host", `allow contains {"rule": "r%d"} if lib.%s(input.target.host, {"a.example"})`, "host_in")),
		identifier(inRule("functions of a target", `allow contains {"rule": "r%d"} if lib.%s(input.target, {"a.example"})`, "target_in")),
		identifier(inRule("functions of a port", `allow contains {"rule": "r%d"} if lib.%s(input.target.port, [443])`, "port_in")),
		identifier(inRule("functions of a time", `allow contains {"rule": "r%d"} if { input.target.port == 25; lib.%s("2099-12-31T00:00:00Z") }`, "before", "since")),
		identifier(inRule("functions of windows", `allow contains {"rule": "r%d"} if lib.%s([{"from": "08:00", "to": "18:00"}])`, "within")),
		identifier(inRule("functions without a list", `allow contains {"rule": "r%d"} if lib.%s(input.target.host)`, "is_address")),
		identifier(inRule("the library", `allow contains {"rule": "r%d"} if %s.host_in(input.target.host, {"a.example"})`, "lib")),
		inRule("keys of a window", `allow contains {"rule": "r%d"} if lib.within([{"%s": ["mon"], "from": "08:00", "to": "18:00"}])`, "days"),
		inRule("the beginning of a window", `allow contains {"rule": "r%d"} if lib.within([{"%s": "08:00", "to": "18:00"}])`, "from"),
		inRule("the end of a window", `allow contains {"rule": "r%d"} if lib.within([{"from": "08:00", "%s": "18:00"}])`, "to"),
		days,
		identifier(documents),
		inException("owner", `%[2]s: kim, ticket: A-1, until: "2099-12-31T00:00:00Z", repository: acme/a, hosts: [a.example]`),
		inException("ticket", `owner: kim, %[2]s: A-1, until: "2099-12-31T00:00:00Z", repository: acme/a, hosts: [a.example]`),
		inException("until", `owner: kim, ticket: A-1, %[2]s: "2099-12-31T00:00:00Z", repository: acme/a, hosts: [a.example]`),
		inException("repository", `owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z", %[2]s: acme/a, hosts: [a.example]`),
		inException("hosts", `owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z", repository: acme/a, %[2]s: [a.example]`),
		{name: "the package", whole: "-- egress/a.rego --\npackage sallyport.%s\n\nallow contains {\"rule\": \"x\"} if input.target.port == 25\n", words: []string{"egress"}},
		{name: "the folder", whole: "-- %s/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 25\n", words: []string{"egress"}},
	}
	for path, fields := range egress.schema().fields {
		parent := "input."
		if path != "" {
			parent += path + "."
		}
		p := inRule("fields of "+parent, `allow contains {"rule": "r%d"} if json.marshal(`+parent+`%s) == input.action`, fields...)
		places = append(places, identifier(p))
	}
	return places
}

var identifierForm = regexp.MustCompile("^[a-zA-Z_][a-zA-Z0-9_]*$")

// TestMisspellings: each misspelling of a word of a policy file gets an error or a
// warning, unless it is another valid word.
func TestMisspellings(t *testing.T) {
	if withoutRaceDetector(t) {
		return
	}
	for _, place := range append(misspelledPlaces(), misspelledDeliveryPlaces()...) {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			if len(place.words) == 0 {
				t.Fatal("there are no words")
			}
			for _, word := range place.words {
				if silent := place.silent(t, []string{word}); len(silent) != 1 {
					t.Fatalf("%s itself is not accepted", word)
				}
				wrong := slices.DeleteFunc(misspelling.Of(word), func(s string) bool {
					return place.isValid(s) || place.identifier && !identifierForm.MatchString(s)
				})
				if silent := place.silent(t, wrong); len(silent) > 0 {
					t.Errorf("instead of %s are accepted: %.1000s", word, silent)
				}
			}
		})
	}
}

func (p misspelledPlace) isValid(s string) bool {
	return slices.ContainsFunc(slices.Concat(p.words, p.valid), func(w string) bool { return s == w || p.fold && strings.EqualFold(s, w) })
}

// silent are the words of which nothing is found.
func (p misspelledPlace) silent(t *testing.T, words []string) []string {
	t.Helper()
	var silent []string
	if p.whole != "" {
		for _, word := range words {
			if len(found(t, strings.Replace(p.whole, "%s", word, 1))) == 0 {
				silent = append(silent, word)
			}
		}
		return silent
	}
	if len(words) > 500 { // at most 1,000 findings are reported of a unit
		return append(p.silent(t, words[:500]), p.silent(t, words[500:])...)
	}
	text := p.before
	for n, word := range words {
		text += fmt.Sprintf(p.line, n, word) + "\n"
	}
	lines := map[int]bool{}
	for _, e := range found(t, text+p.after) {
		lines[e.Line] = true
	}
	_, last, _ := strings.Cut(p.before[strings.LastIndex(p.before, "-- "):], "\n")
	for n, word := range words {
		if !lines[strings.Count(last, "\n")+n+1] {
			silent = append(silent, word)
		}
	}
	return silent
}

func found(t *testing.T, files string) Errors {
	t.Helper()
	problems, warnings, err := Check(t.Context(), snapshot(t, files), Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	return append(problems, slices.DeleteFunc(remarks(warnings), func(e Error) bool { return strings.HasPrefix(e.Message, "slow: ") })...)
}

// TestMisspelledExtensions: a misspelled extension or folder is an error.
func TestMisspelledExtensions(t *testing.T) {
	for form, words := range map[string][]string{"egress/a.%s": {"rego"}, "data/x.%s": {"yaml", "yml", "json"}, "%s/x.yaml": {"data"}} {
		for _, word := range words {
			for _, wrong := range misspelling.Near(word) {
				path := strings.Replace(form, "%s", wrong, 1)
				if slices.Contains(words, wrong) || strings.HasPrefix(path, ".") {
					continue
				}
				if message, remedy := policy.CheckFileName(path); message == "" || remedy == "" {
					t.Errorf("%s is left out without a word", path)
				}
			}
		}
	}
}

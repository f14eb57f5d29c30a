package rego

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// slowForms are slow forms of a rule, the warning about each, and a fast form. The test
// measures each claim: in steps of the evaluation where the policy visits members, in
// rules where rules are evaluated, and in time, with longer lists, where one builtin
// visits a list.
var slowForms = map[string]struct {
	slow, want, fast string
	by               string
}{
	"a list of documents":     {"allow contains {\"rule\": \"x\"} if input.target.host in data.hosts", "data.hosts has 1200 members", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "time"},
	"a list by the library":   {"import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.hosts)", "egress/a.rego:5:", "import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.set)", "time"},
	"a list by its alias":     {"import data.sallyport.lib as l\n\nallow contains {\"rule\": \"x\"} if l.target_in(input.target, data.hosts)", "egress/a.rego:5:", "import data.sallyport.lib\n\nhosts := {LIST}\n\nallow contains {\"rule\": \"x\"} if lib.target_in(input.target, hosts)", "time"},
	"an imported list":        {"import data.hosts\n\nallow contains {\"rule\": \"x\"} if input.target.host in hosts", "data.hosts has 1200 members", "import data.set\n\nallow contains {\"rule\": \"x\"} if set[input.target.host]", "time"},
	"a list with a name":      {"hosts := [LIST]\n\nallow contains {\"rule\": \"x\"} if input.target.host in hosts", "hosts has 1200 members", "hosts := {LIST}\n\nallow contains {\"rule\": \"x\"} if input.target.host in hosts", "time"},
	"going through":           {"allow contains {\"rule\": \"x\"} if {\n\tsome host, _ in data.set\n\tinput.target.host == host\n}", "egress/a.rego:4:", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"going through by index":  {"allow contains {\"rule\": \"x\"} if data.hosts[_] == input.target.host", "data.hosts has 1200 members", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"by an index's name":      {"allow contains {\"rule\": \"x\"} if {\n\tsome i\n\tendswith(data.hosts[i], input.target.host)\n}", "data.hosts has 1200 members", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"every":                   {"deny contains {\"rule\": \"x\"} if {\n\tevery host in data.hosts {\n\t\thost != input.target.host\n\t}\n}", "data.hosts has 1200 members", "deny contains {\"rule\": \"x\"} if not data.set[input.target.host]", "steps"},
	"a set that is made":      {"allow contains {\"rule\": \"x\"} if input.target.host in {h | some h in data.hosts}", "data.hosts has 1200 members", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"a set that a rule makes": {"open contains h if some h in data.hosts\n\nallow contains {\"rule\": \"x\"} if input.target.host in open", "data.hosts has 1200 members", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"walk":                    {"allow contains {\"rule\": \"x\"} if {\n\twalk(data.set, [path, _])\n\tpath == [input.target.host]\n}", "data.set has 1201 members", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"loops within loops":      {"allow contains {\"rule\": \"x\"} if {\n\tsome a in data.few\n\tsome b in data.few\n\tinput.target.host == concat(\".\", [a, b])\n}", "in each of 20 iterations", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"in a comprehension":      {"allow contains {\"rule\": \"x\"} if {\n\tsome a in data.few\n\tcount([b | some b in data.few; a == b]) > 1\n}", "in each of 20 iterations", "allow contains {\"rule\": \"x\"} if data.set[input.target.host]", "steps"},
	"patterns one by one":     {"allow contains {\"rule\": \"x\"} if {\n\tsome pattern in [\"a*\", \"b*\", \"c*\", \"d*\", \"e*\"]\n\tglob.match(pattern, [\".\"], input.target.host)\n}", "glob.match is called", "import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, {\"*.a.example\", \"*.b.example\", \"*.c.example\"})", "steps"},
	"expressions one by one":  {"matches(host, pattern) if regex.match(pattern, host)\n\nallow contains {\"rule\": \"x\"} if {\n\tsome pattern in data.few\n\tmatches(input.target.host, pattern)\n}", "regex.match is called", "import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.set)", "steps"},
	"rules of one kind":       {"RULES", "of 60 rules of allow, 60 are evaluated", "INDEXED", "rules"},
}

// TestSlowRulesGetAWarning: the warning has the location and a fast form, and is true.
func TestSlowRulesGetAWarning(t *testing.T) {
	for name, c := range slowForms {
		if slow := slowWarnings(t, formOf(c.slow, 1200)); !strings.Contains(slow, c.want) {
			t.Errorf("%s: %q, want %q", name, slow, c.want)
		}
		if slow := slowWarnings(t, formOf(c.fast, 1200)); slow != "" {
			t.Errorf("%s, written to be fast: %s", name, slow)
		}
		if c.by == "time" {
			continue
		}
		slow, fast := mustLoad(t, formOf(c.slow, 1200)), mustLoad(t, formOf(c.fast, 1200))
		a, b := countSteps(t, slow, "to=not.there.example:443"), countSteps(t, fast, "to=not.there.example:443")
		if c.by == "steps" && a.steps < 2*b.steps || c.by == "rules" && a.rules < 10*max(1, b.rules) {
			t.Errorf("%s takes %+v, and written to be fast %+v", name, a, b)
		}
	}
	for name, rule := range map[string]string{
		"a list in the rule":          "allow contains {\"rule\": \"x\"} if input.target.host in [LIST]",
		"a set in the rule":           "allow contains {\"rule\": \"x\"} if input.target.host in {LIST}",
		"an object by the library":    "import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.set)",
		"a short list":                "allow contains {\"rule\": \"x\"} if input.target.host in [\"a.example\", \"b.example\"]",
		"one pattern that is spelled": "allow contains {\"rule\": \"x\"} if regex.match(`^a[0-9]+\\.example$`, input.target.host)",
		"one pattern with a name":     "pattern := `^a[0-9]+`\n\nallow contains {\"rule\": \"x\"} if regex.match(pattern, input.target.host)",
		"one pattern of documents":    "allow contains {\"rule\": \"x\"} if regex.match(data.pattern, input.target.host)",
		"a key that has a value":      "allow contains {\"rule\": \"x\"} if {\n\thost := input.target.host\n\tdata.set[host]\n}",
		"a key of a function":         "open(host) if data.set[host]\n\nallow contains {\"rule\": \"x\"} if open(input.target.host)",
		"a short loop":                "allow contains {\"rule\": \"x\"} if {\n\tsome a in data.few\n\tendswith(input.target.host, a)\n}",
		"many rules that differ":      "INDEXED",
	} {
		if slow := slowWarnings(t, formOf(rule, 1200)); slow != "" {
			t.Errorf("%s: %s", name, slow)
		}
	}
}

// TestLongListsTakeLong: a builtin visits a list in one step, whatever its length. With
// many members it takes longer than the rest of a decision, and a set does not.
func TestLongListsTakeLong(t *testing.T) {
	if inOwnProcess(t) {
		return
	}
	for name, c := range slowForms {
		if c.by != "time" {
			continue
		}
		slow, fast := mustLoad(t, formOf(c.slow, 20_000)), mustLoad(t, formOf(c.fast, 20_000))
		// The shortest of each is the one that nothing else held up: on a busy
		// machine it takes more rounds until there is one.
		a, b := time.Hour, time.Hour
		for round := 0; round < 5 || a < 2*b && round < 2000; round++ {
			a, b = min(a, timed(t, slow)), min(b, timed(t, fast))
		}
		if a < 2*b {
			t.Errorf("%s takes %v, and written to be fast %v", name, a, b)
		}
	}
}

// timed is how long one evaluation takes.
func timed(t *testing.T, set *Set) time.Duration {
	t.Helper()
	d, err := set.Decide(t.Context(), requestFor(t, "to=not.there.example:443"))
	if err != nil {
		t.Fatal(err)
	}
	return d.Duration
}

// formOf is a policy of a form with n hosts.
func formOf(form string, n int) string {
	var list, few []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"api-%d.partner.example"`, i))
	}
	for i := range 20 {
		few = append(few, fmt.Sprintf(`"part-%d"`, i))
	}
	var rules, indexed strings.Builder
	for i := range 60 {
		fmt.Fprintf(&rules, "allow contains {\"rule\": \"x%d\"} if endswith(input.target.host, concat(\"\", [\".zone-%d.\", data.pattern]))\n\n", i, i)
		fmt.Fprintf(&indexed, "allow contains {\"rule\": \"x%d\"} if input.target.host == \"zone-%d.example\"\n\n", i, i)
	}
	form = strings.NewReplacer("LIST", strings.Join(list, ", "), "RULES", rules.String(), "INDEXED", indexed.String()).Replace(form)
	return org(form) + "-- data/x.json --\n{\"hosts\": [" + strings.Join(list, ", ") + "], \"set\": {" + strings.Join(list, ": {}, ") + ": {}}, \"few\": [" + strings.Join(few, ", ") + "], \"pattern\": \"a\"}\n"
}

func slowWarnings(t *testing.T, files string) string {
	t.Helper()
	problems, warnings, err := Check(t.Context(), snapshot(t, files), Options{Names: true})
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v, %v\n%.500s", err, problems, files)
	}
	slow := ""
	for _, w := range warnings {
		if strings.Contains(w.Message, "slow: ") {
			slow += w.Error() + "\n"
		}
	}
	return slow
}

// TestExceptions: exceptions are found anywhere in the documents, and those that do not
// count are reported.
func TestExceptions(t *testing.T) {
	files := org("allow contains {\"rule\": \"x\"}") + `-- data/exceptions/list.yaml --
list:
  - {repository: acme/b, owner: kim@acme.example, ticket: B-1, until: "2099-12-01T00:00:00Z", hosts: [b.example]}
  - {repository: acme/a, owner: kim@acme.example, ticket: A-1, until: "2020-12-01T00:00:00Z", hosts: [a.example]}
-- data/more/x.yaml --
by_name:
  one: {owner: lee@acme.example, until: tomorrow}
  two: {owner: "", until: "2099-12-01T00:00:00Z"}
  three: {owner: nobody}
`
	set := mustLoadTree(t, snapshot(t, files), Options{Names: true, Recorded: true})
	got := set.Exceptions()
	if len(got) != 4 || got[0].Path != "data.more.by_name.one" || !got[0].Until.IsZero() ||
		got[1].Ticket != "A-1" || got[1].Until.Format(time.RFC3339) != "2020-12-01T00:00:00Z" || got[3].Owner == got[2].Owner {
		t.Errorf("%+v", got)
	}
	problems, warnings, err := Check(t.Context(), snapshot(t, files), Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	said := problems.Error() + "\n" + warnings.Error()
	for _, want := range []string{"data/exceptions/list.yaml:3:5: the exception data.exceptions.list[1] of kim@acme.example ended",
		"data/more/x.yaml:2:34: the exception never counts: its end is not a time in UTC", "data/more/x.yaml:3:9: the exception never counts: its owner is not a text"} {
		if !strings.Contains(said, want) {
			t.Errorf("no word of %q:\n%s", want, said)
		}
	}
}

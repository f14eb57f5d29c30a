package rego

import (
	"strings"
	"testing"
	"time"
)

// TestCheckSaysWhatIsSlow, where it is and how to write it instead.
func TestCheckSaysWhatIsSlow(t *testing.T) {
	list := `"` + strings.Join(hosts(), `", "`) + `"`
	data := "-- data/x.json --\n{\"hosts\": [" + list + "], \"set\": {\"" + strings.Join(hosts(), `": {}, "`) + "\": {}}}\n"
	for name, c := range map[string]struct{ rule, want string }{
		"a list in the rule":          {"allow contains {\"rule\": \"x\"} if input.target.host in [" + list + "]", "egress/a.rego:3:"},
		"a list of documents":         {"allow contains {\"rule\": \"x\"} if input.target.host in data.hosts", "data.hosts has 200 members"},
		"a list by the library":       {"import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.hosts)", "egress/a.rego:5:"},
		"an imported list":            {"import data.hosts\n\nallow contains {\"rule\": \"x\"} if input.target.host in hosts", "data.hosts has 200 members"},
		"going through":               {"allow contains {\"rule\": \"x\"} if {\n\tsome host, _ in data.set\n\tinput.target.host == host\n}", "egress/a.rego:4:"},
		"patterns one by one":         {"allow contains {\"rule\": \"x\"} if {\n\tsome pattern in [\"a\", \"b\"]\n\tglob.match(pattern, [\".\"], input.target.host)\n}", "glob.match is asked"},
		"a set in the rule":           {"allow contains {\"rule\": \"x\"} if input.target.host in {" + list + "}", ""},
		"an object by the library":    {"import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.set)", ""},
		"a short list":                {"allow contains {\"rule\": \"x\"} if input.target.host in [\"a.example\", \"b.example\"]", ""},
		"one pattern that is spelled": {"allow contains {\"rule\": \"x\"} if regex.match(`^a[0-9]+\\.example$`, input.target.host)", ""},
	} {
		problems, warnings, err := Check(t.Context(), snapshot(t, org(c.rule)+data), Options{Names: true})
		if err != nil || len(problems) > 0 {
			t.Fatalf("%s: %v, %v", name, problems, err)
		}
		slow := ""
		for _, w := range warnings {
			if strings.Contains(w.Message, "slow: ") {
				slow = w.Error()
			}
		}
		if c.want == "" != (slow == "") || !strings.Contains(slow, c.want) {
			t.Errorf("%s: %q, want %q", name, slow, c.want)
		}
	}
}

// TestExceptions are found wherever they stand among the documents, and those that
// do not count are told of.
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
	set := mustLoad(t, files)
	got := set.Exceptions()
	if len(got) != 4 || got[0].Path != "data.more.by_name.one" || !got[0].Until.IsZero() ||
		got[1].Ticket != "A-1" || got[1].Until.Format(time.RFC3339) != "2020-12-01T00:00:00Z" || got[3].Owner == got[2].Owner {
		t.Errorf("%+v", got)
	}
	_, warnings, err := Check(t.Context(), snapshot(t, files), Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	said := warnings.Error()
	for _, want := range []string{"data.exceptions.list[1] of kim@acme.example ended", "by_name.one never counts: its end", "by_name.two never counts: it has no owner"} {
		if !strings.Contains(said, want) {
			t.Errorf("no word of %q:\n%s", want, said)
		}
	}
}

package evidence

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// FuzzSampleDetail: a sample detail is refused, or can be shown.
func FuzzSampleDetail(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("testdata", "pack", "samples", "*.json"))
	if err != nil || len(names) == 0 {
		f.Fatal(err)
	}
	for _, name := range names[:2] {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"decision_id":"../../../../etc/passwd-000000000000","records":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := pack.ReadSampleDetail(text)
		if err != nil {
			return
		}
		if !pack.IsID(d.ID) || !pack.IsPath(pack.SamplesFolder+d.ID+".html") {
			t.Errorf("its id is %q", d.ID)
		}
		var page bytes.Buffer
		if err := report.WriteSamplePage(&page, d); err != nil {
			t.Error(err)
		}
	})
}

var tag = regexp.MustCompile(`<[!/a-zA-Z][^>]*>`)

// FuzzPages: whatever stands in host, branch, message, path, attribute or document
// adds no tag to a page and no row and no formula to a table.
func FuzzPages(f *testing.F) {
	f.Add(hostile, "</td><td>", "javascript:alert(1)")
	f.Add("=1+1", "\u202eexe", "\"><img src=x onerror=alert(1)>")
	f.Add("-->", "</style><script>", "{{template \"report\"}}")
	f.Add("\x00\xff", "'=1", "a,=1;@x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		// What is empty is not there at all.
		pages, tables := rendering(t, cmp.Or(a, "x"), cmp.Or(b, "x"), cmp.Or(c, "x"))
		plain, wanted := rendering(t, "aa", "bb", "cc")
		for i := range pages {
			if got, want := tag.FindAllString(pages[i], -1), tag.FindAllString(plain[i], -1); !slices.Equal(got, want) {
				t.Errorf("page %d has other tags: %q", i, difference(got, want))
			}
			if strings.ContainsAny(pages[i], "\u202e\u2066\x00") {
				t.Errorf("page %d hides text", i)
			}
		}
		for i := range tables {
			rows, err := csv.NewReader(strings.NewReader(tables[i])).ReadAll()
			if err != nil || len(rows) != strings.Count(wanted[i], "\r\n") {
				t.Errorf("table %d: %v, %d rows", i, err, len(rows))
			}
			for _, row := range rows {
				for _, cell := range row {
					if cell != "" && strings.IndexByte("=+-@\t\r", cell[0]) >= 0 {
						t.Errorf("table %d has the cell %q", i, cell)
					}
				}
			}
		}
	})
}

func difference(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// rendering are the pages and tables of a log in which an attacker placed this text.
func rendering(t *testing.T, a, b, c string) (pages, tables []string) {
	e := decisionEvent(1, at(3, 0), "deny", "policy_denied", "x.example")
	e.Repository, e.Branch, e.Message, e.Path, e.TargetRaw, e.Rule, e.Revision = "r"+a, b, c, a, "t"+b, "r"+c, "sha256:0"
	action := &audit.Event{Time: at(3, 1), Kind: audit.KindAdmin, Action: "token_revoked", Message: a, Attributes: []audit.Attribute{{Name: "operator", Value: "o" + b}, {Name: "x", Value: c}}}
	all := report.NewSections()
	p := report.Population{Sections: all, Revisions: map[string]string{}, Sample: pack.Sample{Size: 1, Seed: a}}
	var sheet bytes.Buffer
	for i, one := range []*audit.Event{e, action} {
		one.Writer, one.WriterSequence = "w", int64(i+1)
		one.Normalise()
	}
	one := report.Prepare(pack.Pair{Leaf: 0, EndLeaf: -1, Record: e.AppendRecord(nil)})
	if one.Err != nil {
		t.Fatal(one.Err)
	}
	p.Add(&one)
	sheet.Write(one.Row)
	if _, err := p.Event(1, action.AppendRecord(nil), period); err != nil {
		t.Fatal(err)
	}
	note, err := signer(t).Sign(audit.Checkpoint{Size: 2, Time: at(4, 0)})
	if err != nil {
		t.Fatal(err)
	}
	facts := &pack.Facts{Period: period, Log: "acme.example/egress", Checkpoint: string(note), Repositories: []string{"n" + a}, Selected: 1, Kinds: map[string]int64{"decision": 1},
		Writers: []pack.Writer{{Name: "w", Hostname: "h" + b, First: "2026-10-03T00:00:00Z", Last: "2026-10-03T01:00:00Z"}}, Exceptions: []pack.Exception{{Owner: "o" + a, Ticket: "t" + b, Path: "p" + c}},
		Result: pack.Result{Findings: []string{"f" + a}}}
	sections, err := all.Render(facts)
	if err != nil {
		t.Fatal(err)
	}
	var page, sampleDetail, access bytes.Buffer
	if err := report.WritePage(&page, facts, sections, p.Sample.IDs(), "s"+a); err != nil {
		t.Fatal(err)
	}
	pr := proverFor(t, 2)
	d, err := makeSampleDetail(&p.Sample.Chosen[0], 0, string(note), pr, &report.Provenance{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Rules = []pack.RuleText{{File: "f" + a, Text: "t" + b}}
	if err := report.WriteSamplePage(&sampleDetail, d); err != nil {
		t.Fatal(err)
	}
	grants := pack.Table{Name: "roles", Title: "Roles", Columns: []string{"role"}, Rows: [][]string{{"r" + a}, {"r" + b}}}
	if err := report.WriteAccessPage(&access, pack.Database{Name: "d" + a, User: "u" + c}, []pack.Table{grants}); err != nil {
		t.Fatal(err)
	}
	for _, one := range append(report.TablesOf(sections), grants) {
		var text bytes.Buffer
		if err := one.Write(&text); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, text.String())
	}
	return []string{page.String(), sampleDetail.String(), access.String()}, append(tables, sheet.String())
}

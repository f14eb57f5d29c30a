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
	"github.com/sallyport/sallyport/policy"
)

// FuzzPair: a line is refused, or is written again as it was read: it has one meaning.
func FuzzPair(f *testing.F) {
	e := decisionEvent(1, at(2, 0), "allow", "policy_allowed", "x.example")
	e.Normalise()
	record := e.AppendRecord(nil)
	f.Add(bytes.TrimSpace(appendPair(nil, &Pair{Leaf: 1, EndLeaf: -1, Record: record})))
	f.Add(bytes.TrimSpace(appendPair(nil, &Pair{Leaf: 1, EndLeaf: 2, Record: record, EndRecord: []byte("\xff{}")})))
	f.Add([]byte(`{"leaf":1,"record":{"a":1},"record":{"a":2}}`))
	f.Add([]byte(`{"leaf":-1,"record":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p, err := readPair(line)
		if err != nil {
			return
		}
		if again := appendPair(nil, p); !bytes.Equal(again, append(bytes.Clone(line), '\n')) {
			t.Errorf("%q became %q", line, again)
		}
	})
}

// FuzzRecord: any bytes that stand in the log as a record are written to a line and
// read back, whatever they are.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1}`), []byte("{}"))
	f.Add([]byte("\n"), []byte("\xff"))
	f.Add([]byte(`{"version":1,"time":"2026-10-02T00:00:00.000000Z","kind":"decision","input":{}}`), []byte(`{"a":"\u0000"}`))
	f.Fuzz(func(t *testing.T, record, end []byte) {
		line := appendPair(nil, &Pair{Leaf: 3, EndLeaf: 4, Record: record, EndRecord: end})
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", line)
		}
		p, err := readPair(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil || !bytes.Equal(p.Record, record) || !bytes.Equal(p.EndRecord, end) || p.Leaf != 3 || p.EndLeaf != 4 {
			t.Errorf("%q: %v", line, err)
		}
		peek(record)
	})
}

// FuzzManifest: a manifest is refused, or names nothing but files of a pack, in
// order; and one that is not signed by the key is refused whatever its content is.
func FuzzManifest(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "pack", manifestName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(unsignedHead + `{"format":1,"files":[{"path":"../x"}]}`))
	f.Add([]byte(unsignedHead + `{"format":1,"files":[{"path":"a"},{"path":"a"}]}`))
	keys := []audit.Key{signer(f).Key()}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, by, err := openManifest(text, keys, true)
		if err != nil {
			return
		}
		if by == "" && !bytes.HasPrefix(text, []byte(unsignedHead)) {
			t.Error("nobody signed it")
		}
		if _, _, err := openManifest(text, keys, false); (err == nil) != (by != "") {
			t.Errorf("unsigned, and taken: %v", err)
		}
		for i, file := range m.Files {
			if !filepath.IsLocal(file.Path) || i > 0 && m.Files[i-1].Path >= file.Path {
				t.Errorf("it lists %q", file.Path)
			}
		}
		claimedKey(text)
	})
}

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
		d, err := readSampleDetail(text)
		if err != nil {
			return
		}
		if !isID(d.ID) || !isPath(samplesFolder+d.ID+".html") {
			t.Errorf("its id is %q", d.ID)
		}
		var page bytes.Buffer
		if err := d.writePage(&page); err != nil {
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
	deed := &audit.Event{Time: at(3, 1), Kind: audit.KindAdmin, Action: "token_revoked", Message: a, Attributes: []audit.Attribute{{Name: "operator", Value: "o" + b}, {Name: "x", Value: c}}}
	all := beginSections()
	p := population{sections: all, revisions: map[string]string{}, sample: sample{size: 1, seed: a}}
	var sheet bytes.Buffer
	for i, one := range []*audit.Event{e, deed} {
		one.Writer, one.WriterSequence = "w", int64(i+1)
		one.Normalise()
	}
	one := prepare(Pair{Leaf: 0, EndLeaf: -1, Record: e.AppendRecord(nil)})
	if one.err != nil {
		t.Fatal(one.err)
	}
	p.take(&one)
	sheet.Write(one.row)
	if _, err := all.event(1, deed.AppendRecord(nil), period); err != nil {
		t.Fatal(err)
	}
	note, err := signer(t).Sign(audit.Checkpoint{Size: 2, Time: at(4, 0)})
	if err != nil {
		t.Fatal(err)
	}
	facts := &Facts{Period: period, Log: "acme.example/egress", Checkpoint: string(note), Repositories: []string{"n" + a}, Selected: 1, Kinds: map[string]int64{"decision": 1},
		Writers: []Writer{{Name: "w", Hostname: "h" + b, First: "2026-10-03T00:00:00Z", Last: "2026-10-03T01:00:00Z"}}, Exceptions: []Exception{{Owner: "o" + a, Ticket: "t" + b, Path: "p" + c}},
		Result: Result{Findings: []string{"f" + a}}}
	sections, err := all.render(facts)
	if err != nil {
		t.Fatal(err)
	}
	var report, sampleDetail, access bytes.Buffer
	if err := writeReport(&report, facts, sections, p.sample.ids(), "s"+a); err != nil {
		t.Fatal(err)
	}
	pr := proverFor(t, 2)
	d, err := makeSampleDetail(&p.sample.chosen[0], 0, string(note), pr, &provenance{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Rules = []RuleText{{File: "f" + a, Text: "t" + b}}
	if err := d.writePage(&sampleDetail); err != nil {
		t.Fatal(err)
	}
	grants := Table{Name: "roles", Title: "Roles", Columns: []string{"role"}, Rows: [][]string{{"r" + a}, {"r" + b}}}
	if err := writeAccess(&access, Database{Name: "d" + a, User: "u" + c}, []Table{grants}); err != nil {
		t.Fatal(err)
	}
	for _, one := range append(tablesOf(sections), grants) {
		var text bytes.Buffer
		if err := one.write(&text); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, text.String())
	}
	return []string{report.String(), sampleDetail.String(), access.String()}, append(tables, sheet.String())
}

// FuzzRules: what is quoted of a policy stands there, at the lines that are named.
func FuzzRules(f *testing.F) {
	f.Add(rulesFile, "partner")
	f.Add("allow contains {\"rule\": `x`} if true\n# c\n\n\nb := 1", "x")
	f.Add("\"rule\":\"x\"", "x")
	f.Fuzz(func(t *testing.T, text, rule string) {
		lines := strings.Split(strings.ToValidUTF8(text, "\uFFFD"), "\n")
		for _, r := range statements(policy.File{Path: "egress/a.rego", Content: []byte(text)}, rule) {
			if r.First < 1 || r.Last > len(lines) || r.First > r.Last {
				t.Fatalf("lines %d to %d of %d", r.First, r.Last, len(lines))
			}
			if whole := strings.Join(lines[r.First-1:r.Last], "\n"); whole != r.Text && !strings.HasSuffix(r.Text, "…") {
				t.Errorf("%q is quoted as %q", whole, r.Text)
			}
		}
	})
}

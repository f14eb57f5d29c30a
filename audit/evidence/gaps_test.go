package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

const (
	writerD = "01a1fdf4-0000-7000-8000-00000000000d"
	writerE = "01a1fdf4-0000-7000-8000-00000000000e"
)

// skip takes numbers of a writer away, as a failover does that loses them.
func (m *memory) skip(writer string, n int64) { m.numbers[writer] += n }

// working is a log in which a writer was at work in the period.
func working(t testing.TB) *memory {
	m := october(t)
	m.waiting = nil
	m.add(writerD, &audit.Event{Time: at(2, 0), Kind: audit.KindWriterStarted}, decisionEvent(500, at(3, 0), "deny", "no_rule_matched", "gap.example"))
	return m
}

// TestGaps: a pack over a gap is made of what is sealed, and reports what is missing,
// between which times and whether anything explains it.
func TestGaps(t *testing.T) {
	late := func(m *memory) { // so that the checkpoint of the pack covers what explains
		m.add(writerC, decisionEvent(600, at(24, 23), "deny", "no_rule_matched", "last.example"))
		m.seal(at(26, 4))
	}
	for _, c := range []struct {
		name       string
		log        func(m *memory)
		gaps       []string // rows of the table
		unsealed   int64
		population int64
		says       string
	}{
		{
			name: "none", log: func(m *memory) { m.seal(at(26, 4)) },
			population: 52, says: "No writer has a missing number that could belong to the period.",
		},
		{
			name: "not declared",
			log: func(m *memory) {
				m.skip(writerD, 17)
				m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"), endEvent(500, at(4, 1), 1, 1))
				m.seal(at(26, 4))
			},
			gaps:       []string{`"2026-10-03T00:00:00.000000Z","2026-10-04T00:00:00.000000Z","17","NOT EXPLAINED","","` + writerD + `","3","19","false",""`},
			unsealed:   2,
			population: 52, says: "<b>17 numbers are missing</b> that could belong to the period, <b>17 of them unexplained</b>",
		},
		{
			name: "declared",
			log: func(m *memory) {
				m.skip(writerD, 17)
				m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
				m.add(audit.DatabaseWriter, m.declare(at(24, 22), writerD, 3, 19))
				m.seal(at(26, 4))
				m.seal(at(26, 5))
				late(m)
			},
			gaps:       []string{`"2026-10-03T00:00:00.000000Z","2026-10-04T00:00:00.000000Z","17","gap_declared","the standby was behind","` + writerD + `","3","19","true"`},
			population: 54, says: "<b>17 numbers are missing</b> that could belong to the period, <b>0 of them unexplained</b>",
		},
		{
			name: "a tail that the writer's successor reports as lost",
			log: func(m *memory) {
				m.add(writerE, continuing(at(5, 0), writerD), explained(audit.KindEventsLost, at(5, 0), writerD, 3, 5))
				m.seal(at(26, 4))
			},
			gaps:       []string{`"2026-10-03T00:00:00.000000Z","2026-10-05T00:00:00.000000Z","3","events_lost","the standby was behind","` + writerD + `","3","5","false",`},
			population: 52, says: "<b>3 numbers are missing</b> that could belong to the period, <b>0 of them unexplained</b>",
		},
		{
			name: "a tail that the successor of several writers reports as lost",
			log: func(m *memory) {
				m.add(writerE, continuing(at(5, 0), writerC+" "+writerD), explained(audit.KindEventsLost, at(5, 0), writerD, 3, 5))
				m.seal(at(26, 4))
			},
			gaps:       []string{`"3","events_lost","the standby was behind"`},
			population: 52, says: "<b>0 of them unexplained</b>",
		},
		{
			name: "numbers that another writer claims are lost",
			log: func(m *memory) {
				m.skip(writerD, 17)
				m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
				m.add(writerC, explained(audit.KindEventsLost, at(5, 0), writerD, 1, 99))
				m.seal(at(26, 4))
			},
			gaps: []string{`"17","NOT EXPLAINED","the standby was behind","` + writerD + `","3","19","false","","` + writerC + `"`,
				`"79","NOT EXPLAINED","the standby was behind","` + writerD + `","21","99","false","","` + writerC + `"`},
			unsealed:   1,
			population: 52, says: "<b>96 of them unexplained</b>",
		},
		{
			name: "numbers that a writer claims which says later that it is the successor",
			log: func(m *memory) {
				m.add(writerC, continuing(at(5, 0), writerD), explained(audit.KindEventsLost, at(5, 0), writerD, 3, 5))
				m.seal(at(26, 4))
			},
			gaps:       []string{`"3","NOT EXPLAINED","the standby was behind","` + writerD + `","3","5","false","","` + writerC + `"`},
			population: 52, says: "<b>3 of them unexplained</b>",
		},
		{
			name: "numbers that another writer declares",
			log: func(m *memory) {
				m.add(writerC, explained(audit.KindGapDeclared, at(5, 0), writerD, 3, 19))
				m.skip(writerD, 17)
				m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
				m.seal(at(26, 4))
			},
			gaps:       []string{`"17","NOT EXPLAINED",""`},
			unsealed:   1,
			population: 52, says: "<b>17 of them unexplained</b>",
		},
		{
			name: "a declaration of other numbers",
			log: func(m *memory) {
				m.skip(writerD, 17)
				m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
				m.add(audit.DatabaseWriter, m.declare(at(24, 22), writerD, 3, 18))
				m.seal(at(26, 4))
			},
			gaps:       []string{`"17","NOT EXPLAINED"`},
			unsealed:   1,
			population: 52, says: "<b>17 of them unexplained</b>",
		},
		{
			name: "behind the checkpoint, across the end of the period",
			log: func(m *memory) {
				m.seal(at(25, 0))
				m.skip(writerD, 2)
				m.add(writerD, decisionEvent(501, at(27, 0), "deny", "no_rule_matched", "gap.example"))
				m.seal(at(27, 1))
			},
			gaps:       []string{`"2026-10-03T00:00:00.000000Z","2026-10-27T00:00:00.000000Z","2","NOT EXPLAINED"`},
			population: 52, says: "<b>2 numbers are missing</b>",
		},
		{
			name: "after the period",
			log: func(m *memory) {
				m.add(writerD, decisionEvent(501, at(26, 0), "deny", "no_rule_matched", "gap.example"))
				m.seal(at(26, 4))
				m.skip(writerD, 2)
				m.add(writerD, decisionEvent(502, at(27, 0), "deny", "no_rule_matched", "gap.example"))
				m.seal(at(27, 1))
			},
			population: 52, says: "No writer has a missing number",
		},
		{
			name: "a hole, hidden by a number that nobody gave",
			log: func(m *memory) {
				m.skip(writerD, 1)
				m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
				m.skip(writerD, 1<<62)
				m.add(writerD, decisionEvent(502, at(5, 0), "deny", "no_rule_matched", "gap.example"))
				m.seal(at(26, 4))
			},
			gaps: []string{`"2026-10-03T00:00:00.000000Z","2026-10-04T00:00:00.000000Z","1","NOT EXPLAINED"`,
				`"2026-10-04T00:00:00.000000Z","2026-10-05T00:00:00.000000Z","4611686018427387904","NOT EXPLAINED"`},
			unsealed: 2, population: 52, says: "<b>2 events of the period are not sealed and not in this pack.</b>",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := working(t)
			c.log(m)
			dir, built := mustBuild(t, m, nil)
			files := tree(t, dir)
			f := built.Facts
			if !f.Result.Sound || f.Unsealed != c.unsealed || built.Manifest.Population != c.population || len(f.Gaps) != len(c.gaps) {
				t.Errorf("%d not sealed, %d decisions, %v, gaps %+v", f.Unsealed, built.Manifest.Population, f.Result.Findings, f.Gaps)
			}
			rows := strings.Split(files["tables/missing_numbers.csv"], "\n")[1:]
			for i, want := range c.gaps {
				if !strings.Contains(rows[i], want) {
					t.Errorf("%s, want %s", rows[i], want)
				}
			}
			first, _, _ := strings.Cut(files["report.html"], "<h2>Criteria")
			if !strings.Contains(first, c.says) {
				t.Errorf("the first page does not say %q:\n%s", c.says, first[strings.Index(first, "Summary"):])
			}
			if c := check(t, dir, nil); len(c.Findings) > 0 {
				t.Error(c.Findings)
			}
		})
	}
}

// TestWaitingIsNotAGap: what the next checkpoint covers makes no pack yet.
func TestWaitingIsNotAGap(t *testing.T) {
	m := working(t)
	if _, err := Build(t.Context(), m, t.TempDir()+"/pack", options(t)); err == nil || !strings.Contains(err.Error(), "2 of its") {
		t.Errorf("%v", err)
	}
}

// TestGapWalkIsNeeded: without the walk through what is not sealed, the pack over a
// gap reports that nothing is missing.
func TestGapWalkIsNeeded(t *testing.T) {
	m := working(t)
	m.skip(writerD, 17)
	m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
	m.seal(at(26, 4))
	dir, built := mustBuild(t, m, nil)
	if len(built.Facts.Gaps) != 1 {
		t.Fatalf("%+v", built.Facts.Gaps)
	}
	before := tree(t, dir)["report.html"]
	without, err := Build(t.Context(), unwalked{m}, t.TempDir()+"/pack", options(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(without.Facts.Gaps) != 0 {
		t.Errorf("something else finds it: %+v", without.Facts.Gaps)
	}
	if strings.Contains(before, "No writer has a missing number") {
		t.Error("the first page says that nothing is missing")
	}
}

// unwalked is a log without its unsealed events.
type unwalked struct{ *memory }

func (unwalked) Unsealed(context.Context, time.Time, time.Time) ([]pack.UnsealedRun, error) {
	return nil, nil
}
func (unwalked) Next(context.Context, []string, []int64) ([]pack.NextNumber, error) { return nil, nil }

// skipping is a log whose walk leaves an event out and closes the ranks.
type skipping struct {
	*memory
	leaf int64
}

func (s skipping) Walk(ctx context.Context, size int64, sink pack.Sink, progress func(int64)) error {
	return s.memory.Walk(ctx, size, skippingSink{sink, s.leaf}, progress)
}

type skippingSink struct {
	pack.Sink
	leaf int64
}

func (s skippingSink) Sealed(e *audit.Entry) {
	switch {
	case e.Index == s.leaf:
		return
	case e.Index > s.leaf:
		e.Index--
	}
	s.Sink.Sealed(e)
}

// TestWalkThatSkips: a walk that leaves an event out is found, whichever it is.
func TestWalkThatSkips(t *testing.T) {
	m := working(t)
	m.seal(at(26, 4))
	for _, leaf := range []int64{0, 5, 40, m.tree.Size() - 2} {
		built, err := Build(t.Context(), skipping{m, leaf}, t.TempDir()+"/pack", options(t))
		if err != nil {
			t.Fatal(err)
		}
		if built.Facts.Result.Sound {
			t.Errorf("leaf %d: %+v", leaf, built.Facts.Result)
		}
	}
}

// TestForgedNumbers: facts that contradict the records, or themselves, are found
// although the holder of the key has signed them.
func TestForgedNumbers(t *testing.T) {
	m := working(t)
	m.skip(writerD, 17)
	m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
	m.seal(at(26, 4))
	m.add(writerC, decisionEvent(600, at(24, 23), "deny", "no_rule_matched", "last.example"))
	m.seal(at(26, 6))
	dir := build(t, m, nil)
	writer := func(f *pack.Facts) *pack.Writer {
		for i := range f.Writers {
			if f.Writers[i].Name == writerD {
				return &f.Writers[i]
			}
		}
		t.Fatal("the writer is not there")
		return nil
	}
	for name, forge := range map[string]func(f *pack.Facts){
		"numbers that are neither":           func(f *pack.Facts) { writer(f).Gaps = 1 },
		"a last number that is not":          func(f *pack.Facts) { w := writer(f); w.Number, w.Events = w.Number-1, w.Events-1 },
		"a sealed gap that no writer counts": func(f *pack.Facts) { f.Gaps[0].Sealed = true },
		"an explanation without a leaf":      func(f *pack.Facts) { f.Gaps[0].Explained = string(audit.KindGapDeclared) },
		"an explanation that no event is": func(f *pack.Facts) {
			f.Gaps[0].Explained, f.Gaps[0].Leaf, f.Gaps[0].Reporter = string(audit.KindGapDeclared), 0, audit.DatabaseWriter
		},
		"a missing number that is there": func(f *pack.Facts) { f.Gaps[0].First, f.Gaps[0].Sealed = 2, false },
		"a gap of another time": func(f *pack.Facts) {
			f.Gaps[0].After, f.Gaps[0].Before = pack.FormatTime(at(26, 0)), pack.FormatTime(at(26, 1))
		},
		"late events that are not":              func(f *pack.Facts) { f.Late.Runs[0].Sealed = f.Late.Runs[0].Newest },
		"late decisions that are counted away":  func(f *pack.Facts) { f.Late.Runs[0].Decisions = 0 },
		"a run of late events without its note": func(f *pack.Facts) { f.Late.Checkpoints = f.Late.Checkpoints[1:] },
		"more late events than are counted":     func(f *pack.Facts) { f.Late.Count = 0 },
		"arrived in time":                       func(f *pack.Facts) { r := &f.Late.Runs[len(f.Late.Runs)-1]; r.Arrived = !r.Arrived },
	} {
		t.Run(name, func(t *testing.T) {
			forged := forgeFacts(t, dir, forge)
			c := check(t, forged, nil)
			if len(c.Findings) == 0 || !strings.HasPrefix(c.Findings[0], pack.FactsFile) {
				t.Errorf("%q", c.Findings)
			}
		})
	}
	if c := check(t, forgeFacts(t, dir, func(*pack.Facts) {}), nil); len(c.Findings) > 0 {
		t.Errorf("facts as they were: %q", c.Findings)
	}
}

// TestUnsignedDeclaration: a declaration that the owner's login added without the
// log's key, or with another key, explains nothing in a pack. Without the comparison
// with what the verification accepts it would.
func TestUnsignedDeclaration(t *testing.T) {
	m := working(t)
	m.skip(writerD, 17)
	m.add(writerD, decisionEvent(501, at(4, 0), "deny", "no_rule_matched", "gap.example"))
	e := m.declare(at(24, 22), writerD, 3, 19)
	for i := range e.Attributes {
		if a := &e.Attributes[i]; a.Name == "reason" {
			a.Value = "another reason than was signed"
		}
	}
	m.add(audit.DatabaseWriter, e)
	m.seal(at(26, 4))
	m.seal(at(26, 5))
	dir, built := mustBuild(t, m, nil)
	f := built.Facts
	if f.Result.Sound || len(f.Gaps) != 1 || f.Gaps[0].Explained != "" {
		t.Errorf("%v, gaps %+v", f.Result.Findings, f.Gaps)
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
	x := group([]explanation{{kind: string(audit.KindGapDeclared), by: audit.DatabaseWriter, writer: writerD, first: 3, last: 19}}, nil)
	if x.explain(f.Gaps); f.Gaps[0].Explained == "" {
		t.Error("negative control: the declaration explains nothing where nobody compares it")
	}
}

// forgeFacts changes the facts of a copy of a pack, and signs the manifest again.
func forgeFacts(t *testing.T, dir string, change func(*pack.Facts)) string {
	t.Helper()
	files := tree(t, dir)
	var f pack.Facts
	if err := json.Unmarshal([]byte(files[pack.FactsFile]), &f); err != nil {
		t.Fatal(err)
	}
	change(&f)
	var text bytes.Buffer
	if err := pack.WriteJSON(&text, &f); err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(t.TempDir(), "forged")
	if err := os.CopyFS(forged, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(forged, pack.FactsFile), text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	resign(t, forged, files, pack.FactsFile, text.String())
	return forged
}

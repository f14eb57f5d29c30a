package evidence

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// december is six weeks after an event of october.
var december = time.Date(2026, 12, 5, 0, 0, 0, 0, time.UTC)

// backdate adds a decision that is dated six weeks before it is sealed, to a period
// that is over.
func backdate(m *memory) {
	m.add(writerD, &audit.Event{Time: december, Kind: audit.KindWriterStarted}, decisionEvent(700, at(24, 0), "allow", "policy_allowed", "backdated.example"))
	m.seal(december)
}

// TestBackdatedIntoAPeriod: a decision that is dated into a period which is over is in
// its population, and named with the time of its checkpoint; a pack from before differs
// by it alone.
func TestBackdatedIntoAPeriod(t *testing.T) {
	m := october(t)
	before, built := mustBuild(t, m, nil)
	if built.Facts.Late.Arrived != 0 {
		t.Fatalf("%+v", built.Facts.Late)
	}
	backdate(m)
	after, built := mustBuild(t, m, nil)
	late := built.Facts.Late
	if !built.Facts.Result.Sound || late.Arrived != 1 || late.Explained != 0 || built.Manifest.Population != 52 {
		t.Errorf("%+v", late)
	}
	last := late.Runs[len(late.Runs)-1]
	if last.Writer != writerD || last.FirstNumber != 2 || last.Decisions != 1 || last.Oldest != pack.FormatTime(at(24, 0)) || last.Sealed != pack.FormatTime(december) || !last.Arrived {
		t.Errorf("%+v", last)
	}
	files := tree(t, after)
	if row := `"2026-10-24T00:00:00.000000Z","2026-10-24T00:00:00.000000Z","2026-12-05T00:00:00.000000Z","42 d","yes","1","1","no","` + writerD + `","2","2"`; !strings.Contains(files["tables/late_events.csv"], row) {
		t.Errorf("%s\nwithout\n%s", files["tables/late_events.csv"], row)
	}
	first, _, _ := strings.Cut(files["report.html"], "<h2>Which criteria")
	if want := "by up to 42 d, 1 of them after the end of the period"; !strings.Contains(first, want) {
		t.Errorf("the first page does not say %q", want)
	}
	var more []string
	old := populationOf(t, before)
	for line := range strings.Lines(populationOf(t, after)) {
		decision, _, _ := strings.Cut(strings.TrimSuffix(line, "}\n"), `,"end_leaf"`) // an end that came since is beside its decision
		if !strings.Contains(old, decision) {
			more = append(more, line)
		}
	}
	if len(more) != 1 || !strings.Contains(more[0], "backdated.example") {
		t.Errorf("the packs differ by %q", more)
	}
	if c := check(t, after, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}

// TestLateIsExplained: a journal that was replayed explains late events, also where
// that is recorded after the period.
func TestLateIsExplained(t *testing.T) {
	m := october(t)
	m.add(writerD, decisionEvent(700, at(24, 0), "allow", "policy_allowed", "outage.example"))
	m.add(writerC, &audit.Event{Time: at(26, 4), Kind: audit.KindAdmin, Action: "journal_replayed", Attributes: []audit.Attribute{
		{Name: "writer", Value: writerD}, {Name: "from", Value: at(23, 23).Format(time.RFC3339)}, {Name: "to", Value: at(24, 1).Format(time.RFC3339)}}})
	m.seal(at(26, 4))
	_, built := mustBuild(t, m, nil)
	last := built.Facts.Late.Runs[len(built.Facts.Late.Runs)-1]
	if built.Facts.Late.Explained != 1 || last.Writer != writerD || last.Journal < 0 || !last.Arrived {
		t.Errorf("%+v", built.Facts.Late)
	}
}

func populationOf(t testing.TB, dir string) string {
	return unzip(t, tree(t, dir)[pack.PopulationFile])
}

package evidence

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// thinned is the log after its checkpoints have thinned out to the first and the last
// of each clock hour.
func thinned(m *memory) *memory {
	hour := func(s audit.Statement) time.Time {
		c, _ := audit.ReadCheckpoint(s.Note)
		return c.Time.Truncate(time.Hour)
	}
	less := *m
	less.notes = nil
	for i, s := range m.notes {
		if i == 0 || i == len(m.notes)-1 || !hour(m.notes[i-1]).Equal(hour(s)) || !hour(m.notes[i+1]).Equal(hour(s)) {
			less.notes = append(less.notes, s)
		}
	}
	return &less
}

// TestThinnedLogGivesTheSamePack: thinning out checkpoints does not change a pack.
func TestThinnedLogGivesTheSamePack(t *testing.T) {
	m := october(t)
	m.now = at(31, 0)
	for minute := range 12 { // after the period, in one clock hour
		m.add("w", decisionEvent(700+minute, at(30, 2).Add(time.Duration(minute)*5*time.Minute), "deny", "no_rule_matched", ""))
		m.seal(at(30, 2).Add(time.Duration(minute)*5*time.Minute + time.Second))
	}
	less := thinned(m)
	if len(less.notes) >= len(m.notes)-8 {
		t.Fatalf("%d of %d checkpoints are left", len(less.notes), len(m.notes))
	}
	change := func(o *Options) { o.Period.To = at(30, 3) }
	before, after := tree(t, build(t, m, change)), tree(t, build(t, less, change))
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s differs", name)
		}
	}
}

// TestSilences: a pack names when no instance sealed in its period.
func TestSilences(t *testing.T) {
	m := october(t)
	files := tree(t, build(t, m, nil))
	var facts pack.Facts
	if err := json.Unmarshal([]byte(files[pack.FactsFile]), &facts); err != nil {
		t.Fatal(err)
	}
	if len(facts.Silences) == 0 || !strings.Contains(files[pack.ReportFile], "no instance sealed between") {
		t.Errorf("a log that was sealed once a day has the silences %v", facts.Silences)
	}
	outside := func(s audit.Silence) bool { return !s.From.Before(facts.Period.To) || !s.To.After(facts.Period.From) }
	if slices.ContainsFunc(facts.Silences, outside) {
		t.Errorf("not of the period: %v", facts.Silences)
	}
}

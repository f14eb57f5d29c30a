package audit

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func timed(at time.Time) *Event {
	e := decided(1)
	e.Time = at
	return e
}

const sixWeeks = 6 * 7 * 24 * time.Hour

// backdated is a log with one event that is dated six weeks before it was sealed.
func backdated(t testing.TB) *sealedLog {
	l := newLog(t)
	l.sealAt(t, noon)
	l.add("a", timed(noon))
	l.add("a", timed(noon.Add(-sixWeeks)))
	l.add("a", timed(noon.Add(time.Second)))
	l.sealAt(t, noon.Add(5*time.Second))
	return l
}

// TestLateness: whatever is sealed long after its own time is listed, and nothing
// else is; none of it is damage.
func TestLateness(t *testing.T) {
	journal := func(from, to time.Time) *Event {
		return &Event{Time: noon.Add(4 * time.Hour), Kind: KindAdmin, Action: "journal_replayed", Attributes: []Attribute{
			{"writer", "a"}, {"from", from.Format(time.RFC3339Nano)}, {"to", to.Format(time.RFC3339Nano)}}}
	}
	outage := func(l *sealedLog) {
		l.sealAt(t, noon)
		for n := range 60 {
			l.add("a", timed(noon.Add(time.Duration(n)*time.Minute)))
		}
	}
	for _, c := range []struct {
		name                    string
		log                     func(l *sealedLog)
		count, explained, ahead int64
		lines                   []string
	}{
		{name: "sealed at once", log: func(l *sealedLog) { l.sealAt(t, noon.Add(5*time.Second)) }},
		{name: "a checkpoint each hour, as thinning leaves them", log: func(l *sealedLog) {
			for n := range 240 {
				l.add("a", timed(noon.Add(time.Duration(n)*time.Minute)))
				if n%60 == 59 {
					l.sealAt(t, noon.Add(time.Duration(n+1)*time.Minute))
				}
			}
		}},
		{name: "six weeks", log: func(l *sealedLog) { *l = *backdated(t) }, count: 1, lines: []string{
			"event 4 of writer a, dated 2026-10-10T12:00:00Z, first sealed by the checkpoint of size 5, signed 2026-11-21T12:00:05Z: late by 42 d"}},
		{name: "a writer whose clock is 26 hours behind", log: func(l *sealedLog) {
			for range 3 {
				l.add("b", timed(noon.Add(-26*time.Hour)))
			}
			l.sealAt(t, noon)
		}, count: 3, lines: []string{
			"3 events from 1 to 3 of writer b, dated 2026-11-20T10:00:00Z, first sealed by the checkpoint of size 5, signed 2026-11-21T12:00:00Z: late by 1 d 2 h"}},
		{name: "one that is not sealed yet", log: func(l *sealedLog) {
			l.sealAt(t, noon)
			l.unsealed = append(l.unsealed, l.entry("b", timed(noon.Add(-26*time.Hour))), l.entry("b", timed(noon)))
		}, count: 1, lines: []string{
			"event 1 of writer b, dated 2026-11-20T10:00:00Z, not sealed by the checkpoint signed 2026-11-21T12:00:00Z: late by 1 d 2 h"}},
		{name: "an outage without a journal", log: func(l *sealedLog) {
			outage(l)
			l.sealAt(t, noon.Add(5*time.Hour))
		}, count: 60, lines: []string{
			"60 events from 3 to 62 of writer a, dated 2026-11-21T12:00:00Z to 2026-11-21T12:59:00Z, first sealed by the checkpoint of size 62, signed 2026-11-21T17:00:00Z: late by 5 h"}},
		{name: "an outage whose journal is on record", log: func(l *sealedLog) {
			outage(l)
			l.sealAt(t, noon.Add(5*time.Hour))
			l.add("b", journal(noon, noon.Add(time.Hour)))
			l.sealAt(t, noon.Add(5*time.Hour))
		}, count: 60, explained: 60, lines: []string{"late by 5 h; leaf 62 reports that a journal was replayed"}},
		{name: "a journal of another time explains nothing", log: func(l *sealedLog) {
			outage(l)
			l.add("b", journal(noon.Add(time.Minute), noon.Add(time.Hour)))
			l.sealAt(t, noon.Add(5*time.Hour))
		}, count: 60, lines: []string{"late by 5 h"}},
		{name: "dated after the checkpoint", log: func(l *sealedLog) {
			l.add("a", timed(noon.Add(7*24*time.Hour)))
			l.sealAt(t, noon)
		}, ahead: 1, lines: []string{"dated 2026-11-28T12:00:00Z, first sealed by the checkpoint of size 3, signed 2026-11-21T12:00:00Z: ahead by 7 d"}},
		{name: "clocks that differ a little", log: func(l *sealedLog) {
			l.add("a", timed(noon.Add(4*time.Minute)))
			l.sealAt(t, noon)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t)
			c.log(l)
			r := l.verify(t, Trust{})
			if !r.Sound() {
				t.Errorf("the log is accused: %v", r.Findings)
			}
			if got := r.Lateness; got.Count != c.count || got.Explained != c.explained || got.Ahead != c.ahead {
				t.Errorf("%+v", got)
			}
			var lines []string
			for _, e := range append(r.Lateness.Events, r.Lateness.AheadOf...) {
				lines = append(lines, e.String())
			}
			if len(lines) != len(c.lines) {
				t.Fatalf("%q", lines)
			}
			for i := range lines {
				if !strings.HasSuffix(lines[i], c.lines[i]) {
					t.Errorf("%q, want %q", lines[i], c.lines[i])
				}
			}
		})
	}
}

// TestLatenessIsNeeded: a backdated event has a leaf, a record and columns that agree,
// and a signed checkpoint: without the measure it is not listed.
func TestLatenessIsNeeded(t *testing.T) {
	l := backdated(t)
	without := l.verify(t, Trust{MaxLateness: 100 * 365 * 24 * time.Hour})
	if !without.Sound() || without.Lateness.Count != 0 {
		t.Errorf("something else finds it: %+v", without)
	}
	if with := l.verify(t, Trust{}); with.Lateness.Count != 1 || with.Lateness.Max < sixWeeks {
		t.Errorf("%+v", with.Lateness)
	}
}

// TestLatenessOfExport: an export gives the same as the database.
func TestLatenessOfExport(t *testing.T) {
	l := backdated(t)
	var export bytes.Buffer
	x := NewExporter(&export)
	next := 0
	for i := range l.entries {
		x.Sealed(&l.entries[i])
		for next < len(l.checkpoints) && l.checkpoints[next].Size <= int64(i+1) {
			x.Checkpoint(l.checkpoints[next])
			next++
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := NewVerification(Trust{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ReadExport(&export, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := v.Report().Lateness, l.verify(t, Trust{}).Lateness; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestLatenessTrackerIsBounded: the memory of the tracker follows minutes, and the
// list has an end while the count has none.
func TestLatenessTrackerIsBounded(t *testing.T) {
	l := NewLatenessTracker(0)
	for n := range int64(100_000) {
		l.Add(n, "w", n+1, noon.Add(time.Duration(n)*time.Millisecond), true)
	}
	if len(l.pending) > 2 {
		t.Errorf("%d minutes are kept", len(l.pending))
	}
	l.Checkpoint(100_000, noon.Add(3*time.Hour))
	const more = maxLateEvents + 10
	for n := range int64(more) {
		l.Add(100_000+n, "w", 100_001+n, noon.Add(-time.Duration(n)*time.Minute), true)
		l.Checkpoint(100_001+n, noon.Add(3*time.Hour))
	}
	if r := l.Report(); r.Count != 100_000+more || len(r.Events) != maxLateEvents || r.Events[0].Decisions != 100_000 {
		t.Errorf("%d, of these %d listed", r.Count, len(r.Events))
	}
}

package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// sealAt seals with a checkpoint of that time.
func (l *sealedLog) sealAt(t testing.TB, at time.Time) {
	t.Helper()
	c := Checkpoint{Size: l.tree.Size(), Root: l.tree.Root(), Time: at}
	signed, err := l.signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	l.checkpoints = append(l.checkpoints, Statement{Note: signed, Size: c.Size, Root: c.Root[:], Frontier: l.tree.Frontier(), Time: at})
}

// take is what the database's function does, for leaves of anybody's choice.
func (l *sealedLog) take(gone []int64, leaves ...string) {
	attributes := []Attribute{{"month", "2025-10"}, {"events", fmt.Sprint(len(gone))}, {"login", "ops"}, {"digest", "sha256:0"}}
	for i, text := range leaves {
		name := "leaves"
		if i > 0 {
			name = fmt.Sprintf("leaves_%d", i+1)
		}
		attributes = append(attributes, Attribute{name, text})
	}
	r := Retention{}
	for piece := range strings.SplitSeq(strings.Join(leaves, ","), ",") {
		if s, err := parseSpan(piece); err == nil {
			r.leaves = append(r.leaves, s)
		}
	}
	var x expiry
	for i := range l.entries {
		if e := &l.entries[i]; e.Record != nil && Stays(kindOf(e.Record), e.Writer) {
			x.there(e.Index)
		}
	}
	attributes = append(attributes, Attribute{"stayed", fmt.Sprint(x.left(&r))})
	l.add(DatabaseWriter, &Event{Kind: KindRetention, Attributes: attributes})
	l.remove(gone...)
}

func (l *sealedLog) hold(first, last string) {
	l.add(DatabaseWriter, &Event{Kind: KindHoldSet, Attributes: []Attribute{{"first_day", first}, {"last_day", last}, {"reason", "case 17"}}})
}

func (l *sealedLog) remove(gone ...int64) {
	for _, at := range gone {
		l.entries[at].Record, l.entries[at].Columns = nil, nil
	}
}

// yearOld is a log of 20 leaves that were sealed a year before noon and some
// days, of 20 more sealed a month before noon, and of nothing since.
func yearOld(t testing.TB) *sealedLog {
	l := newLog(t)
	for n := range 38 {
		if n == 18 {
			l.sealAt(t, noon.AddDate(-1, 0, -5))
		}
		l.add([]string{"a", "b"}[n%2], decided(n))
	}
	l.sealAt(t, noon.AddDate(0, -1, 0))
	return l
}

func numbered(first, last int64) []int64 {
	var all []int64
	for at := first; at <= last; at++ {
		all = append(all, at)
	}
	return all
}

func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name    string
		do      func(l *sealedLog)
		sealed  time.Time // when what was done was sealed
		expired int64
		want    map[Damage]int64
		first   int64
	}{
		{name: "the events of a month are taken", do: func(l *sealedLog) { l.take(numbered(5, 15), "2-15") }, expired: 11},
		{name: "in pieces", do: func(l *sealedLog) { l.take([]int64{2, 3, 4, 7, 9, 10, 19}, "2-4,7", "9-10,19") }, expired: 7},
		{name: "twice", do: func(l *sealedLog) { l.take(numbered(5, 15), "2-15"); l.take([]int64{16, 18}, "16-19") }, expired: 13},
		{name: "the same again, since some came late", do: func(l *sealedLog) { l.take(numbered(5, 8), "3-15"); l.take([]int64{9, 11}, "9,11-15") }, expired: 6},
		{name: "once the hold is lifted", do: func(l *sealedLog) {
			l.hold("2025-09-30", "2025-11-02")
			l.add(DatabaseWriter, &Event{Kind: KindHoldLifted, Attributes: []Attribute{{"hold", "1"}}})
			l.hold("2025-11-01", "2025-12-31")
			l.take(numbered(5, 15), "2-15")
		}, expired: 11},
		{name: "although a hold keeps the month", do: func(l *sealedLog) {
			l.hold("2025-09-30", "2025-10-02")
			l.take(numbered(5, 15), "2-15")
		}, want: map[Damage]int64{DamageMissing: 11, DamageRetention: 1}, first: 5},
		{name: "nobody says so", do: func(l *sealedLog) { l.remove(numbered(5, 15)...) }, want: map[Damage]int64{DamageMissing: 11}, first: 5},
		{name: "more is missing than is said", do: func(l *sealedLog) { l.take(numbered(5, 18), "7-15") }, expired: 9, want: map[Damage]int64{DamageMissing: 5}, first: 5},
		{name: "young events", do: func(l *sealedLog) { l.take(numbered(22, 30), "22-30") },
			want: map[Damage]int64{DamageMissing: 9, DamageRetention: 1}, first: 22},
		{name: "young events among old ones", do: func(l *sealedLog) { l.take(numbered(15, 21), "2-21") },
			want: map[Damage]int64{DamageMissing: 7, DamageRetention: 1}, first: 15},
		{name: "one day too early", do: func(l *sealedLog) { l.take(numbered(5, 15), "2-15") }, sealed: noon.AddDate(0, 0, -6),
			want: map[Damage]int64{DamageMissing: 11, DamageRetention: 1}, first: 5},
		{name: "everything, itself included", do: func(l *sealedLog) { l.take(numbered(5, 15), "0-1000") },
			want: map[Damage]int64{DamageMissing: 11, DamageRetention: 1}, first: 5},
		{name: "in the name of another writer", do: func(l *sealedLog) {
			l.take(nil, "3")
			l.entries, l.sequences = l.entries[:len(l.entries)-1], map[string]int64{"a": 20, "b": 19}
			l.tree = Tree{}
			for _, e := range l.entries {
				l.tree.Append(e.Hash)
			}
			l.add("b", &Event{Kind: KindRetention, Attributes: []Attribute{{"month", "2025-10"}, {"events", "11"}, {"leaves", "2-15"}}})
			l.remove(numbered(5, 15)...)
		}, want: map[Damage]int64{DamageMissing: 11}, first: 5},
		{name: "ranges that are none", do: func(l *sealedLog) { l.take(numbered(5, 15), "2-15,15-14") },
			want: map[Damage]int64{DamageMissing: 11, DamageRetention: 1}, first: 5},
		{name: "ranges out of order", do: func(l *sealedLog) { l.take(numbered(5, 15), "9-15,2-8") },
			want: map[Damage]int64{DamageMissing: 11, DamageRetention: 1}, first: 5},
		{name: "an event that was changed since", do: func(l *sealedLog) {
			l.take(numbered(5, 15), "2-12")
			e := &l.entries[len(l.entries)-1]
			e.Record = bytes.Replace(e.Record, []byte(`"2-12"`), []byte(`"2-15"`), 1)
		}, want: map[Damage]int64{DamageMissing: 11, DamageRecord: 1}, first: 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := yearOld(t)
			c.do(l)
			if c.sealed.IsZero() {
				c.sealed = noon
			}
			l.sealAt(t, c.sealed)
			trust := Trust{Keys: []Key{l.signer.Key()}, Notes: [][]byte{l.checkpoints[len(l.checkpoints)-1].Note}}
			r := l.verify(t, trust)
			delete(r.Counts, DamageColumn) // of a record that was changed
			check := func(source string, r *Report) {
				t.Helper()
				if r.Expired != c.expired || fmt.Sprint(r.Counts) != fmt.Sprint(mapOrEmpty(c.want)) {
					t.Errorf("%s: %d expired and %v, want %d and %v: %v", source, r.Expired, r.Counts, c.expired, c.want, r.Findings)
				}
				if len(c.want) > 0 && (len(r.Findings) == 0 || r.Findings[0].First != c.first) {
					t.Errorf("%s: the first place is %v, want leaf %d", source, r.Findings, c.first)
				}
			}
			check("memory", r)
			check("export", verifyExport(t, l.export(t), trust))
		})
	}
}

func mapOrEmpty(m map[Damage]int64) map[Damage]int64 {
	if m == nil {
		return map[Damage]int64{}
	}
	return m
}

// What is not sealed accounts for nothing yet, and a checkpoint without a time
// makes nothing old.
func TestRetentionNeedsSignedTimes(t *testing.T) {
	l := yearOld(t)
	l.take(numbered(5, 15), "2-15")
	l.unsealed = append(l.unsealed, l.entries[len(l.entries)-1])
	l.entries = l.entries[:len(l.entries)-1]
	if r := l.verify(t, Trust{}); r.Expired != 0 || r.Counts[DamageMissing] != 11 {
		t.Errorf("not sealed: %+v", r)
	}
	l = newLog(t)
	l.sealAt(t, time.Time{})
	l.add("a", decided(1))
	l.sealAt(t, time.Time{})
	l.take([]int64{2}, "2")
	l.sealAt(t, noon)
	if r := l.verify(t, Trust{}); r.Expired != 0 || r.Counts[DamageMissing] != 1 {
		t.Errorf("without times: %+v", r)
	}
	// A signer's clock that went ahead for a while makes what it signed young.
	l = newLog(t)
	l.sealAt(t, noon.AddDate(-1, -1, 0))
	l.add("a", decided(1))
	l.sealAt(t, noon)
	l.add("a", decided(2))
	l.sealAt(t, noon.AddDate(-1, -1, 0))
	l.take([]int64{3}, "3")
	l.sealAt(t, noon)
	if r := l.verify(t, Trust{}); r.Expired != 0 || r.Counts[DamageMissing] != 1 {
		t.Errorf("a clock that went back: %+v", r)
	}
}

// TestHoles: what is missing is found and counted exactly, however it lies
// between the removed events.
func TestHoles(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		l := yearOld(t)
		named, removed := make(map[int64]bool), []int64{}
		var pieces []string
		for at := int64(2); at < 19; at++ {
			if random.IntN(3) == 0 {
				last := min(at+random.Int64N(5), 19)
				pieces = append(pieces, fmt.Sprintf("%d-%d", at, last))
				for ; at <= last; at++ {
					named[at] = true
				}
			}
		}
		var wantExpired, wantMissing, first int64
		first = -1
		for at := int64(2); at < 20; at++ {
			if random.IntN(2) == 0 {
				continue
			}
			removed = append(removed, at)
			if named[at] {
				wantExpired++
			} else {
				wantMissing++
				if first < 0 {
					first = at
				}
			}
		}
		if len(pieces) == 0 {
			continue
		}
		l.take(removed, strings.Join(pieces, ","))
		l.sealAt(t, noon)
		r := l.verify(t, Trust{})
		if r.Expired != wantExpired || r.Counts[DamageMissing] != wantMissing || wantMissing > 0 && r.Findings[0].First != first {
			t.Fatalf("%v named and %v removed: %d expired, %v", pieces, removed, r.Expired, r.Findings)
		}
	}
}

// TestRetentionLeavesItsOwn: what retention leaves of a month is proven to be
// there, although its event names the leaves of the whole month.
func TestRetentionLeavesItsOwn(t *testing.T) {
	const own = 20  // the leaf of an operator's operation, between events that are removed
	var taken Entry // one of these
	for _, c := range []struct {
		name string
		do   func(l *sealedLog)
		want map[Damage]int64
	}{
		{"as retention leaves it", func(*sealedLog) {}, nil},
		{"the operator's deed is deleted", func(l *sealedLog) { l.remove(own) }, map[Damage]int64{DamageMissing: 1}},
		{"it is deleted, and the month taken once more", func(l *sealedLog) {
			l.remove(own)
			l.take(nil, "18-24")
		}, map[Damage]int64{DamageMissing: 1}},
		{"it is deleted, and one that was taken is put back", func(l *sealedLog) { l.remove(own); l.entries[19] = taken },
			map[Damage]int64{DamageMissing: 1}},
		{"an event of the database's is deleted", func(l *sealedLog) { l.remove(22) }, map[Damage]int64{DamageMissing: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t)
			for n := range 18 {
				l.add("a", decided(n))
			}
			l.add("a", &Event{Kind: KindAdmin, Action: "emergency_stop"})
			l.add("a", decided(19))
			l.add(DatabaseWriter, &Event{Kind: KindExport})
			l.add("a", decided(20))
			l.add("a", decided(21))
			l.sealAt(t, noon.AddDate(-1, 0, -5))
			taken = l.entries[19]
			l.take([]int64{18, 19, 21, 23, 24}, "18-24")
			c.do(l)
			l.sealAt(t, noon)
			trust := Trust{Keys: []Key{l.signer.Key()}, Notes: [][]byte{l.checkpoints[len(l.checkpoints)-1].Note}}
			for source, r := range map[string]*Report{"memory": l.verify(t, trust), "export": verifyExport(t, l.export(t), trust)} {
				if fmt.Sprint(r.Counts) != fmt.Sprint(mapOrEmpty(c.want)) {
					t.Errorf("%s: %v: %v", source, r.Counts, r.Findings)
				}
			}
		})
	}
}

// TestMonthsOfExpiredEvents: what retention took in months of steady traffic, with
// a checkpoint every five seconds, is remembered in a few words for each hour,
// and none of it counts as damage.
func TestMonthsOfExpiredEvents(t *testing.T) {
	var x expiry
	begin := noon.AddDate(-1, -5, 0)
	at, index := begin, int64(0)
	for ; at.Before(noon.AddDate(-1, -1, 0)); at = at.Add(5 * time.Second) {
		for range 2 {
			if !x.missing(&Entry{Index: index, Writer: "a", Sequence: index + 1}) {
				t.Fatalf("leaf %d, of %s, counts as damage", index, at)
			}
			index++
		}
		x.checkpoint(Checkpoint{Size: index, Time: at})
	}
	if hours := int(at.Sub(begin).Hours()) + 2; len(x.missingRanges) > hours || len(x.hours) > hours {
		t.Errorf("%d runs and %d hours are remembered", len(x.missingRanges), len(x.hours))
	}
	x.retentions = []Retention{{leaves: []span{{0, index - 1}}, Index: index}}
	x.checkpoint(Checkpoint{Size: index + 1, Time: noon})
	if missing, invalid := x.settle(); len(missing) > 0 || len(invalid) > 0 || x.retentions[0].Found != index {
		t.Errorf("%d missing, %v, %d accounted for", len(missing), invalid, x.retentions[0].Found)
	}
}

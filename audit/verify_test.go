package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// sealedLog is a log in memory, as a source would hand it over.
type sealedLog struct {
	signer      *Signer
	tree        Tree
	entries     []Entry
	checkpoints []Statement
	unsealed    []Entry
	sequences   map[string]int64
}

func newSigner(t testing.TB, origin string) *Signer {
	t.Helper()
	private, err := GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func newLog(t testing.TB) *sealedLog {
	l := &sealedLog{signer: newSigner(t, ""), sequences: make(map[string]int64)}
	l.add("a", &Event{Kind: KindWriterStarted})
	l.add("a", Register(l.signer, noon))
	return l
}

// add seals an event.
func (l *sealedLog) add(writer string, e *Event) {
	entry := l.entry(writer, e)
	entry.Index = l.tree.Size()
	entry.Hash = Leaf(entry.Record)
	l.tree.Append(entry.Hash)
	l.entries = append(l.entries, entry)
}

func (l *sealedLog) entry(writer string, e *Event) Entry {
	l.sequences[writer]++
	e.Writer, e.WriterSequence = writer, l.sequences[writer]
	if e.Time.IsZero() {
		e.Time = noon
	}
	e.Normalise()
	record := e.AppendRecord(nil)
	bare := *e
	bare.Attributes, bare.Input = nil, nil
	columns := append([]byte{'{'}, bytes.TrimPrefix(bare.AppendRecord(nil), []byte(recordHead))...)
	return Entry{Writer: writer, Sequence: e.WriterSequence, Record: record, Columns: columns}
}

func (l *sealedLog) seal(t testing.TB) {
	t.Helper()
	c := Checkpoint{Size: l.tree.Size(), Root: l.tree.Root(), Time: noon}
	signed, err := l.signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	l.checkpoints = append(l.checkpoints, Statement{Note: signed, Size: c.Size, Root: c.Root[:], Frontier: l.tree.Frontier(), Time: noon})
}

func (l *sealedLog) verify(t testing.TB, trust Trust) *Report {
	t.Helper()
	v, err := NewVerification(trust)
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for _, e := range l.entries {
		v.Sealed(&e)
		for next < len(l.checkpoints) && l.checkpoints[next].Size <= v.Size() {
			v.Checkpoint(l.checkpoints[next])
			next++
		}
	}
	for ; next < len(l.checkpoints); next++ {
		v.Checkpoint(l.checkpoints[next])
	}
	for _, e := range l.unsealed {
		v.Unsealed(&e)
	}
	return v.Report()
}

func decided(n int) *Event {
	return &Event{Kind: KindDecision, DecisionID: uuid, Host: fmt.Sprintf("api-%d.partner.example", n), Port: 443, Verdict: "deny", Status: 403,
		Attributes: []Attribute{{"n", fmt.Sprint(n)}}, Input: []byte(`{"x":1}`)}
}

// sample is a log of two writers, sealed in pieces.
func sample(t testing.TB) *sealedLog {
	l := newLog(t)
	l.add("b", &Event{Kind: KindWriterStarted})
	for n := range 100 {
		l.add([]string{"a", "b"}[n%2], decided(n))
		if n%7 == 0 {
			l.seal(t)
		}
	}
	l.add("b", &Event{Kind: KindWriterEnded})
	l.seal(t)
	l.unsealed = append(l.unsealed, l.entry("a", decided(100)), l.entry("a", decided(101)))
	return l
}

func TestVerifySound(t *testing.T) {
	l := sample(t)
	for name, trust := range map[string]Trust{
		"alone":    {},
		"anchored": {Keys: []Key{l.signer.Key()}, Notes: [][]byte{l.checkpoints[3].Note, l.checkpoints[len(l.checkpoints)-1].Note}},
	} {
		r := l.verify(t, trust)
		if !r.Sound() || r.Leaves != 104 || r.Unsealed != 2 || r.Writers != 2 || r.Unended != 1 || r.Covered.Size != 104 {
			t.Errorf("%s: %+v", name, r)
		}
		if anchored := len(trust.Notes) > 0; (r.Anchored.Size == 104) != anchored || r.Vouched != anchored {
			t.Errorf("%s: anchored %d, vouched %t", name, r.Anchored.Size, r.Vouched)
		}
	}
}

// TestVerifyFinds damages a log in every way, and expects the findings.
func TestVerifyFinds(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, l *sealedLog)
		want   string // the first finding
	}{
		{"record", func(_ *testing.T, l *sealedLog) {
			l.entries[50].Record = bytes.Replace(l.entries[50].Record, []byte("deny"), []byte("allow"), 1)
		}, "record_changed at leaf 50 "},
		{"record and leaf", func(_ *testing.T, l *sealedLog) {
			e := &l.entries[50]
			e.Record = bytes.Replace(e.Record, []byte("deny"), []byte("allow"), 1)
			e.Columns = bytes.Replace(e.Columns, []byte("deny"), []byte("allow"), 1)
			e.Hash = Leaf(e.Record)
		}, "tree_changed at leaves 46 to 52"},
		{"leaf", func(_ *testing.T, l *sealedLog) { l.entries[50].Hash[0]++ }, "tree_changed at leaves 46 to 52"},
		{"column", func(_ *testing.T, l *sealedLog) {
			l.entries[50].Columns = bytes.Replace(l.entries[50].Columns, []byte(`"deny"`), []byte(`"allow"`), 1)
		}, `column_changed at leaf 50 (event 25 of writer b): column verdict is "allow", and the record has "deny"`},
		{"column taken away", func(_ *testing.T, l *sealedLog) {
			l.entries[50].Columns = bytes.Replace(l.entries[50].Columns, []byte(`,"status":403`), nil, 1)
		}, "column_changed at leaf 50 (event 25 of writer b): column status is null, and the record has 403"},
		{"column put in", func(_ *testing.T, l *sealedLog) {
			l.entries[50].Columns = bytes.Replace(l.entries[50].Columns, []byte(`}`), []byte(`,"close_reason":"finished"}`), 1)
		}, `column_changed at leaf 50 (event 25 of writer b): column close_reason is "finished", and the record has null`},
		{"event taken away", func(_ *testing.T, l *sealedLog) { l.entries[50].Record, l.entries[50].Columns = nil, nil }, "event_missing at leaf 50 "},
		{"month taken away", func(_ *testing.T, l *sealedLog) {
			for i := 20; i < 60; i++ {
				l.entries[i].Record, l.entries[i].Columns = nil, nil
			}
		}, "event_missing at leaves 20 to 59 "},
		{"leaf taken away", func(_ *testing.T, l *sealedLog) { l.entries = slices.Delete(l.entries, 50, 51) }, "leaf_missing at leaf 50"},
		{"event and leaf taken away, the rest renumbered", func(_ *testing.T, l *sealedLog) {
			l.entries = slices.Delete(l.entries, 50, 51)
			for i := range l.entries {
				l.entries[i].Index = int64(i)
			}
		}, "tree_changed at leaves 46 to 52"},
		{"event put in", func(_ *testing.T, l *sealedLog) { l.entries[50].Copies = 1 }, "event_inserted at leaf 50 "},
		{"swapped", func(_ *testing.T, l *sealedLog) {
			a, b := &l.entries[50], &l.entries[60]
			a.Record, b.Record, a.Columns, b.Columns = b.Record, a.Record, b.Columns, a.Columns
		}, "record_changed at leaf 50 "},
		{"swapped with their leaves", func(_ *testing.T, l *sealedLog) {
			l.entries[50], l.entries[60] = l.entries[60], l.entries[50]
			l.entries[50].Index, l.entries[60].Index = 50, 60
		}, "tree_changed at leaves 46 to 52"},
		{"tail cut off", func(_ *testing.T, l *sealedLog) {
			l.checkpoints = l.checkpoints[:5]
			l.entries = l.entries[:l.checkpoints[4].Size]
			l.unsealed = nil
		}, "log_truncated at leaves 32 to 103: "},
		{"leaves at the end cut off", func(_ *testing.T, l *sealedLog) { l.entries = l.entries[:100] }, "leaf_missing at leaves 100 to 101: a checkpoint"},
		{"checkpoints at the end cut off", func(_ *testing.T, l *sealedLog) { l.checkpoints = l.checkpoints[:5] }, "leaf_missing at leaves 32 to 103: no checkpoint"},
		{"checkpoint", func(_ *testing.T, l *sealedLog) { l.checkpoints[5].Size++ }, "checkpoint_changed at leaf 39: the column size"},
		{"checkpoint's note", func(_ *testing.T, l *sealedLog) {
			l.checkpoints[5].Note = bytes.Replace(l.checkpoints[5].Note, []byte("\ntime 2026"), []byte("\ntime 2025"), 1)
			l.checkpoints[5].Time = time.Time{}
		}, "checkpoint_changed at leaf 38: it is not signed by"},
		{"checkpoint's frontier", func(_ *testing.T, l *sealedLog) { l.checkpoints[5].Frontier[3]++ }, "checkpoint_changed at leaf 38: the column frontier"},
		{"signed by another", func(t *testing.T, l *sealedLog) {
			l.signer = newSigner(t, l.signer.Key().Origin())
			l.unsealed, l.sequences["a"] = nil, 52
			l.add("a", decided(1))
			l.seal(t)
		}, "checkpoint_changed at leaf 104: it is not signed by"},
		{"signed by one that named itself", func(t *testing.T, l *sealedLog) {
			l.unsealed, l.sequences["a"] = nil, 52
			l.signer = newSigner(t, l.signer.Key().Origin())
			l.add("a", Register(l.signer, noon))
			l.seal(t)
		}, "key_unknown at leaf 104: "},
		{"unsealed: before the end", func(_ *testing.T, l *sealedLog) { l.unsealed[0].Sequence = 7 }, "event_inserted (event 7 of writer a)"},
		{"unsealed: behind the end", func(_ *testing.T, l *sealedLog) { l.unsealed = append(l.unsealed, l.entry("b", decided(1))) }, "event_inserted (event 53 of writer b): the event follows the end"},
		{"unsealed: a gap", func(_ *testing.T, l *sealedLog) { l.unsealed = l.unsealed[1:] }, "event_missing (event 54 of writer a): the next number of the writer is 53;"},
		{"unsealed: twice", func(_ *testing.T, l *sealedLog) { l.unsealed = append(l.unsealed, l.unsealed[1]) }, "event_inserted (event 54 of writer a): another row"},
		{"another log", func(t *testing.T, l *sealedLog) { *l = *sample(t) }, "tree_changed at leaves 102 to 103: the checkpoint from outside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := sample(t)
			trust := Trust{Keys: []Key{l.signer.Key()}, Notes: [][]byte{l.checkpoints[len(l.checkpoints)-1].Note}}
			c.damage(t, l)
			r := l.verify(t, trust)
			if r.Sound() || len(r.Findings) == 0 || !strings.HasPrefix(r.Findings[0].String(), c.want) {
				t.Errorf("want %q, found %v", c.want, r.Findings)
			}
		})
	}
}

// TestOwnCheckpointsAreNoProof: who can sign and change the database makes a log
// that is sound in itself. Only a checkpoint from outside shows it.
func TestOwnCheckpointsAreNoProof(t *testing.T) {
	l := sample(t)
	outside := l.checkpoints[len(l.checkpoints)-1].Note
	forged := newLog(t)
	forged.signer = l.signer
	forged.entries, forged.tree = nil, Tree{}
	forged.sequences = make(map[string]int64)
	forged.add("a", Register(l.signer, noon))
	for n := range 103 {
		forged.add("a", decided(n+1))
	}
	forged.seal(t)
	if r := forged.verify(t, Trust{Keys: []Key{l.signer.Key()}}); !r.Sound() || r.Anchored.Size != 0 {
		t.Errorf("%+v", r)
	}
	if r := forged.verify(t, Trust{Notes: [][]byte{outside}}); r.Sound() || r.Counts[DamageTree] == 0 {
		t.Errorf("%+v", r)
	}
}

func TestKeysFollowOneAnother(t *testing.T) {
	l := newLog(t)
	first := l.signer
	l.seal(t)
	second := newSigner(t, first.Key().Origin())
	e, err := first.HandOver(second, noon)
	if err != nil {
		t.Fatal(err)
	}
	l.add("a", e)
	l.seal(t) // by the first key: the one that covers the handing over
	l.signer = second
	l.add("a", decided(1))
	l.seal(t)
	last := l.checkpoints[2].Note
	for _, trust := range []Trust{{}, {Keys: []Key{first.Key()}}, {Keys: []Key{second.Key()}, Notes: [][]byte{last}}} {
		if r := l.verify(t, trust); !r.Sound() || !slices.Equal(r.Keys, []Key{first.Key(), second.Key()}) {
			t.Errorf("%+v", r)
		}
	}

	// The old key signs on, or the new one before its turn.
	for _, swap := range []struct {
		signer *Signer
		at     int
	}{{first, 2}, {second, 1}} {
		bad := *l
		bad.checkpoints = slices.Clone(l.checkpoints)
		c, _ := ReadCheckpoint(bad.checkpoints[swap.at].Note)
		bad.checkpoints[swap.at].Note, _ = swap.signer.Sign(c)
		if r := bad.verify(t, Trust{}); r.Counts[DamageCheckpoint] == 0 {
			t.Errorf("checkpoint %d by the wrong key: %+v", swap.at, r)
		}
	}

	// A key that is lost is replaced by one that is trusted, or not at all.
	lost := newLog(t)
	lost.seal(t)
	lost.signer = newSigner(t, lost.signer.Key().Origin())
	lost.add("a", Register(lost.signer, noon))
	lost.seal(t)
	if r := lost.verify(t, Trust{}); r.Counts[DamageKey] == 0 {
		t.Errorf("%+v", r)
	}
	if r := lost.verify(t, Trust{Keys: []Key{lost.signer.Key()}}); !r.Sound() {
		t.Errorf("%+v", r)
	}
}

func TestHandOver(t *testing.T) {
	a := newSigner(t, "log.example/a")
	b := newSigner(t, "log.example/a")
	e, err := a.HandOver(b, noon)
	if err != nil {
		t.Fatal(err)
	}
	e.Normalise()
	r, ok := RegistrationOf(e.AppendRecord(nil))
	if !ok || r.Key != b.Key() || !r.HandedOver(a.Key()) || r.HandedOver(b.Key()) {
		t.Fatalf("%+v", r)
	}
	c := newSigner(t, "log.example/a")
	forged := r
	forged.Key = c.Key()
	if forged.HandedOver(a.Key()) {
		t.Error("a signature for one key hands over to another")
	}
	if forged.Previous = c.Key(); forged.HandedOver(a.Key()) {
		t.Error("a key hands over in the name of another")
	}
	for _, bad := range []*Signer{a, newSigner(t, "log.example/b")} {
		if _, err := a.HandOver(bad, noon); err == nil {
			t.Errorf("handed over to %s", bad)
		}
	}
}

func TestSignerIsNeverPrinted(t *testing.T) {
	private, err := GenerateKey("log.example/a")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigner(private + "\n")
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.SplitN(private, "+", 5)[4]
	asJSON, _ := s.MarshalJSON()
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s %x %d", s, s, s, s, s, s), string(asJSON), s.String()} {
		if strings.Contains(printed, secret) || strings.Contains(printed, "PRIVATE") || !strings.Contains(printed, string(s.Key())) {
			t.Errorf("printed as %s", printed)
		}
	}
	if _, err := ParseSigner(private[:len(private)-3]); err == nil || strings.Contains(err.Error(), secret[:20]) {
		t.Errorf("%v", err)
	}
}

func TestProofs(t *testing.T) {
	var leaves []Hash
	var roots []Hash
	var tree Tree
	roots = append(roots, tree.Root())
	for n := range 70 {
		leaf := Hash(Leaf([]byte{byte(n)}))
		leaves = append(leaves, leaf)
		tree.Append(leaf)
		roots = append(roots, tree.Root())
		again, err := RestoreTree(tree.Size(), tree.Frontier())
		if err != nil || again.Root() != tree.Root() {
			t.Fatalf("restored at %d: %v", tree.Size(), err)
		}
	}
	subtree := Subtree(func(level int, index int64) (Hash, error) {
		var part Tree
		for _, leaf := range leaves[index<<level : (index+1)<<level] {
			part.Append(leaf)
		}
		return part.Root(), nil
	})
	for _, size := range []int64{1, 2, 3, 7, 8, 64, 69, 70} {
		for index := range size {
			proof, err := ProveInclusion(size, index, subtree)
			if err != nil || CheckInclusion(proof, size, roots[size], index, leaves[index]) != nil {
				t.Fatalf("leaf %d of %d: %v", index, size, err)
			}
			if CheckInclusion(proof, size, roots[size], index, Hash{1}) == nil {
				t.Fatalf("another leaf %d of %d", index, size)
			}
			old := index + 1
			proof, err = ProveConsistency(size, old, subtree)
			if err != nil || CheckConsistency(proof, size, roots[size], old, roots[old]) != nil {
				t.Fatalf("%d goes on from %d: %v", size, old, err)
			}
			if CheckConsistency(proof, size, roots[size], old, Hash{1}) == nil {
				t.Fatalf("%d goes on from something else than %d", size, old)
			}
		}
	}
	if _, err := RestoreTree(3, make([]byte, 32)); err == nil {
		t.Error("an frontier of the wrong size")
	}
}

func TestSplitCheckpoints(t *testing.T) {
	s := newSigner(t, "log.example/a")
	var file []byte
	for n := range 4 {
		signed, err := s.Sign(Checkpoint{Size: int64(n + 1), Root: Hash{byte(n)}, Time: noon})
		if err != nil {
			t.Fatal(err)
		}
		if n == 2 { // cut off by a crash, and gone on behind it
			signed = append(signed[:rand.IntN(len(signed)-1)], '\n')
		}
		file = append(append(file, signed...), '\n')
	}
	notes := SplitCheckpoints(file)
	if len(notes) != 3 {
		t.Fatalf("%d checkpoints in\n%s", len(notes), file)
	}
	for i, size := range []int64{1, 2, 4} {
		if c, key, err := OpenCheckpoint(notes[i], s.Key()); err != nil || c.Size != size || key != s.Key() || !c.Time.Equal(noon) {
			t.Errorf("%d: %+v %v", i, c, err)
		}
	}
	if c, err := ReadCheckpoint(LatestCheckpoint(notes)); err != nil || c.Size != 4 {
		t.Errorf("%+v %v", c, err)
	}
	if got := SplitCheckpoints(file[:len(file)-2]); len(got) != 2 {
		t.Errorf("with the end cut off: %d", len(got))
	}
}

// Nothing but what was signed opens.
func FuzzCheckpoint(f *testing.F) {
	s := newSigner(f, "log.example/a")
	signed, _ := s.Sign(Checkpoint{Size: 7, Root: Hash{1}, Time: noon})
	f.Add(signed)
	f.Add([]byte("log.example/a\n7\n" + Hash{}.String() + "\n\n— log.example/a AAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, one := range SplitCheckpoints(b) {
			c, err := ReadCheckpoint(one)
			if err != nil || c.Size < 0 || c.Origin == "" || !bytes.HasPrefix(one, []byte(fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root))) {
				t.Fatalf("%q was read as %+v, %v", one, c, err)
			}
			if c, _, err := OpenCheckpoint(one, s.Key()); err == nil && (c.Size != 7 || !bytes.HasPrefix(signed, []byte(c.text()))) {
				t.Fatalf("forged: %q", one)
			}
		}
	})
}

// What is read from a record in haste is what a JSON parser reads.
func FuzzFields(f *testing.F) {
	f.Add("w", "decision", "a.example", int64(7), int64(1790000000))
	f.Add(`w"\,"writer":"x`, "k\",\"x", "\x00", int64(-1), int64(0))
	f.Fuzz(func(t *testing.T, writer, kind, host string, sequence, seconds int64) {
		e := &Event{Time: time.Unix(seconds, 0), Kind: Kind(kind), Writer: writer, WriterSequence: sequence, Host: host, Verdict: "deny"}
		e.Normalise()
		record := e.AppendRecord(nil)
		if got := kindOf(record); got != e.Kind && len(e.Kind) < 60 && !strings.ContainsAny(string(e.Kind), `"\`) {
			t.Errorf("kind %q of %s", got, record)
		}
		if got := timeOf(record); !got.Equal(e.Time.Truncate(time.Second)) {
			t.Errorf("time %s of %s", got, record)
		}
		if e.Writer != "" && !strings.ContainsAny(string(e.Kind)+e.Writer, `"\`) {
			if w, n, ok := numberOf(record); !ok || w != e.Writer || n != e.WriterSequence {
				t.Errorf("%q %d of %s", w, n, record)
			}
		}
		columns := append([]byte{'{'}, bytes.TrimPrefix(record, []byte(recordHead))...)
		if d := compareColumns(record, columns); d != "" {
			t.Errorf("%s: %s", record, d)
		}
		if d := decodeAndCompare(record, columns); d != "" {
			t.Errorf("%s: %s", record, d)
		}
	})
}

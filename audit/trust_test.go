package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// recordBytes is the bytes of an event, as a log has them.
func recordBytes(t testing.TB, e *Event) []byte {
	t.Helper()
	e.Normalise()
	return e.AppendRecord(nil)
}

// handedOverByForce is the event of a hand-over to another party's key: as an
// attacker writes it who has a public key alone.
func handedOverByForce(t testing.TB, s *Signer, victim Key, possession string) *Event {
	t.Helper()
	r := Registration{Key: victim, Previous: s.key, Possession: possession}
	var err error
	if r.Signature, err = s.signature(r.handover()); err != nil {
		t.Fatal(err)
	}
	return r.event(noon)
}

// forgedLog is the log of an attacker: their own key, the name of the real log, a
// hand-over to its public key, and one more checkpoint of their own.
func forgedLog(t testing.TB, victim *Signer, handover func(attacker *Signer) *Event) *sealedLog {
	l := newLog(t)
	l.signer = newSigner(t, victim.Key().Origin())
	l.entries, l.tree, l.sequences = nil, Tree{}, map[string]int64{}
	l.add("a", &Event{Kind: KindWriterStarted})
	l.add("a", Register(l.signer, noon))
	l.add("a", decided(1))
	l.seal(t)
	l.add("a", handover(l.signer))
	l.seal(t)
	return l
}

// TestNamedKeyVouchesForNothing: a key that a log names and that signed nothing is
// not trusted, whatever the log has of it (cases row 29).
func TestNamedKeyVouchesForNothing(t *testing.T) {
	victim := newSigner(t, "log.example/a")
	real := newLog(t)
	real.signer = victim
	real.entries, real.tree, real.sequences = nil, Tree{}, map[string]int64{}
	real.add("a", Register(victim, noon))
	real.add("a", decided(7))
	real.seal(t)
	for name, handover := range map[string]func(*Signer) *Event{
		"the public key alone": func(a *Signer) *Event { return handedOverByForce(t, a, victim.Key(), "") },
		"a possession copied from the real log": func(a *Signer) *Event {
			r, _ := RegistrationOf(recordBytes(t, Register(victim, noon)))
			return handedOverByForce(t, a, victim.Key(), r.Possession)
		},
		"countersigned": func(a *Signer) *Event { // as if the holder had been tricked
			e, err := a.HandOver(victim, noon)
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		"the registration of the real log": func(*Signer) *Event { return Register(victim, noon) },
	} {
		t.Run(name, func(t *testing.T) {
			l := forgedLog(t, victim, handover)
			if r := l.verify(t, Trust{}); !r.Sound() {
				t.Fatalf("the forged log is not sound in itself, so that the test shows nothing: %v", r.Findings)
			}
			r := l.verify(t, Trust{Keys: []Key{victim.Key()}})
			if r.Sound() || r.Vouched || r.Counts[DamageUnvouched] != 1 {
				t.Errorf("the real key vouches for a log that it never signed: %+v", r)
			}
			if text := fmt.Sprint(r.Findings); !strings.Contains(text, string(l.signer.Key())) || !strings.Contains(text, "given "+string(victim.Key())) {
				t.Errorf("it does not say who signed, and what was given: %s", text)
			}
			// The real log's checkpoints contradict it where the tree has their size.
			if r := l.verify(t, Trust{Keys: []Key{victim.Key()}, Notes: [][]byte{real.checkpoints[0].Note}}); r.Counts[DamageTree] == 0 || r.Anchored.Size != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestTrustRunsForwardsOnlyIsNeeded: with the rule that a key vouches for the log
// that names it, the attacker's log passes.
func TestTrustRunsForwardsOnlyIsNeeded(t *testing.T) {
	victim := newSigner(t, "log.example/a")
	l := forgedLog(t, victim, func(a *Signer) *Event {
		e, err := a.HandOver(victim, noon)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
	v, err := NewVerification(Trust{Keys: []Key{victim.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.entries {
		v.Sealed(&l.entries[i])
		for _, c := range l.checkpoints {
			if c.Size == v.Size() {
				v.Checkpoint(c)
			}
		}
	}
	// The control taken away: what is named counts as what signed.
	for i := range v.keys.uses {
		if v.keys.uses[i].Trusted && v.keys.uses[i].First == 0 {
			v.keys.uses[i].First = v.Size()
		}
	}
	if r := v.Report(); !r.Sound() || !r.Vouched {
		t.Errorf("the attack fails without the control as well: %v", r.Findings)
	}
}

// TestPossessionIsNeeded: without the signature of the key that is named, a log can
// record a hand-over to anybody's public key.
func TestPossessionIsNeeded(t *testing.T) {
	a, victim := newSigner(t, "log.example/a"), newSigner(t, "log.example/a")
	forged := recordBytes(t, handedOverByForce(t, a, victim.Key(), ""))
	if _, ok := RegistrationOf(forged); ok {
		t.Error("a hand-over without the signature of the next key is taken")
	}
	// What reads the same event without asking for it takes it.
	var fields struct{ Attributes map[string]string }
	if err := json.Unmarshal(forged, &fields); err != nil {
		t.Fatal(err)
	}
	r := Registration{Key: Key(fields.Attributes[attributeKey]), Previous: Key(fields.Attributes[attributePrevious]), Signature: fields.Attributes[attributeSignature]}
	if !r.HandedOver(a.Key()) {
		t.Error("the attack fails without the control as well")
	}
	genuine, err := a.HandOver(victim, noon)
	if err != nil {
		t.Fatal(err)
	}
	other, ok := RegistrationOf(recordBytes(t, genuine))
	if !ok {
		t.Fatal("a countersigned hand-over is not taken")
	}
	thief := newSigner(t, "log.example/a")
	if _, ok := RegistrationOf(recordBytes(t, handedOverByForce(t, thief, victim.Key(), other.Possession))); ok {
		t.Error("the countersignature of one hand-over is good for another")
	}
}

// TestKeyUses: each key vouches from its first checkpoint on, and trust passes to
// the keys after it, not to those before.
func TestKeyUses(t *testing.T) {
	l := newLog(t)
	first := l.signer
	l.seal(t) // size 2
	second := newSigner(t, first.Key().Origin())
	e, err := first.HandOver(second, noon)
	if err != nil {
		t.Fatal(err)
	}
	l.add("a", e)
	l.seal(t) // size 3, by the first
	handedOver := *l
	l.signer = second
	l.add("a", decided(1))
	l.seal(t) // size 4, by the second
	for _, c := range []struct {
		given Key
		want  []KeyUse
	}{
		{first.Key(), []KeyUse{{first.Key(), 2, 2, 3, true}, {second.Key(), 1, 4, 4, true}}},
		{second.Key(), []KeyUse{{first.Key(), 2, 2, 3, false}, {second.Key(), 1, 4, 4, true}}},
		{"", []KeyUse{{first.Key(), 2, 2, 3, false}, {second.Key(), 1, 4, 4, false}}},
	} {
		var trust Trust
		if c.given != "" {
			trust.Keys = []Key{c.given}
		}
		if r := l.verify(t, trust); !r.Sound() || !slices.Equal(r.Uses, c.want) || r.Vouched != (c.given != "") {
			t.Errorf("with %q: %+v", c.given, r)
		}
	}
	// Handed over to, and nothing signed yet.
	handedOver.checkpoints = handedOver.checkpoints[:2]
	r := handedOver.verify(t, Trust{Keys: []Key{second.Key()}})
	if r.Counts[DamageUnvouched] != 1 || !strings.Contains(fmt.Sprint(r.Findings), "which proves nothing until that key signs") {
		t.Errorf("%+v", r)
	}
	// A trusted key whose only checkpoint does not hold vouches for nothing.
	broken := *l
	broken.entries = slices.Clone(l.entries)
	broken.entries[3].Hash[0]++
	if r := broken.verify(t, Trust{Keys: []Key{second.Key()}}); r.Vouched || r.Counts[DamageTree] == 0 || r.Counts[DamageUnvouched] != 1 {
		t.Errorf("%+v", r)
	}
}

// TestStrayLinesAccuseNobody: text in a file of checkpoints that is not a checkpoint,
// or that no known key signed, is a warning that names its line.
func TestStrayLinesAccuseNobody(t *testing.T) {
	l := sample(t)
	stranger := newSigner(t, l.signer.Key().Origin())
	forged, err := stranger.Sign(Checkpoint{Size: l.checkpoints[2].Size, Root: Hash{1}, Time: noon})
	if err != nil {
		t.Fatal(err)
	}
	beyond, err := stranger.Sign(Checkpoint{Size: 5000, Root: Hash{1}, Time: noon})
	if err != nil {
		t.Fatal(err)
	}
	unsigned := bytes.SplitAfter(l.checkpoints[5].Note, []byte("\n\n"))[0]
	unsigned = bytes.Replace(unsigned, []byte("\n39\n"), []byte("\n40\n"), 1)
	file := bytes.Join([][]byte{[]byte("# kept by the auditor"), l.checkpoints[0].Note, unsigned, forged, beyond, []byte("\x00\xff"), l.checkpoints[9].Note}, []byte("\n"))
	var trust Trust
	warnings, err := trust.AddCheckpoints("kept.txt", file)
	if err != nil || len(trust.Notes) != 4 || len(warnings) != 3 || !strings.HasPrefix(warnings[0], "kept.txt:1: ") {
		t.Fatalf("%d notes, %q, %v", len(trust.Notes), warnings, err)
	}
	r := l.verify(t, trust)
	if !r.Sound() || r.Anchored.Size != l.checkpoints[9].Size || len(r.Warnings) != 2 {
		t.Errorf("%+v", r)
	}
	for i, line := range bytes.Split(file, []byte("\n")) {
		if strings.HasPrefix(string(line), "# kept") && i != 0 {
			t.Fatal("the test's file is another one")
		}
	}
	for _, w := range r.Warnings {
		if !strings.HasPrefix(w, "kept.txt:") || !strings.Contains(w, "is signed by no key") {
			t.Error(w)
		}
	}
	// The same checkpoint by the log's own key is a finding.
	contradiction, err := l.signer.Sign(Checkpoint{Size: l.checkpoints[2].Size, Root: Hash{1}, Time: noon})
	if err != nil {
		t.Fatal(err)
	}
	if r := l.verify(t, Trust{Notes: [][]byte{contradiction}}); r.Counts[DamageTree] == 0 {
		t.Errorf("%+v", r)
	}
	if _, err := new(Trust).AddCheckpoints("empty", []byte("nothing here\n")); err == nil {
		t.Error("a file without a checkpoint is taken")
	}
}

// TestAnchorsOfOneSize: checkpoints from outside of one size are each compared.
func TestAnchorsOfOneSize(t *testing.T) {
	l := sample(t)
	c, err := ReadCheckpoint(l.checkpoints[4].Note)
	if err != nil {
		t.Fatal(err)
	}
	later := c
	later.Time = noon.Add(1)
	again, err := l.signer.Sign(later)
	if err != nil {
		t.Fatal(err)
	}
	other := c
	other.Root[0]++
	differs, err := l.signer.Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	same := [][]byte{l.checkpoints[4].Note, again, l.checkpoints[4].Note}
	if r := l.verify(t, Trust{Notes: same}); !r.Sound() || r.Anchored.Size != c.Size {
		t.Errorf("%+v", r)
	}
	for at := range len(same) + 1 {
		if r := l.verify(t, Trust{Notes: slices.Insert(slices.Clone(same), at, differs)}); r.Counts[DamageTree] == 0 {
			t.Errorf("the other one at %d is not compared: %+v", at, r)
		}
	}
}

package evidence

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

func newKey(t testing.TB) *audit.Signer {
	t.Helper()
	private, err := audit.GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// attackersLog is a log of the real one's name that an attacker wrote with a key of
// their own. It hands over to the real key, which signed nothing of it.
func attackersLog(t testing.TB, attacker *audit.Signer) *memory {
	t.Helper()
	m := newMemory(t)
	m.signer = attacker
	handover, err := attacker.HandOver(signer(t), at(20, 0)) // countersigned, as if its holder had been tricked
	if err != nil {
		t.Fatal(err)
	}
	m.add("w", audit.Register(attacker, at(1, 0)), decisionEvent(1, at(3, 0), "deny", "no_rule_matched", "x.example"))
	m.seal(at(4, 0))
	m.add("w", handover, decisionEvent(2, at(20, 0), "deny", "no_rule_matched", "x.example"))
	m.seal(at(25, 0))
	return m
}

// TestAttackersPack: the real key vouches for no pack of a log that only names it,
// whatever checkpoints of the real log are given beside it (cases row 29).
func TestAttackersPack(t *testing.T) {
	attacker, reviewer, real := newKey(t), newKey(t), signer(t)
	m := attackersLog(t, attacker)
	ofAttacker := build(t, m, func(o *Options) { o.Signer, o.Trust = attacker, audit.Trust{} })
	ofReviewer := build(t, m, func(o *Options) { o.Signer, o.Trust = reviewer, audit.Trust{} })
	var published [][]byte
	for _, n := range october(t).notes {
		published = append(published, n.Note)
	}
	for name, c := range map[string]struct {
		dir   string
		trust audit.Trust
	}{
		"the real key":                               {ofAttacker, audit.Trust{Keys: []audit.Key{real.Key()}}},
		"the real key and its checkpoints":           {ofAttacker, audit.Trust{Keys: []audit.Key{real.Key()}, Notes: published}},
		"an honest maker of the pack":                {ofReviewer, audit.Trust{Keys: []audit.Key{real.Key(), reviewer.Key()}}},
		"an honest maker, and the log's checkpoints": {ofReviewer, audit.Trust{Keys: []audit.Key{real.Key(), reviewer.Key()}, Notes: published}},
	} {
		got := check(t, c.dir, func(o *CheckOptions) { o.Trust = c.trust })
		if len(got.Findings) == 0 || got.Established(CheckOptions{Trust: c.trust}) || got.CheckpointBy != "" || got.Anchored {
			t.Errorf("%s: the attacker's pack passes: %+v", name, got)
		}
	}
	// Without the real key nothing is wrong with it, and nothing vouches for it.
	for name, c := range map[string]struct {
		dir   string
		trust audit.Trust
	}{
		"nothing":                       {ofAttacker, audit.Trust{}},
		"the real log's checkpoints":    {ofAttacker, audit.Trust{Notes: published}},
		"the maker of the pack":         {ofReviewer, audit.Trust{Keys: []audit.Key{reviewer.Key()}}},
		"the maker and the checkpoints": {ofReviewer, audit.Trust{Keys: []audit.Key{reviewer.Key()}, Notes: published}},
	} {
		o := CheckOptions{Trust: c.trust}
		got := check(t, c.dir, func(o *CheckOptions) { o.Trust = c.trust })
		if len(got.Findings) > 0 || got.Established(o) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestForwardsOnlyIsNeeded: with a rule that binds keys in both directions, the
// attacker's key counts with the real one.
func TestForwardsOnlyIsNeeded(t *testing.T) {
	attacker, real := newKey(t), signer(t)
	m := attackersLog(t, attacker)
	var named []audit.Registration
	for _, e := range m.entries {
		if r, ok := audit.RegistrationOf(e.Record); ok {
			named = append(named, r)
		}
	}
	last := m.notes[len(m.notes)-1].Note
	if _, _, err := audit.OpenCheckpoint(last, forwards([]audit.Key{real.Key()}, named)...); err == nil {
		t.Error("the attacker's checkpoint counts as the real key's")
	}
	both := []audit.Key{real.Key()}
	for _, r := range named {
		if slices.Contains(both, r.Key) && r.HandedOver(r.Previous) {
			both = append(both, r.Previous)
		}
	}
	if _, _, err := audit.OpenCheckpoint(last, both...); err != nil {
		t.Error("the attack fails without the control as well")
	}
}

// TestEstablished: what has to be given for a pack to be vouched for.
func TestEstablished(t *testing.T) {
	reviewer := newKey(t)
	m := october(t)
	dir := build(t, m, func(o *Options) { o.Signer = reviewer })
	own := build(t, m, nil)
	pack := m.notes[2].Note
	other := m.notes[0].Note
	log, review := signer(t).Key(), reviewer.Key()
	for name, c := range map[string]struct {
		dir   string
		trust audit.Trust
		want  bool
	}{
		"the log's key, which signed the pack":      {own, audit.Trust{Keys: []audit.Key{log}}, true},
		"both keys":                                 {dir, audit.Trust{Keys: []audit.Key{log, review}}, true},
		"the maker's key and the pack's checkpoint": {dir, audit.Trust{Keys: []audit.Key{review}, Notes: [][]byte{pack}}, true},
		"the maker's key alone":                     {dir, audit.Trust{Keys: []audit.Key{review}}, false},
		"the pack's checkpoint alone":               {dir, audit.Trust{Notes: [][]byte{pack}}, false}, // anybody can have made the rest
		"nothing":                                   {own, audit.Trust{}, false},
	} {
		o := CheckOptions{Trust: c.trust}
		got := check(t, c.dir, func(o *CheckOptions) { o.Trust = c.trust })
		if len(got.Findings) > 0 || got.Established(o) != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// A line of an unknown key is not evidence of damage.
	forged, err := newKey(t).Sign(audit.Checkpoint{Size: m.notes[2].Size, Root: audit.Hash{1}, Time: at(25, 0)})
	if err != nil {
		t.Fatal(err)
	}
	trust := audit.Trust{Keys: []audit.Key{log}, Notes: [][]byte{forged, pack}, Sources: []string{"kept.txt:1", "kept.txt:7"}}
	got := check(t, own, func(o *CheckOptions) { o.Trust = trust })
	if len(got.Findings) > 0 || !got.Anchored || len(got.Warnings) != 1 || !strings.HasPrefix(got.Warnings[0], "kept.txt:1: ") {
		t.Errorf("%+v", got)
	}
	_ = other
	// A larger one that a stranger signed changes nothing of a pack that is made.
	beyond, err := newKey(t).Sign(audit.Checkpoint{Size: m.notes[3].Size, Root: audit.Hash{1}, Time: at(27, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, notes := range [][][]byte{{beyond}, {beyond, m.notes[4].Note}} {
		_, built := mustBuild(t, m, func(o *Options) { o.Trust.Notes = notes })
		if !built.Facts.Result.Sound || (built.Facts.Result.Anchored != nil) != (len(notes) > 1) {
			t.Errorf("%d notes: %+v", len(notes), built.Facts.Result)
		}
	}
}

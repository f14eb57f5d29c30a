package evidence

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// consistencyOf is the proof between two of a log's checkpoints.
func consistencyOf(t testing.TB, m *memory, from, to int64) *audit.Consistency {
	t.Helper()
	p, err := m.Consistency(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOtherCheckpoints: a checkpoint from outside that has another size than the
// pack's is confirmed by a proof, in the pack or given beside it, and by nothing else.
func TestOtherCheckpoints(t *testing.T) {
	m := october(t)
	own, later := m.notes[2], m.notes[3]
	reviewer := newKey(t)
	key := audit.Trust{Keys: []audit.Key{reviewer.Key(), signer(t).Key()}}
	with := func(notes ...[]byte) audit.Trust { return audit.Trust{Keys: key.Keys, Notes: notes} }
	maker := func(o *Options) { o.Signer = reviewer }
	plain := build(t, m, maker)
	both := build(t, m, func(o *Options) { maker(o); o.Trust = with(m.notes[0].Note, later.Note) })
	forged := func(size int64) []byte { // by the log's own key
		signed, err := m.signer.Sign(audit.Checkpoint{Size: size, Root: audit.Hash{1}, Time: at(24, 0)})
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	stranger := october(t)
	stranger.entries, stranger.notes, stranger.tree, stranger.numbers = nil, nil, audit.Tree{}, map[string]int64{}
	for n := range int(later.Size) {
		stranger.add("w", decisionEvent(n, at(3, 0), "deny", "no_rule_matched", "x.example"))
	}
	stranger.seal(at(25, 0))
	for name, c := range map[string]struct {
		dir    string
		notes  []byte
		proofs []*audit.Consistency
		want   bool
		size   int64
	}{
		"older":                          {plain, m.notes[0].Note, nil, true, m.notes[0].Size},
		"older, of another day":          {plain, m.notes[1].Note, nil, true, m.notes[1].Size},
		"larger":                         {plain, later.Note, nil, false, 0},
		"larger, with a proof":           {plain, later.Note, []*audit.Consistency{consistencyOf(t, m, own.Size, later.Size)}, true, later.Size},
		"larger, the pack has a proof":   {both, later.Note, nil, true, later.Size},
		"larger, a proof of another log": {plain, later.Note, []*audit.Consistency{consistencyOf(t, stranger, own.Size, later.Size)}, false, 0},
		"larger, with another root":      {both, forged(later.Size), nil, false, 0},
		"of a size without a proof":      {plain, forged(m.notes[1].Size + 1), nil, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := CheckOptions{Trust: with(c.notes), Proofs: c.proofs}
			got := check(t, c.dir, func(d *CheckOptions) { d.Trust, d.Proofs = o.Trust, o.Proofs })
			if len(got.Findings) > 0 || got.Anchored != c.want || got.Established(o) != c.want || got.AnchoredSize != c.size {
				t.Errorf("%+v", got)
			}
			if !c.want && !strings.Contains(strings.Join(got.Notes, "\n"), "UNCONFIRMED") {
				t.Errorf("it does not say so: %q", got.Notes)
			}
		})
	}
	// An older one with another root contradicts the pack, and a proof does not hide it.
	got := check(t, plain, func(o *CheckOptions) { o.Trust = with(forged(m.notes[1].Size)) })
	if len(got.Findings) == 0 || !strings.Contains(got.Findings[0], "another root than the pack's tree") {
		t.Errorf("%+v", got)
	}
	// What was sealed later changes nothing.
	first := tree(t, both)
	m.grow(700, at(29, 0))
	same(t, tree(t, build(t, m, func(o *Options) { maker(o); o.Trust = with(m.notes[0].Note, later.Note) })), first)
}

// TestProofsGivenBeside: a proof that does not hold, or is not about the pack, is a
// warning, and confirms nothing.
func TestProofsGivenBeside(t *testing.T) {
	m := october(t)
	dir := build(t, m, nil)
	broken := consistencyOf(t, m, m.notes[2].Size, m.notes[3].Size)
	broken.Hashes[0][0]++
	elsewhere := consistencyOf(t, m, m.notes[0].Size, m.notes[1].Size)
	trust := audit.Trust{Keys: []audit.Key{signer(t).Key()}, Notes: [][]byte{m.notes[3].Note}}
	got := check(t, dir, func(o *CheckOptions) { o.Trust, o.Proofs = trust, []*audit.Consistency{broken, elsewhere} })
	if len(got.Findings) > 0 || got.Anchored || len(got.Warnings) != 2 {
		t.Errorf("%+v", got)
	}
}

// TestSignedAfterIsNeeded: an older checkpoint does not cover what an attacker added
// behind it and signed with a key of their own.
func TestSignedAfterIsNeeded(t *testing.T) {
	m := october(t)
	old := m.notes[1]
	attacker := newKey(t)
	m.signer = attacker
	m.add("w", audit.Register(attacker, at(26, 1)), decisionEvent(900, at(26, 1), "allow", "policy_allowed", "evil.example"))
	m.seal(at(28, 0))
	last := m.notes[len(m.notes)-1]
	head, err := audit.ReadCheckpoint(last.Note)
	if err != nil {
		t.Fatal(err)
	}
	outside, by, err := audit.OpenCheckpoint(old.Note, signer(t).Key())
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{at: head, m: &pack.Manifest{Checkpoint: string(last.Note)}, result: &Checked{},
		proofs: map[int64]*audit.Consistency{old.Size: consistencyOf(t, m, old.Size, last.Size)}}
	for _, e := range m.entries {
		if r, ok := audit.RegistrationOf(e.Record); ok {
			c.named = append(c.named, r)
		}
	}
	if holds, err := c.confirms(outside, by); holds || err != nil {
		t.Errorf("an old checkpoint vouches for what the attacker signed: %v", err)
	}
	// The control taken away: the proof itself holds.
	c.result.CheckpointBy = attacker.Key()
	if holds, err := c.confirms(outside, by); !holds || err != nil {
		t.Errorf("the attack fails without the control as well: %v", err)
	}
}

// TestConsistencyProver: what is gathered in one pass are the proofs of every older
// size of trees of every shape.
func TestConsistencyProver(t *testing.T) {
	for size := int64(2); size <= 70; size++ {
		p := proverFor(t, size)
		for old := int64(1); old < size; old++ {
			if err := p.expect(old); err != nil {
				t.Fatal(err)
			}
		}
		var tree audit.Tree
		roots := []audit.Hash{tree.Root()}
		for n := range size {
			hash := audit.Hash(audit.Leaf([]byte{byte(n)}))
			tree.Append(hash)
			roots = append(roots, tree.Root())
			p.add(n, hash)
		}
		list := p.consistencies()
		if int64(len(list)) != size-1 {
			t.Fatalf("%d proofs in a tree of %d", len(list), size)
		}
		for i, c := range list {
			again, err := audit.ParseConsistency(bytes.TrimSuffix(c.AppendLine(nil), []byte("\n")))
			if err != nil || again.Check() != nil || c.From != (audit.TreeHead{Size: int64(i + 1), Root: roots[i+1]}) || c.To != (audit.TreeHead{Size: size, Root: tree.Root()}) {
				t.Errorf("from %d to %d: %v", i+1, size, err)
			}
		}
	}
}

// TestForgedConsistency: an owner of the database who restored an older backup, or wrote
// other events behind it, adds lines to the proofs of a pack, and has a manifest signed
// over them. Each line has to hold and to lead from the pack's checkpoint; what a reviewer
// holds from outside is confirmed by nothing else.
func TestForgedConsistency(t *testing.T) {
	t.Parallel()
	m := october(t)
	own, later := m.notes[2], m.notes[3]
	trust := audit.Trust{Keys: []audit.Key{signer(t).Key()}, Notes: [][]byte{later.Note}}
	plain := build(t, m, nil)
	lines := tree(t, plain)[pack.ConsistencyFile]
	line := func(p *audit.Consistency) string { return string(p.AppendLine(nil)) }
	head := func(note []byte) audit.TreeHead {
		c, err := audit.ReadCheckpoint(note)
		if err != nil {
			t.Fatal(err)
		}
		return audit.TreeHead{Size: c.Size, Root: c.Root}
	}
	// The fork: the backup with other events behind it, as long as the real log.
	fork := october(t)
	fork.entries = fork.entries[:own.Size]
	fork.tree = audit.Tree{}
	for _, e := range fork.entries {
		fork.tree.Append(e.Hash)
	}
	fork.waiting = nil
	for n := range int(later.Size - own.Size) {
		fork.add("w", decisionEvent(800+n, at(25, 1), "deny", "no_rule_matched", "x.example"))
	}
	fork.seal(at(27, 0))
	forkHead := head(fork.notes[len(fork.notes)-1].Note)
	if forkHead.Size != later.Size || forkHead == head(later.Note) {
		t.Fatalf("%+v", forkHead)
	}
	toFork := consistencyOf(t, fork, own.Size, later.Size)
	claimed := *toFork
	claimed.To = head(later.Note)
	swapped := audit.Consistency{From: claimed.To, To: claimed.From, Hashes: claimed.Hashes}
	earlier := tree(t, build(t, m, func(o *Options) { o.Size = m.notes[1].Size }))[pack.ConsistencyFile]
	foreign := tree(t, build(t, func() *memory { n := october(t); n.grow(5000, at(24, 22)); n.seal(at(24, 23)); return n }(), nil))[pack.ConsistencyFile]
	for name, c := range map[string]struct {
		text  string
		finds string // empty: nothing is wrong with the file, and it confirms nothing
	}{
		"the proof of a fork":                         {lines + line(toFork), ""},
		"the proof of a fork as one of the real log":  {lines + line(&claimed), "line"},
		"from the larger to the smaller":              {lines + line(&swapped), "line"},
		"a line twice":                                {lines + line(toFork) + line(toFork), "out of order"},
		"of another pair of trees":                    {lines + line(consistencyOf(t, m, m.notes[0].Size, later.Size)), "not about the pack's checkpoint"},
		"the file of an earlier pack":                 {earlier, "not about the pack's checkpoint"},
		"the file of a pack of another log":           {foreign, "not about the pack's checkpoint"},
		"no file":                                     {"", ""},
		"a field that the program does not know":      {lines + strings.Replace(line(toFork), `{"from"`, `{"x":1,"from"`, 1), "not a consistency proof"},
		"a proof behind the end of a line":            {lines + strings.TrimSuffix(line(toFork), "\n") + line(toFork), "not a consistency proof"},
		"the true proof, which confirms the real log": {lines + line(consistencyOf(t, m, own.Size, later.Size)), "-"},
	} {
		forged := filepath.Join(t.TempDir(), "forged")
		if err := os.CopyFS(forged, os.DirFS(plain)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(forged, pack.ConsistencyFile), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		resign(t, forged, tree(t, plain), pack.ConsistencyFile, c.text)
		got := check(t, forged, func(o *CheckOptions) { o.Trust = trust })
		found := strings.Join(got.Findings, "\n")
		switch {
		case c.finds == "-":
			if found != "" || !got.Anchored {
				t.Errorf("%s: %+v", name, got)
			}
		case got.Anchored || got.Established(CheckOptions{Trust: trust}) || (c.finds == "") != (found == "") || !strings.Contains(found, c.finds):
			t.Errorf("%s: anchored %t, %q", name, got.Anchored, got.Findings)
		}
	}
	// The control removed: without the check of its hashes, the claimed proof confirms
	// the real log's checkpoint for a pack that is not of it.
	o, by, err := audit.OpenCheckpoint(later.Note, trust.Keys...)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := audit.ReadCheckpoint(own.Note)
	if err != nil {
		t.Fatal(err)
	}
	unchecked := &checker{at: checkpoint, result: &Checked{}, proofs: map[int64]*audit.Consistency{later.Size: &claimed}}
	if holds, err := unchecked.confirms(o, by); !holds || err != nil || claimed.Check() == nil {
		t.Errorf("the attack fails without the control as well: %v", err)
	}
}

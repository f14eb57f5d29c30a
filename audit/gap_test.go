package audit

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestManyDeclarations: what a reader does for each leaf does not grow with the number
// of declared gaps, nor what it keeps with the number of reports of lost events.
func TestManyDeclarations(t *testing.T) {
	t.Parallel()
	const many = 20_000
	l := newLog(t)
	g := new(gaps)
	one, err := l.signer.DeclareGap("w", 2, 2, "lost", noon)
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(many) {
		d := one
		d.First, d.Last, d.Index = 3*n+2, 3*n+3, n // the signature is not verified again
		g.declared = append(g.declared, d)
		if g.valid == nil {
			g.valid = make(map[string][]int)
		}
		g.valid["w"] = append(g.valid["w"], int(n))
	}
	g.covered = many
	g.steps = 0
	for n := range int64(many) {
		if _, declared := g.names("w", 3*n+1); declared {
			t.Fatalf("number %d is declared missing", 3*n+1)
		}
		if !g.stepsOver("w", 3*n+2, 3*n+3) || g.stepsOver("w", 3*n+2, 3*n+4) {
			t.Fatalf("numbers %d and %d", 3*n+2, 3*n+3)
		}
	}
	if g.steps > 5*24*many {
		t.Errorf("%d steps for %d leaves behind as many declared gaps", g.steps, many)
	}
	for range maxLost + 5 {
		g.report(LostRange{Writer: "w", First: 1, Last: 1})
	}
	g.report(LostRange{Writer: "w", First: 1, Last: 1, Signed: true})
	if len(g.reported) != maxLost || len(g.lost) != 1 || g.moreLost != 5 {
		t.Errorf("%d and %d reports are kept and %d counted", len(g.lost), len(g.reported), g.moreLost)
	}
}

// TestDeclarationsOfOneGap: of two declarations of the same numbers one counts where the
// other is not signed by the key that seals, whichever comes first.
func TestDeclarationsOfOneGap(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	other := newSigner(t, l.signer.Key().Origin())
	for _, order := range [][]*Signer{{l.signer, other}, {other, l.signer}, {other, other}} {
		g := new(gaps)
		for i, s := range order {
			for _, first := range []int64{7, 3} {
				d, err := s.DeclareGap("w", first, first+1, "lost", noon)
				if err != nil {
					t.Fatal(err)
				}
				e := &Event{Time: noon, Kind: KindGapDeclared, Writer: DatabaseWriter, WriterSequence: int64(i + 1), Attributes: []Attribute{
					{"writer", d.Writer}, {"first", strconv.FormatInt(d.First, 10)}, {"last", strconv.FormatInt(d.Last, 10)}, {"reason", d.Reason},
					{"declared_at", d.DeclaredAt.Format(time.RFC3339)}, {"key", string(d.Key)}, {"signature", d.Signature}}}
				g.declare(recordBytes(t, e), int64(i), func(string) int64 { return 2 })
			}
		}
		if _, names := g.names("w", 4); !names || g.stepsOver("w", 3, 4) {
			t.Error("a declaration counts before a checkpoint covers it, or does not name its numbers")
		}
		note, err := l.signer.Sign(Checkpoint{Size: 9, Root: Hash{1}, Time: noon})
		if err != nil {
			t.Fatal(err)
		}
		g.checkpoint(note)
		want := slices.Contains(order, l.signer)
		if g.stepsOver("w", 3, 4) != want || g.stepsOver("w", 7, 8) != want {
			t.Errorf("signed by the log's key %t: %t %t", want, g.stepsOver("w", 3, 4), g.stepsOver("w", 7, 8))
		}
		if _, names := g.names("w", 8); names != want {
			t.Errorf("signed by the log's key %t: number 8 is declared %t", want, names)
		}
	}
}

package evidence

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// TestSampleInTheShell runs the command of docs/audit.md that draws the sample again.
func TestSampleInTheShell(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script string
	for block := range strings.SplitSeq(string(page), "```") {
		if after, ok := strings.CutPrefix(block, "sh\n"); ok && strings.Contains(after, "population.csv") {
			script = after
		}
	}
	script = strings.NewReplacer("october/", "", "7f3a", "s", "-n 25", "-n 5").Replace(script)
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
	cmd.Dir = filepath.Join("testdata", "pack")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(cmd.Dir, pack.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := pack.OpenManifest(text, []audit.Key{signer(t).Key()}, false)
	if err != nil {
		t.Fatal(err)
	}
	var drawn []string
	for line := range strings.Lines(string(out)) {
		_, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		drawn = append(drawn, id)
	}
	if !slices.Equal(drawn, m.Sample) || len(drawn) != 5 {
		t.Errorf("the shell drew %q, and the pack has %q", drawn, m.Sample)
	}
}

// TestSampleIsOfTheSet: the sample depends on which decisions there are, and not on
// their order; of two with one id the earlier leaf counts; what is not an id is not drawn.
func TestSampleIsOfTheSet(t *testing.T) {
	var pairs []pack.Pair
	for n := range 200 {
		pairs = append(pairs, pack.Pair{Leaf: int64(n), EndLeaf: -1, Record: []byte(fmt.Sprint(n))})
	}
	draw := func(order []int) []pack.Chosen {
		s := pack.Sample{Size: 7, Seed: "seed"}
		for _, n := range order {
			s.Offer(id(n), &pairs[n])
		}
		s.Offer("../../etc/passwd", &pairs[0])
		s.Offer(strings.ToUpper(id(10)), &pairs[0])
		return s.Chosen
	}
	order := make([]int, len(pairs))
	for i := range order {
		order[i] = i
	}
	want := draw(order)
	for range 20 {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		if got := draw(order); !slices.EqualFunc(got, want, func(a, b pack.Chosen) bool { return a.ID == b.ID && a.Rank() == b.Rank() }) {
			t.Fatalf("another order gives %v", got)
		}
	}
	s := pack.Sample{Size: 3, Seed: "seed"}
	for _, leaf := range []int64{9, 4, 6} {
		s.Offer(id(1), &pack.Pair{Leaf: leaf, EndLeaf: -1})
	}
	if len(s.Chosen) != 1 || s.Chosen[0].Pair.Leaf != 4 {
		t.Errorf("%+v", s.Chosen)
	}
}

// TestProver: what is gathered in one pass are the proofs of every leaf of trees of
// every shape.
func TestProver(t *testing.T) {
	for _, size := range append(upTo(70), 255, 256, 257, 511, 512, 700, 1025) {
		p := proverFor(t, size)
		var tree audit.Tree
		for n := range size {
			hash := audit.Hash(audit.Leaf([]byte(fmt.Sprint(n))))
			tree.Append(hash)
			p.add(n, hash)
		}
		if err := p.finish(); err != nil {
			t.Fatal(err)
		}
		for n := range size {
			if err := audit.CheckInclusion(p.proof(n), size, tree.Root(), n, audit.Leaf([]byte(fmt.Sprint(n)))); err != nil {
				t.Errorf("size %d: %v", size, err)
			}
		}
	}
	p := proverFor(t, 3)
	p.add(0, audit.Hash{1})
	p.add(2, audit.Hash{2})
	if p.proof(1) != nil {
		t.Error("a tree with a gap proves something")
	}
}

func upTo(n int64) (list []int64) {
	for i := range n {
		list = append(list, i+1)
	}
	return list
}

// proverFor makes a prover over a file of its own.
func proverFor(t testing.TB, size int64) *prover {
	t.Helper()
	scratch, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = scratch.Close() })
	return newProver(size, scratch)
}

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
	"github.com/sallyport/sallyport/policy"
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
	text, err := os.ReadFile(filepath.Join(cmd.Dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := openManifest(text, []audit.Key{signer(t).Key()}, false)
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
	var pairs []Pair
	for n := range 200 {
		pairs = append(pairs, Pair{Leaf: int64(n), EndLeaf: -1, Record: []byte(fmt.Sprint(n))})
	}
	draw := func(order []int) []chosen {
		s := sample{size: 7, seed: "seed"}
		for _, n := range order {
			s.offer(id(n), &pairs[n])
		}
		s.offer("../../etc/passwd", &pairs[0])
		s.offer(strings.ToUpper(id(10)), &pairs[0])
		return s.chosen
	}
	order := make([]int, len(pairs))
	for i := range order {
		order[i] = i
	}
	want := draw(order)
	for range 20 {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		if got := draw(order); !slices.EqualFunc(got, want, func(a, b chosen) bool { return a.id == b.id && a.rank == b.rank }) {
			t.Fatalf("another order gives %v", got)
		}
	}
	s := sample{size: 3, seed: "seed"}
	for _, leaf := range []int64{9, 4, 6} {
		s.offer(id(1), &Pair{Leaf: leaf, EndLeaf: -1})
	}
	if len(s.chosen) != 1 || s.chosen[0].pair.Leaf != 4 {
		t.Errorf("%+v", s.chosen)
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

// TestRuleText: a rule is quoted with the comments above it, from the files that
// count for the repository and no others.
func TestRuleText(t *testing.T) {
	m := october(t)
	for digest, content := range m.policies {
		s := snapshotOf(content, digest, "")
		got := rulesOf(s, &recordFields{Repository: "acme/payments", Rule: "partner"})
		if len(got) != 1 || got[0].File != "egress/partner.rego" || got[0].First != 5 || got[0].Last != 9 || !strings.HasPrefix(got[0].Text, "# The partner that settles") || !strings.HasSuffix(got[0].Text, "}") {
			t.Errorf("%+v", got)
		}
		if got := rulesOf(s, &recordFields{Rule: "part"}); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		if snapshotOf(append([]byte("x"), content...), digest, "") != nil || snapshotOf(nil, digest, "") != nil {
			t.Error("a policy that is not that of its digest is quoted")
		}
	}
}

// TestQuoteOfAnEarlierRevision: a rule of the repository is quoted from the revision
// that its rules were of, and one of the organization from the revision that decided.
func TestQuoteOfAnEarlierRevision(t *testing.T) {
	tree := func(org, own string) ([]byte, string) {
		s, err := policy.NewSnapshot([]policy.File{
			{Path: "egress/a.rego", Content: []byte("package sallyport.egress\n\n" + org)},
			{Path: "repositories/acme/payments/a.rego", Content: []byte("package x\n\n" + own)},
		}, "")
		if err != nil {
			t.Fatal(err)
		}
		return s.Content(), s.Digest
	}
	earlier, earlierDigest := tree("allow contains {\"rule\": \"org\"} if 1 == 1\n", "allow contains {\"rule\": \"own\"} if 2 == 2\n")
	now, digest := tree("allow contains {\"rule\": \"org\"} if 3 == 3\n", "allow contains {\"rule\": \"own\"} if 4 == 4\n")
	for rule, want := range map[string]string{"org": "3 == 3", "own": "2 == 2"} {
		rules, none := quote(&recordFields{Repository: "acme/payments", Rule: rule, Revision: digest, OwnRevision: earlierDigest}, now, earlier)
		if len(rules) != 1 || !strings.Contains(rules[0].Text, want) {
			t.Errorf("%s: quoted %+v, %s", rule, rules, none)
		}
	}
	if rules, none := quote(&recordFields{Repository: "acme/payments", Rule: "own", Revision: digest, OwnRevision: earlierDigest}, now, nil); len(rules) != 0 || none == "" {
		t.Errorf("without the earlier files: %+v", rules)
	}
}

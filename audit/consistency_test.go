package audit

import (
	"bytes"
	"testing"
)

// consistencyLine is a proof between two trees of leaves in memory.
func consistencyLine(t testing.TB, from, to int64) *Consistency {
	t.Helper()
	var leaves, roots []Hash
	var tree Tree
	for n := range to {
		leaves = append(leaves, Hash(Leaf([]byte{byte(n)})))
		tree.Append(leaves[n])
		roots = append(roots, tree.Root())
	}
	hashes, err := ProveConsistency(to, from, func(level int, index int64) (Hash, error) {
		var part Tree
		for _, leaf := range leaves[index<<level : (index+1)<<level] {
			part.Append(leaf)
		}
		return part.Root(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return &Consistency{TreeHead{from, roots[from-1]}, TreeHead{to, roots[to-1]}, hashes}
}

// TestConsistencyCheck: a proof holds between its own heads and no others.
func TestConsistencyCheck(t *testing.T) {
	good := consistencyLine(t, 5, 9)
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Consistency){
		"the root of the smaller":  func(c *Consistency) { c.From.Root[0]++ },
		"the root of the larger":   func(c *Consistency) { c.To.Root[0]++ },
		"the size of the smaller":  func(c *Consistency) { c.From.Size-- },
		"the size of the larger":   func(c *Consistency) { c.To.Size = 17 },
		"a hash":                   func(c *Consistency) { c.Hashes[1][0]++ },
		"a hash too few":           func(c *Consistency) { c.Hashes = c.Hashes[1:] },
		"a hash too many":          func(c *Consistency) { c.Hashes = append(c.Hashes, Hash{}) },
		"sizes the wrong way":      func(c *Consistency) { c.From, c.To = c.To, c.From },
		"no size":                  func(c *Consistency) { c.From = TreeHead{} },
		"a proof of a tree itself": func(c *Consistency) { c.To, c.Hashes = c.From, nil },
	} {
		c := *consistencyLine(t, 5, 9)
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s is another one, and it holds", name)
		}
	}
	text := append([]byte("\n"), good.AppendLine(nil)...)
	if list, err := ReadConsistencies(append(text, text...)); err != nil || len(list) != 2 || list[1].Check() != nil {
		t.Errorf("%v %v", list, err)
	}
	for _, bad := range []string{"", "{}x", `{"from":1}`, `{"leaf":1}`, "[]"} {
		if _, err := ReadConsistencies([]byte(bad)); err == nil {
			t.Errorf("%q is read as a proof", bad)
		}
	}
}

// What is read is written again as the same proof, and checking it ends.
func FuzzConsistency(f *testing.F) {
	f.Add(consistencyLine(f, 5, 9).AppendLine(nil))
	f.Add([]byte(`{"from":{"size":-1,"root":""},"to":{"size":9223372036854775807,"root":""},"hashes":[]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := ParseConsistency(line)
		if err != nil {
			return
		}
		_ = c.Check()
		again, err := ParseConsistency(bytes.TrimSuffix(c.AppendLine(nil), []byte("\n")))
		if err != nil || again.From != c.From || again.To != c.To || len(again.Hashes) != len(c.Hashes) {
			t.Errorf("%q became %+v, %v", line, again, err)
		}
	})
}

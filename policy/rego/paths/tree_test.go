package paths

import (
	"slices"
	"strings"
	"testing"
)

func of(list ...string) *Tree {
	t := new(Tree)
	for _, path := range list {
		t.Add(strings.FieldsFunc(path, func(r rune) bool { return r == '.' })...)
	}
	return t
}

func TestTree(t *testing.T) {
	for _, c := range []struct {
		tree *Tree
		want []string
	}{
		{of(), nil},
		{of("a.b", "a.c", "d"), []string{"a.b", "a.c", "d"}},
		{of("a.b", "a"), []string{"a"}},
		{of("a", "a.b"), []string{"a"}},
		{of("a.b", ""), []string{""}},
		{of("1.2.3.4.5.6.7.8.9.10"), []string{"1.2.3.4.5.6.7.8"}},
		{of("a." + strings.Repeat("x", maxName+1) + ".b"), []string{"a"}},
		{of(strings.Repeat("x", maxName+1)), []string{""}},
	} {
		if got := c.tree.Paths(); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	tree := of("a.b", "c")
	tree.Merge(of("a.d", "c.e"))
	tree.Merge(nil)
	if got := tree.Paths(); !slices.Equal(got, []string{"a.b", "a.d", "c"}) {
		t.Errorf("merged: %q", got)
	}
	for path, want := range map[string]bool{"a": true, "a.b": true, "a.b.x": true, "a.x": false, "c.x": true, "d": false, "": true} {
		if got := tree.Has(strings.FieldsFunc(path, func(r rune) bool { return r == '.' })...); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	var none *Tree
	if none.Below("a") != nil || none.Has("a") || of().Has() {
		t.Error("an empty tree has a path")
	}
}

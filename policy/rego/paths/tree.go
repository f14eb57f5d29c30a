// Package paths has sets of paths into the input of a policy.
package paths

import (
	"maps"
	"slices"
	"strings"
)

// Tree is a set of paths into an input. A path stands for the value at it, with everything
// below. The zero Tree is empty. A Tree that is complete is read-only and safe for
// concurrent use.
type Tree struct {
	all     bool
	members map[string]*Tree
}

// MaxDepth bounds the names of a path, and maxName the bytes of one. More are never needed:
// an input has fewer levels, and no name of a field is longer.
const (
	MaxDepth = 8
	maxName  = 256
)

// Add adds a path; an empty one is the whole input. Of a path over the bounds, it adds the
// beginning, with everything below.
func (t *Tree) Add(path ...string) {
	for _, name := range path[:min(len(path), MaxDepth)] {
		if t.all {
			return
		}
		if len(name) > maxName {
			break
		}
		next := t.members[name]
		if next == nil {
			next = &Tree{}
			if t.members == nil {
				t.members = map[string]*Tree{}
			}
			t.members[name] = next
		}
		t = next
	}
	t.all, t.members = true, nil
}

// Merge adds the paths of another tree.
func (t *Tree) Merge(other *Tree) {
	switch {
	case t.all || other == nil:
	case other.all:
		t.all, t.members = true, nil
	default:
		for name, below := range other.members {
			next := t.members[name]
			if next == nil {
				next = &Tree{}
				if t.members == nil {
					t.members = map[string]*Tree{}
				}
				t.members[name] = next
			}
			next.Merge(below)
		}
	}
}

// everything is the tree below a path that is read.
var everything = &Tree{all: true}

// Below returns the tree below a member of an object; nil if nothing of the member is in
// the tree. A nil Tree has nothing.
func (t *Tree) Below(name string) *Tree {
	switch {
	case t == nil:
		return nil
	case t.all:
		return everything
	}
	return t.members[name]
}

// Has reports whether the tree has a path, a part of it or all of it.
func (t *Tree) Has(path ...string) bool {
	for _, name := range path {
		t = t.Below(name)
	}
	return t != nil && (t.all || len(t.members) > 0)
}

// HasAll reports whether the tree has the whole input.
func (t *Tree) HasAll() bool { return t.all }

// Members lists the members that the tree has parts of, sorted; none if it has all.
func (t *Tree) Members() []string { return slices.Sorted(maps.Keys(t.members)) }

// Paths lists the paths, sorted, with points between the names; "" is the whole input.
func (t *Tree) Paths() []string {
	if t.all {
		return []string{""}
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(t.members)) {
		for _, below := range t.members[name].Paths() {
			list = append(list, strings.TrimSuffix(name+"."+below, "."))
		}
	}
	return list
}

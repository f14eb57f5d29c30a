package rego

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reuse takes over what the previous set knows of the units that are the same
// here and there, with the same library and the same documents where they read
// any.
func (l *loader) reuse(previous *Set) {
	if previous == nil || previous.loader.options.Names != l.options.Names || len(previous.loader.without) > 0 || len(l.without) > 0 {
		return
	}
	old := previous.loader
	if !sameSources(old.library, l.library) {
		return
	}
	same := map[string]bool{}
	unchanged := func(path string) bool {
		equal, known := same[path]
		if !known {
			equal = sameDocument(old.data, l.data, splitRead(path))
			same[path] = equal
		}
		return equal
	}
	everything := sync.OnceValue(func() bool { return old.data.Compare(l.data) == 0 })
	for _, u := range l.units() {
		before := previous.unit(u.repository)
		if before == nil || u.failure != nil || len(before.misplaced) > 0 || !sameSources(before.sources, u.sources) {
			continue
		}
		result := before.now()
		if result.failure != nil && (l.options.RetryRejected || l.options.OnFailure == RejectRevision) {
			continue
		}
		if !result.checked && result.failure == nil || result.all && !everything() || !result.all && !every(result.reads, unchanged) {
			continue
		}
		u.checkResult = result
		u.reused = true
	}
}

// splitRead splits the path of a document that a unit reads.
func splitRead(path string) []string { return strings.Split(path, "\x00") }

func every(list []string, f func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !f(s) })
}

// sameDocument compares what is at a path, or what stands in its way.
func sameDocument(a, b ast.Value, path []string) bool {
	for _, name := range path {
		left, ok := a.(ast.Object)
		right, too := b.(ast.Object)
		if !ok || !too {
			break
		}
		key := ast.StringTerm(name)
		l, r := left.Get(key), right.Get(key)
		if l == nil || r == nil {
			return l == r
		}
		a, b = l.Value, r.Value
	}
	return a.Compare(b) == 0
}

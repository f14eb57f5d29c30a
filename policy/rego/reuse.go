package rego

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reuse copies the results of the previous set for the units that are the same in both,
// with the same library and, where they read any, the same documents.
func (l *loader) reuse(previous *Set) {
	if previous == nil || previous.loader.options.Names != l.options.Names || len(previous.loader.without) > 0 || len(l.without) > 0 {
		return
	}
	old := previous.loader
	if !sameSources(old.library, l.library) {
		return
	}
	documents := &documentChanges{old: old.data, new: l.data, same: map[string]bool{}}
	documents.none = sync.OnceValue(func() bool { return old.data.Compare(l.data) == 0 })
	for _, u := range l.units() {
		before := previous.unit(u.repository)
		if before == nil || u.failure != nil || len(before.misplaced) > 0 || !sameSources(before.sources, u.sources) {
			continue
		}
		result := before.now()
		if l.reusable(result) && documents.unchangedFor(result) {
			u.checkResult = result
			u.reused = true
		}
	}
}

// reusable reports whether a result of an earlier revision holds for the same files.
func (l *loader) reusable(r checkResult) bool {
	if r.failure != nil {
		return !l.options.RetryRejected && l.options.OnFailure != RejectRevision
	}
	return r.checked
}

// documentChanges compares the documents of two revisions.
type documentChanges struct {
	old, new ast.Object
	none     func() bool     // all documents are the same
	same     map[string]bool // by the path that a unit reads
}

// unchangedFor reports whether the documents are the same that the unit of a result reads.
func (d *documentChanges) unchangedFor(r checkResult) bool {
	if r.all {
		return d.none()
	}
	return every(r.reads, func(path string) bool {
		equal, known := d.same[path]
		if !known {
			equal = sameDocument(d.old, d.new, splitRead(path))
			d.same[path] = equal
		}
		return equal
	})
}

// splitRead splits the path of a document that a unit reads.
func splitRead(path string) []string { return strings.Split(path, "\x00") }

func every(list []string, f func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !f(s) })
}

// sameDocument compares the values at a path, or those at the end of the part that exists.
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

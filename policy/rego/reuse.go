package rego

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// standing is what a check of a unit has found out: kept with the unit, so that
// the next revision need not check again what has not changed.
type standing struct {
	checked  bool     // it passed all checks, and its tests
	warnings Errors   // of its files
	reads    []string // the documents that it reads: their paths below data, with zero bytes between the names
	all      bool     // it may read any document
	believed *belief  // all this is what another process has found; nil: this one has
	failure  error    // why it did not pass; nil: it has, or is not checked
	reused   bool     // of an earlier revision, in which it was the same
}

// each calls f for every number below n, several at a time, and stops early when
// ctx ends. Checking is bound by the processor, so there are as many at a time as
// may run at once, and memory for as many.
func (l *loader) each(ctx context.Context, n int, f func(int)) error {
	var next atomic.Int64
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	if l.options.Beside {
		workers = max(1, workers-1)
	}
	for range min(n, workers) {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	group.Wait()
	return ctx.Err()
}

// alone is a loader for one unit, which shares what is only read and collects
// errors of its own.
func (l *loader) alone() *loader {
	one := *l
	one.errors, one.warnings = nil, nil
	return &one
}

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
		standing := before.now()
		if standing.failure != nil && (l.options.RetryRejected || l.options.OnFailure == RejectRevision) {
			continue
		}
		if !standing.checked && standing.failure == nil || standing.all && !everything() || !standing.all && !every(standing.reads, unchanged) {
			continue
		}
		u.standing = standing
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

// unit is the unit of a repository, or the organization's; nil if there is none.
func (s *Set) unit(repository string) *unit {
	if repository == "" {
		return s.loader.organization
	}
	return s.units[repository]
}

// noteReads notes which documents resolved modules read: of each reference the
// names that are written out, so that a document of one repository's own is one
// that only this repository reads.
func (u *unit) noteReads(modules, library map[string]*ast.Module) {
	for path, m := range modules {
		if library[path] != nil {
			continue
		}
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			if !ref.HasPrefix(ast.DefaultRootRef) {
				return false
			}
			var names []string
			for _, t := range ref[1:] {
				name, ok := t.Value.(ast.String)
				if !ok || strings.IndexByte(string(name), 0) >= 0 {
					break
				}
				names = append(names, string(name))
			}
			path := strings.Join(names, "\x00")
			switch {
			case len(names) == 0:
				u.all = true
			case names[0] != "sallyport" && !slices.Contains(u.reads, path):
				u.reads = append(u.reads, path)
			}
			return false
		})
	}
}

package rego

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// standing is what a check of a unit has found out: kept with the unit, so that
// the next revision need not check again what has not changed.
type standing struct {
	checked  bool     // it passed all checks, and its tests
	warnings Errors   // of its files
	reads    []string // the documents that it reads: the first names below data
	all      bool     // it may read any document
}

// each calls f for every number below n, several at a time, and stops early when
// ctx ends. Checking is bound by the processor, so there are as many at a time as
// may run at once, and memory for as many.
func each(ctx context.Context, n int, f func(int)) error {
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
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
	if !slices.Equal(old.library, l.library) {
		return
	}
	same := map[string]bool{}
	document := func(name string) bool {
		equal, known := same[name]
		if !known {
			key := ast.StringTerm(name)
			a, b := old.data.Get(key), l.data.Get(key)
			equal = a == nil && b == nil || a != nil && b != nil && a.Value.Compare(b.Value) == 0
			same[name] = equal
		}
		return equal
	}
	everything := sync.OnceValue(func() bool { return old.data.Compare(l.data) == 0 })
	for _, u := range l.units() {
		before := previous.unit(u.repository)
		if before == nil || !before.checked || !slices.Equal(before.sources, u.sources) {
			continue
		}
		if before.all && !everything() || slices.ContainsFunc(before.reads, func(name string) bool { return !document(name) }) {
			continue
		}
		u.standing = before.standing
	}
}

// unit is the unit of a repository, or the organisation's; nil if there is none.
func (s *Set) unit(repository string) *unit {
	if repository == "" {
		return s.loader.organisation
	}
	return s.units[repository]
}

// noteReads notes which documents resolved modules read.
func (u *unit) noteReads(modules, library map[string]*ast.Module) {
	seen := map[string]bool{}
	for path, m := range modules {
		if library[path] != nil {
			continue
		}
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			if !ref.HasPrefix(ast.DefaultRootRef) {
				return false
			}
			name, ok := ast.String(""), false
			if len(ref) > 1 {
				name, ok = ref[1].Value.(ast.String)
			}
			switch {
			case !ok:
				u.all = true
			case name != "sallyport" && !seen[string(name)]:
				seen[string(name)] = true
				u.reads = append(u.reads, string(name))
			}
			return false
		})
	}
}

// needsLibrary reports whether modules may refer to the library: they have its
// name somewhere, as part of a reference or of an import.
func needsLibrary(modules map[string]*ast.Module) bool {
	for _, m := range modules {
		found := false
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok && s == "lib" {
				found = true
			}
			return found
		})
		if found {
			return true
		}
	}
	return false
}

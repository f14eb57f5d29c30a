package rego

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/reads"
)

// loadLibrary parses the library of the set: the shipped one, or the one that was recorded
// with the snapshot.
func (l *loader) loadLibrary() error {
	if len(l.library) == 0 {
		for _, f := range Library() {
			l.library = append(l.library, source{path: f.Path, content: f.Content})
		}
	}
	l.libraryModules = map[string]*ast.Module{}
	for _, s := range l.library {
		m, err := l.parse(s)
		if err != nil {
			return fmt.Errorf("the library %s: %w", s.path, err)
		}
		if !m.Package.Path.Equal(libraryPackage) {
			return fmt.Errorf("the library %s: its package is %s", s.path, packageText(m.Package.Path))
		}
		l.libraryModules[s.path] = m
	}
	l.clocks, l.libraryReads = reads.Clocks(l.libraryModules), reads.OfModules(l.libraryModules)
	l.written = splitLibrary(l.libraryModules, func(string) bool { return false })
	l.native = splitLibrary(l.libraryModules, l.isShipped)
	return nil
}

// isShipped reports whether a file of the set's library equals the one that this program
// ships.
func (l *loader) isShipped(name string) bool {
	for _, f := range Library() {
		if f.Path == policy.LibraryFolder+"/"+name {
			return slices.ContainsFunc(l.library, func(s source) bool { return s.path == f.Path && bytes.Equal(s.content, f.Content) })
		}
	}
	return false
}

package rego

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// The shipped library, package sallyport.lib, and its own tests.
//
//go:embed library/*.rego
var libraryFS embed.FS

// Library returns the shipped library's files, without their tests, with paths
// inside a policy tree: for `sallyport policy vendor`, and for what is kept of a
// policy so that its decisions can be evaluated again.
func Library() []policy.File {
	entries, err := fs.ReadDir(libraryFS, "library")
	if err != nil {
		panic("rego: the embedded library: " + err.Error()) // a fault of the build
	}
	var files []policy.File
	for _, e := range entries {
		if isTestFile(e.Name()) {
			continue
		}
		content, err := libraryFS.ReadFile("library/" + e.Name())
		if err != nil {
			panic("rego: the embedded library: " + err.Error())
		}
		files = append(files, policy.File{Path: policy.LibraryFolder + "/" + e.Name(), Content: content})
	}
	return files
}

var libraryPackage = ast.MustParseRef("data.sallyport.lib")

// loadLibrary parses the library that the set gets: the shipped one, or the one
// that was recorded with the snapshot.
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
	l.written = takeApart(l.libraryModules, func(string) bool { return false })
	l.native = takeApart(l.libraryModules, l.isShipped)
	return nil
}

// isShipped reports whether a file of the set's library is, to the byte, the one
// that this program ships.
func (l *loader) isShipped(name string) bool {
	for _, f := range Library() {
		if f.Path == policy.LibraryFolder+"/"+name {
			return slices.ContainsFunc(l.library, func(s source) bool { return s.path == f.Path && bytes.Equal(s.content, f.Content) })
		}
	}
	return false
}

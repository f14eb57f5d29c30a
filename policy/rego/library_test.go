package rego

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport/sallyport/policy"
)

// TestLibrary: the shipped library's own tests pass, and evaluate every line of it.
func TestLibrary(t *testing.T) {
	s, err := policy.NewSnapshot(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	l := newLoader(s, Options{Names: true})
	if err := l.loadLibrary(); err != nil {
		t.Fatal(err)
	}
	l.store = inmem.New()
	modules := map[string]*ast.Module{}
	entries, err := fs.Glob(libraryFS, "library/*.rego")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		content, err := libraryFS.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		formatted, err := format.Source(path, content)
		if err != nil || !bytes.Equal(formatted, content) {
			t.Errorf("%s is not formatted (%v):\n%s", path, err, formatted)
		}
		if isTestFile(path) {
			m, err := l.parse(source{path: path, content: content})
			if err != nil {
				t.Fatal(err)
			}
			modules[path] = m
		}
	}
	coverage, report := cover.New(), &TestReport{}
	if err := l.runTests(t.Context(), newUnit("").part(egress), modules, coverage, report); err != nil {
		t.Fatal(err)
	}
	if len(report.Results) < 20 || !report.Passed() {
		t.Errorf("%d tests:\n%v", len(report.Results), report.failures())
	}
	for path, file := range coverage.Report(l.libraryModules).Files {
		if len(file.NotCovered) > 0 {
			t.Errorf("%s: no test goes through %v", path, file.NotCovered)
		}
	}
}

// TestLibraryIsShippedWithoutItsTests: the vendored and recorded library has no test file.
func TestLibraryIsShippedWithoutItsTests(t *testing.T) {
	for _, f := range Library() {
		if isTestFile(f.Path) || !policy.Belongs(f.Path) {
			t.Errorf("%s is in the library", f.Path)
		}
	}
}

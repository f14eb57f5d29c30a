package rego

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// source is one Rego file of a unit. Its content is the snapshot's, without a copy: many
// repositories have many files.
type source struct {
	path    string
	content []byte
	test    bool
}

func sameSources(a, b []source) bool {
	return slices.EqualFunc(a, b, func(a, b source) bool {
		return a.path == b.path && a.test == b.test && bytes.Equal(a.content, b.content)
	})
}

// unit is the policy that is compiled together: the organization's rules, or those of one
// repository.
type unit struct {
	repository string // empty: the organization
	sources    []source
	misplaced  Errors // of its files that are not among the sources
	pending    bool   // it is not checked yet
	impossible bool   // no repository can have its name
	checkResult
}

func (u *unit) isRepository() bool { return u.repository != "" }

func newUnit(repository string) *unit { return &unit{repository: repository} }

func isTestFile(path string) bool { return strings.HasSuffix(path, "_test.rego") }

// checkResult is the result of checking a unit. It is kept with the unit, so that an
// unchanged unit is not checked again in the next revision.
type checkResult struct {
	checked  bool         // it passed all checks, and its tests
	warnings Errors       // of its files
	reads    []string     // the documents that it reads: their paths below data, with zero bytes between the names
	all      bool         // it may read any document
	cached   *cachedCheck // all this is what another process has found; nil: this one has
	failure  error        // why it did not pass; nil: it has, or is not checked
	reused   bool         // of an earlier revision, in which it was the same
}

// cachedCheck marks a result that a previous process found. It is not proof: the first
// request of the repository has the policy checked and tested before it decides.
type cachedCheck struct {
	seen atomic.Pointer[checkResult] // the result of the check for the first request; nil: none yet
}

// now returns the result for the next revision: the result of a check in this process
// where there was one. A cached result stays unproven for the next revision.
func (r checkResult) now() checkResult {
	if r.cached == nil {
		return r
	}
	if seen := r.cached.seen.Load(); seen != nil {
		return *seen
	}
	r.cached = new(cachedCheck)
	return r
}

// unchecked reports whether the only result of a unit is one of a previous process.
func (u *unit) unchecked() bool { return u.cached != nil && u.cached.seen.Load() == nil }

func unitName(u *unit) string {
	if u.isRepository() {
		return "repository " + u.repository
	}
	return "the organization's policy"
}

// noteReads adds the documents that resolved modules read. The literal names of each
// reference count, so that only one repository reads a document below its own name.
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

func filesOf(sources []source) []policy.File {
	files := make([]policy.File, len(sources))
	for i, src := range sources {
		files[i] = policy.File{Path: src.path, Content: src.content}
	}
	return files
}

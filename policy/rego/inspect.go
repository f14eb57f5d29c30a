package rego

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy/rego/check"
)

// inspect parses, checks and compiles each part of a unit, and reports the faults.
func (l *loader) inspect(u *unit) {
	u.reads, u.all = nil, false
	for _, p := range u.parts() {
		l.inspectPart(p)
	}
}

// inspectPart parses, checks and compiles one part, and reports its faults.
func (l *loader) inspectPart(u *part) {
	before := len(l.errors)
	deciding, tests := l.parseUnit(u)
	l.checkSource(u, deciding, tests)
	// What the checks of names and shapes refuse would only be repeated, in
	// other words, by the compiler.
	if len(l.errors) > before {
		return
	}
	p, resolved, errs := l.compile(u, deciding, true)
	l.fromOPA(u.domain, errs)
	if resolved != nil {
		u.noteReads(resolved, l.libraryModules)
		l.checkResolved(u, resolved)
		l.checkMeaning(u, deciding, resolved, p)
	}
	if len(tests) > 0 && len(l.errors) == before {
		all := make(map[string]*ast.Module, len(deciding)+len(tests))
		for path, m := range deciding {
			all[path] = m
		}
		for path, m := range tests {
			all[path] = m
		}
		together, resolved, errs := l.compile(u, all, true)
		l.fromOPA(u.domain, errs)
		if resolved != nil {
			u.noteReads(resolved, l.libraryModules)
			l.checkTestReads(u, resolved, tests)
			l.report(check.TestFiles(l.view(u, deciding, resolved), u.testPkg(), resolved, slices.Sorted(maps.Keys(tests))))
		}
		if together != nil {
			l.report(check.IdleTests(together.compiler.Modules, slices.Sorted(maps.Keys(tests))))
		}
	}
	if len(l.errors) > before {
		return
	}
	if err := p.warmUp(l.libraryModules); err != nil && l.runs(checkEnds) && !l.options.Recorded {
		l.fail(asError(err))
	}
}

// parseUnit parses a part's files and reports what does not parse.
func (l *loader) parseUnit(u *part) (deciding, tests map[string]*ast.Module) {
	deciding, tests = map[string]*ast.Module{}, map[string]*ast.Module{}
	for _, s := range u.files {
		u.mark(s.path)
		module, err := l.parse(s)
		if err != nil {
			l.fromOPA(u.domain, err)
			continue
		}
		if s.test {
			tests[s.path] = module
		} else {
			deciding[s.path] = module
		}
	}
	worker.SetMark(0)
	return deciding, tests
}

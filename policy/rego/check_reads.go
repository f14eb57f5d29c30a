package rego

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// checkResolved checks what a unit's deciding files read, after OPA has resolved
// imports and the names of rules: every reference to data begins with data, and
// every one to the input with input, however it was written.
func (l *loader) checkResolved(u *part, modules map[string]*ast.Module) {
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		if l.libraryModules[path] != nil {
			continue
		}
		for _, rule := range modules[path].Rules {
			if l.runs(checkReads) {
				l.checkRuleReads(u, rule, false)
			}
		}
	}
	f := newFields(u.domain, modules)
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		if l.libraryModules[path] != nil {
			continue
		}
		for _, rule := range modules[path].Rules {
			if u.domain == egress && !l.options.Names && l.runs(checkNames) {
				l.checkRuleNames(rule)
			}
			if check.RuleName(rule) == setDeny && l.runs(checkAbsent) {
				l.checkDenyReads(f, rule)
			}
			l.lintDocuments(rule)
		}
	}
}

// checkTestReads checks the references of test files.
func (l *loader) checkTestReads(u *part, modules, tests map[string]*ast.Module) {
	if !l.runs(checkReads) {
		return
	}
	for _, path := range slices.Sorted(maps.Keys(tests)) {
		for _, rule := range modules[path].Rules {
			l.checkRuleReads(u, rule, true)
		}
	}
}

// checkRuleReads refuses every reference to data that is not visibly to the unit's own
// package, the library, or a document.
func (l *loader) checkRuleReads(u *part, rule *ast.Rule, test bool) {
	if !test {
		// Parts of the library are in Go for decisions, and call no builtin that a rule
		// could replace. A rule must not choose the decision's time either.
		ast.WalkWiths(rule, func(w *ast.With) bool {
			ref, _ := w.Target.Value.(ast.Ref)
			switch {
			case ref.HasPrefix(ast.DefaultRootRef):
				l.fail(at(w.Location, rule.Location, "a rule cannot replace data", "with data… belongs into tests"))
			case !ref.HasPrefix(ast.InputRootRef):
				l.fail(at(w.Location, rule.Location, fmt.Sprintf("a rule cannot replace %s", w.Target), "with and the name of a function belongs into tests"))
			}
			return false
		})
	}
	var visit func(t *ast.Term) bool
	visit = func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			if v.Equal(ast.DefaultRootDocument.Value) {
				l.failRead(t, rule, "data as a whole cannot be read", "")
			}
		case ast.Ref:
			if v.HasPrefix(ast.DefaultRootRef) {
				if message, hint := u.checkRead(v, test); message != "" {
					l.failRead(t, rule, message, hint)
				}
			} else {
				ast.WalkTerms(v[0], visit)
			}
			// A term in brackets is a term of its own.
			for _, operand := range v[1:] {
				ast.WalkTerms(operand, visit)
			}
			return true
		}
		return false
	}
	ast.WalkTerms(rule, visit)
}

func (l *loader) failRead(t *ast.Term, rule *ast.Rule, message, hint string) {
	if hint == "" {
		hint = "name the document or the rule of your own package: data.<name>"
	}
	l.fail(at(t.Location, rule.Location, message, hint))
}

// checkRead returns what is wrong with a reference that begins with data.
func (u *part) checkRead(ref ast.Ref, test bool) (message, hint string) {
	part := func(i int) (string, bool) {
		if i >= len(ref) {
			return "", false
		}
		s, ok := ref[i].Value.(ast.String)
		return string(s), ok
	}
	first, ok := part(1)
	if !ok {
		return "a reference to data without a literal name could read anything", ""
	}
	if first != "sallyport" {
		return "", ""
	}
	second, ok := part(2)
	if !ok {
		return "a reference to data.sallyport without a literal name could read any policy", ""
	}
	if second == "lib" {
		return "", ""
	}
	if ref.HasPrefix(u.pkg()) || test && ref.HasPrefix(u.testPkg()) {
		return "", ""
	}
	whose := strings.TrimPrefix(ref[:min(len(ref), 4)].String(), "data.")
	if u.isRepository() {
		return "a repository's policy cannot read " + whose, "it reads its own package " + packageText(u.pkg()) + ", data.sallyport.lib and the documents below data/"
	}
	return "the organization's policy cannot read " + whose, "it reads its own package, data.sallyport.lib and the documents below data/"
}

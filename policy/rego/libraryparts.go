package rego

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// libraryParts is the library by the names of its rules. Compiling all of it takes longer
// than most repositories' rules, so a policy is compiled with the rules that it uses.
type libraryParts struct {
	whole map[string]*ast.Module
	rules map[string][]libraryRule // by name; nil: the library is only used as a whole
}

type libraryRule struct {
	path string
	rule *ast.Rule
	uses []string // names of other rules
}

// splitLibrary makes the parts. Rules that are implemented in Go replace those of a file
// for which native is true.
func splitLibrary(modules map[string]*ast.Module, native func(file string) bool) *libraryParts {
	parts := &libraryParts{whole: modules}
	rules := map[string][]libraryRule{}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		if len(modules[path].Imports) > 0 {
			return parts // strict compiling refuses those that are left without use
		}
		for _, rule := range modules[path].Rules {
			name := check.RuleName(rule)
			if len(rule.Head.Ref()) != 1 || len(rule.Head.Args) == 0 || rule.Default {
				return parts // a value would be seen by who reads the package as a document
			}
			if replaced, file := functions.Replacement(name, rule); replaced != nil && strings.HasSuffix(path, "/"+file) && native(file) {
				if slices.ContainsFunc(rules[name], func(r libraryRule) bool { return r.rule == replaced }) {
					continue
				}
				rule = replaced
			}
			rules[name] = append(rules[name], libraryRule{path: path, rule: rule})
		}
	}
	for _, list := range rules {
		for i, r := range list {
			list[i].uses = namesIn(r.rule, rules)
		}
	}
	parts.rules = rules
	return parts
}

// namesIn are the names of rules that occur anywhere in a part of a policy, as a name or
// as a text in brackets; some may mean something else.
func namesIn(x any, rules map[string][]libraryRule) []string {
	var names []string
	note := func(name string) {
		if rules[name] != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			note(string(v))
		case ast.String:
			note(string(v))
		}
		return false
	})
	return names
}

// needed returns the library's modules with the rules that other modules may refer to;
// none if the modules do not contain its name in a reference or an import. The result must
// not be changed.
func (p *libraryParts) needed(modules map[string]*ast.Module) map[string]*ast.Module {
	if !needsLibrary(modules) {
		return nil
	}
	var names []string
	for _, m := range modules {
		names = append(names, namesIn(m, p.rules)...)
	}
	if len(names) == 0 {
		return p.whole
	}
	chosen := map[string]bool{}
	for len(names) > 0 {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if chosen[name] {
			continue
		}
		chosen[name] = true
		for _, r := range p.rules[name] {
			names = append(names, r.uses...)
		}
	}
	result := map[string]*ast.Module{}
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		for _, r := range p.rules[name] {
			m := result[r.path]
			if m == nil {
				m = &ast.Module{Package: p.whole[r.path].Package}
				m.SetRegoVersionSpan(ast.RegoVersionSpanOf(ast.RegoV1))
				result[r.path] = m
			}
			rule := *r.rule
			rule.Module = m
			m.Rules = append(m.Rules, &rule)
		}
	}
	return result
}

// needsLibrary reports whether modules may refer to the library: its name occurs in a
// reference or an import.
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

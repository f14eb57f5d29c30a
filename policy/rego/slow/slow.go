// Package slow finds rules that make every decision slow: lists that are scanned from
// beginning to end, nested loops, and patterns that are compiled one after the other.
package slow

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// Warn receives a warning: the place, what is slow, and a faster form.
type Warn func(at *ast.Location, message, hint string)

// Modules checks all rules of the parsed modules of one unit, in the order of their paths.
// data holds the documents that the rules read; nil if there are none. It calls warn for
// each finding, and more than once for the same finding if rules are nested.
func Modules(modules map[string]*ast.Module, data ast.Object, warn Warn) {
	constants := constantsOf(modules)
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		aliases := importedData(modules[path])
		for _, rule := range modules[path].Rules {
			ast.WalkRules(rule, func(r *ast.Rule) bool {
				c := &checker{data: data, warn: warn, aliases: aliases, constants: constants}
				c.rule(r)
				return false
			})
		}
	}
}

// importedData are the names under which a file imports documents.
func importedData(m *ast.Module) map[ast.Var]ast.Ref {
	aliases := map[ast.Var]ast.Ref{}
	for _, imp := range m.Imports {
		if ref, ok := imp.Path.Value.(ast.Ref); ok && ref.HasPrefix(ast.DefaultRootRef) {
			aliases[imp.Name()] = ref
		}
	}
	return aliases
}

// constantsOf are the collections and texts that a unit's rules give a name.
func constantsOf(modules map[string]*ast.Module) map[ast.Var]ast.Value {
	constants := map[ast.Var]ast.Value{}
	for _, m := range modules {
		for _, rule := range m.Rules {
			if rule.Head.Value != nil && rule.Head.Key == nil && len(rule.Head.Args) == 0 && len(rule.Head.Ref()) == 1 && rule.Head.Value.IsGround() && !check.ContainsRefs(rule.Head.Value) {
				constants[ast.Var(check.RuleName(rule))] = rule.Head.Value.Value
			}
		}
	}
	return constants
}

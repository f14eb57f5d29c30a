package rego

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// lintSlow warns of rules that make every decision slow, with a faster form: lists that
// are visited from beginning to end, nested loops, patterns that are compiled one after
// the other, and rules that no index can skip.
func (l *loader) lintSlow() {
	for _, u := range l.units() {
		for _, p := range u.parts() {
			l.lintSlowPart(p)
		}
	}
}

func (l *loader) lintSlowPart(u *part) {
	one := l.fork()
	deciding, _ := one.parseUnit(u)
	if len(one.errors) > 0 {
		return // reported already
	}
	constants := constantsOf(deciding)
	for _, path := range slices.Sorted(maps.Keys(deciding)) {
		aliases := importedData(deciding[path])
		for _, rule := range deciding[path].Rules {
			ast.WalkRules(rule, func(r *ast.Rule) bool {
				s := &slowRule{data: l.data, warn: l.slow, aliases: aliases, constants: constants}
				s.rule(r)
				return false
			})
		}
	}
	l.slowRules(u, deciding)
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
			if rule.Head.Value != nil && rule.Head.Key == nil && len(rule.Head.Args) == 0 && len(rule.Head.Ref()) == 1 && rule.Head.Value.IsGround() && !containsRefs(rule.Head.Value) {
				constants[ast.Var(check.RuleName(rule))] = rule.Head.Value.Value
			}
		}
	}
	return constants
}

func (l *loader) slow(loc *ast.Location, message, hint string) {
	e := at(loc, nil, "slow: "+message, hint)
	if !slices.Contains(l.warnings, e) {
		l.warn(e)
	}
}

// slowRules finds many rules of one name that an index cannot skip: OPA looks up rules by
// the values that they compare with, and evaluates all rules that compare with none.
func (l *loader) slowRules(u *part, deciding map[string]*ast.Module) {
	rules := map[string][]*ast.Rule{}
	for _, path := range slices.Sorted(maps.Keys(deciding)) {
		for _, rule := range deciding[path].Rules {
			rules[check.RuleName(rule)] = append(rules[check.RuleName(rule)], rule)
		}
	}
	var compiler *ast.Compiler
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		list := rules[name]
		if len(list) < longLoop || len(list[0].Head.Ref()) != 1 {
			continue
		}
		if compiler == nil {
			p, _, err := l.compile(u, deciding, false)
			if err != nil {
				return // reported already
			}
			compiler = p.compiler
		}
		index := compiler.RuleIndex(u.pkg().Append(ast.StringTerm(name)))
		if index == nil {
			continue
		}
		result, err := index.Lookup(unknownInput{u.domain, l.data})
		if err != nil || len(result.Rules) < longLoop {
			continue
		}
		l.slow(list[0].Location, fmt.Sprintf("of %d rules of %s, %d are evaluated for every decision: they compare no part of the input with a value of their own", len(list), name, len(result.Rules)),
			"begin each with a condition that distinguishes it from the others, such as input.target.host == \"…\", or put what they have in common into one rule")
	}
}

// unknownInput resolves references for an index, with an input that no rule names.
type unknownInput struct {
	domain *domain
	data   ast.Object
}

func (a unknownInput) Resolve(ref ast.Ref) (ast.Value, error) {
	from := warmUpInput(a.domain).value().Value
	if ref.HasPrefix(ast.DefaultRootRef) {
		from = a.data
	} else if !ref.HasPrefix(ast.InputRootRef) {
		return nil, nil
	}
	value, err := from.Find(ref[1:])
	if err != nil {
		return nil, nil // it is not there
	}
	return value, nil
}

package rego

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/slow"
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
	slow.Modules(deciding, l.data, l.slow)
	l.slowRules(u, deciding)
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
		if len(list) < slow.LongLoop || len(list[0].Head.Ref()) != 1 {
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
		if err != nil || len(result.Rules) < slow.LongLoop {
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

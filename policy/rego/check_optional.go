package rego

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checkRuleNames refuses names if they are not known: the rule would never match, and a
// deny that never matches denies nothing.
func (l *loader) checkRuleNames(rule *ast.Rule) {
	for _, r := range readsOf(rule) {
		if r.root != "input" {
			continue
		}
		for _, name := range egress.names {
			if covers(r.path, name) {
				l.fail(at(r.at, rule.Location, "input."+name+" is a name, and identity.bitbucket.api is not configured",
					"configure it, or compare the uuid instead"))
				break
			}
		}
	}
}

// checkDenyReads refuses a head that may have no value: the entry would not be in the set,
// and the deny would not fire.
func (l *loader) checkDenyReads(f *fields, rule *ast.Rule) {
	for _, r := range readsOf(rule) {
		if r.head && !r.negated && !r.inside {
			l.checkDenyHead(f, rule, r)
		}
	}
}

func (l *loader) checkDenyHead(f *fields, rule *ast.Rule, r read) {
	const hint = "a deny whose head has no value does not fire: use object.get with a default, or a body that gives the message"
	if field, without := f.mayBeAbsent(r, map[*ast.Rule]bool{}); field != "" {
		l.fail(at(r.at, rule.Location, fmt.Sprintf("the head of a deny reads input.%s, which is absent for %s", field, without), hint))
		return
	}
	if r.root == "input" && contains(r.path, "*") {
		l.fail(at(r.at, rule.Location, "the head of a deny reads a field of the input that may be absent", hint))
		return
	}
	if r.root != "data" {
		return
	}
	if rules := f.referred(r.path); rules != nil {
		if r.call && !hasDefault(rules) {
			l.fail(at(r.at, rule.Location, "the head of a deny calls a function that may have no value", hint))
		}
		return
	}
	if len(r.path) > 0 && r.path[0] != "sallyport" && !l.documentExists(r.path) {
		l.fail(at(r.at, rule.Location, "the head of a deny reads data."+strings.Join(r.path, ".")+", which may be absent", hint))
	}
}

func contains(path []string, s string) bool {
	for _, p := range path {
		if p == s {
			return true
		}
	}
	return false
}

func (l *loader) documentExists(path []string) bool {
	var value ast.Value = l.data
	for _, p := range path {
		object, ok := value.(ast.Object)
		if !ok {
			return false
		}
		next := object.Get(ast.StringTerm(p))
		if next == nil {
			return false
		}
		value = next.Value
	}
	return true
}

// mayBeAbsent follows a read, through the rules that it refers to, to a field that a
// request may lack.
func (f *fields) mayBeAbsent(r read, seen map[*ast.Rule]bool) (field, without string) {
	if r.root == "input" {
		return f.domain.absentField(r.path)
	}
	rules := f.referred(r.path)
	if hasDefault(rules) {
		return "", ""
	}
	for _, rule := range rules {
		// An empty set is a value.
		if seen[rule] || rule.Head.RuleKind() == ast.MultiValue {
			continue
		}
		seen[rule] = true
		for _, inner := range readsOf(rule) {
			if inner.negated || inner.inside {
				continue
			}
			if field, without := f.mayBeAbsent(inner, seen); field != "" {
				return field, without
			}
		}
	}
	return "", ""
}

func hasDefault(rules []*ast.Rule) bool {
	for _, rule := range rules {
		if rule.Default {
			return true
		}
	}
	return false
}

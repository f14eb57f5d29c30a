package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Absence finds denies that unexpectedly never fire for a request that lacks a part of
// the input. Rego evaluates the operands outside of a not: without a deployment,
// `not startswith(input.principal.deployment.slug, "prod")` is undefined.
func Absence(u *Unit) []Finding {
	if u.Compiled == nil {
		return nil
	}
	present := newMachine(u.Compiled, "")
	var list []Finding
	for _, part := range u.Optional {
		absent := newMachine(u.Compiled, part.Path)
		fires := map[string]bool{}
		var silent []silentDeny
		for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
			m := u.Compiled[path]
			if m == nil {
				continue
			}
			for i, rule := range m.Rules {
				if RuleName(rule) != "deny" {
					continue
				}
				r := absent.chain(rule)
				if r.kind != isUndefined {
					fires[ruleID(rule)] = true
				} else if present.chain(rule).kind != isUndefined {
					written := rule
					if u.Resolved[path] != nil && i < len(u.Resolved[path].Rules) {
						written = u.Resolved[path].Rules[i]
					}
					silent = append(silent, silentDeny{rule, written, r.at})
				}
			}
		}
		delete(fires, "") // rules without a literal id are judged alone
		for _, s := range silent {
			// Another body of the same rule is for such requests.
			if !fires[ruleID(s.rule)] && s.expected(u.Subject) {
				list = append(list, s.finding(part))
			}
		}
	}
	sortFindings(list)
	return list
}

type silentDeny struct {
	rule, written *ast.Rule
	at            *ast.Location
}

func (s silentDeny) finding(part Optional) Finding {
	hint := fmt.Sprintf("if it should, add a body with not input.%s, or read it with object.get", part.Path)
	negated := false
	ast.WalkExprs(s.written, func(e *ast.Expr) bool {
		negated = negated || e.Negated
		return false
	})
	if negated {
		hint = fmt.Sprintf("if it should, put the expression after not into a rule of its own, and write not with its name; or add a body with not input.%s", part.Path)
	}
	f := at(s.place(), s.rule.Location, fmt.Sprintf("this deny does not fire for %s: it reads input.%s", part.Without, part.Path), hint)
	f.Warning = true
	return f
}

// expected reports whether the deny can be expected to fire without the part. Events are of
// many kinds, so a deny that reads a part is for the events that have it, unless it reads
// the part after not or beside !=: it is then for all values but some.
func (s silentDeny) expected(subject Subject) bool {
	if subject == Requests || s.at == nil || s.rule.Location == nil || s.at.File != s.rule.Location.File {
		return true // a request, or in a function
	}
	found := false
	ast.WalkExprs(s.written, func(e *ast.Expr) bool {
		if e.Location != nil && e.Location.Row == s.at.Row {
			found = found || e.Negated || e.IsCall() && e.Operator().String() == ast.NotEqual.Name
		}
		return false
	})
	return found
}

// place is the location where the deny reads the absent part, or calls a function that
// does.
func (s silentDeny) place() *ast.Location {
	if s.at != nil && s.rule.Location != nil && s.at.File == s.rule.Location.File {
		return s.at
	}
	return s.rule.Location
}

// ruleID is the id of a rule's entry, "" where it is not literal.
func ruleID(rule *ast.Rule) string {
	if rule.Head.Key == nil {
		return ""
	}
	object, ok := rule.Head.Key.Value.(ast.Object)
	if !ok {
		return ""
	}
	id := object.Get(ast.StringTerm("rule"))
	if id == nil {
		return ""
	}
	s, _ := id.Value.(ast.String)
	return string(s)
}

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Unconditional finds allows that hold for every request: without a condition, or with
// conditions that hold for every request, such as a field alone that is always there.
func Unconditional(u *Unit) []Finding {
	var found []Finding
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			if RuleName(rule) != "allow" || rule.Head.Key == nil || slices.ContainsFunc(rule.Body, u.restricts) {
				continue
			}
			message, hint := "the allow has no condition that a request could fail, so it allows every target", "name the targets: lib.target_in(input.target, {…})"
			if u.Subject == Deliveries {
				message, hint = "the allow has no condition that a delivery could fail, so it allows every event of every receiver", `name the receiver or the events: input.event in {"repo:push"}`
			}
			f := at(rule.Location, rule.Location, message, hint)
			f.Warning = true
			found = append(found, f)
		}
	}
	return found
}

// restricts reports whether an expression may not hold.
func (u *Unit) restricts(e *ast.Expr) bool {
	switch terms := e.Terms.(type) {
	case *ast.SomeDecl:
		return len(terms.Symbols) != 1 || !isVar(terms.Symbols[0])
	case []*ast.Term:
		return len(terms) == 0 || terms[0].String() != ast.Print.Name
	case *ast.Term:
		if b, ok := terms.Value.(ast.Boolean); ok {
			return bool(b) == e.Negated
		}
		ref, ok := terms.Value.(ast.Ref)
		if !ok || e.Negated || !ref.HasPrefix(ast.InputRootRef) {
			return true
		}
		field := strings.Join(stepsOf(ref[1:]), ".")
		return u.fieldType(field) == "" && field != "" || u.optional(field)
	}
	return true
}

// optional reports whether a request may lack a field.
func (u *Unit) optional(field string) bool {
	return slices.ContainsFunc(u.Optional, func(o Optional) bool {
		return field == o.Path || strings.HasPrefix(field, o.Path+".")
	})
}

// condition judges a document that stands alone as a condition: in Rego every value but
// false holds, also a text such as "no", 0 and null.
func (o *operands) condition(t *ast.Term) {
	switch t.Value.(type) {
	case ast.Ref, ast.Var:
	default:
		return
	}
	for _, from := range o.scope.origins(t) {
		if !from.document || from.member || slices.Contains(from.steps, anyValue) || slices.Contains(from.steps, anyKey) {
			continue
		}
		o.judge(from, "condition", func(v found) []Finding {
			switch v.value.Value.(type) {
			case ast.String, ast.Number, ast.Null:
				return []Finding{o.unit.place(v, o.at.Location, fmt.Sprintf("this is %s, and as a condition every value but false holds", typeName(v.value.Value)), "write true or false, without quotes")}
			}
			return nil
		})
	}
}

// equal judges == and != between a document and a value of another type.
func (o *operands) equal(operator string, operands []*ast.Term) {
	if len(operands) != 2 || o.fieldsOf(operands[0]) != nil || o.fieldsOf(operands[1]) != nil {
		return
	}
	left, right := o.typeOf(operands[0]), o.typeOf(operands[1])
	if left == "" || right == "" || left == right {
		return
	}
	result := "never"
	if operator == ast.NotEqual.Name {
		result = "always"
	}
	o.report([]Finding{at(operands[1].Location, o.at.Location, fmt.Sprintf("this compares %s with %s and %s holds, whatever their values are", typeNames[left], typeNames[right], result), "write both as values of one type")})
}

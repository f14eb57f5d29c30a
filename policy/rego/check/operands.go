package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Operands finds operands that can never match, of comparisons and of the library's
// functions: in the rule itself, and in the documents that it reads.
func Operands(u *Unit) []Finding {
	o := &operands{unit: u, rules: newRules(u), done: map[string]bool{}}
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			for r := rule; r != nil; r = r.Else {
				o.rule(r)
			}
		}
	}
	return o.found
}

func (o *operands) rule(rule *ast.Rule) {
	o.scope, o.at = o.rules.scopes[rule], rule
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Rule:
			return x != rule
		case *ast.Every:
			o.membership(x.Domain, false)
		case *ast.SomeDecl:
			for _, symbol := range x.Symbols {
				if call, ok := symbol.Value.(ast.Call); ok && len(call) >= 3 {
					o.membership(call[len(call)-1], false)
				}
			}
		case *ast.Expr:
			if t, ok := x.Terms.(*ast.Term); ok {
				o.condition(t)
			}
			if x.IsCall() {
				o.wide = RuleName(rule) == "deny" && !x.Negated
				o.call(x.OperatorTerm(), x.Operands())
				o.wide = false
			}
		case *ast.Term:
			switch v := x.Value.(type) {
			case ast.Call:
				o.call(v[0], v[1:])
			case ast.Ref:
				o.lookup(v)
			}
		}
		return false
	}).Walk(rule)
}

func (o *operands) call(operator *ast.Term, operands []*ast.Term) {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return
	}
	name := ref.String()
	if function, ok := strings.CutPrefix(name, libraryPrefix); ok {
		o.subject(function, operands)
		for i, kind := range listKinds[function] {
			if i < len(operands) {
				o.list(kind, operands[i])
			}
		}
		return
	}
	switch name {
	case ast.Equality.Name, ast.Equal.Name, ast.NotEqual.Name:
		if len(operands) == 2 {
			o.equal(name, operands)
			o.compare(operands[0], o.scope.origins(operands[1]), false)
			o.compare(operands[1], o.scope.origins(operands[0]), false)
		}
	case ast.Member.Name:
		if len(operands) == 2 {
			list := o.membership(operands[1], o.fieldsOf(operands[0]) != nil)
			o.compare(operands[0], along(list, []string{anyValue}), false)
		}
	case ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
		o.order(name, operands)
	case ast.ObjectGet.Name:
		if len(operands) == 3 {
			o.compare(operands[1], along(o.scope.origins(operands[0]), []string{anyKey}), false)
		}
	default:
		o.constants(name, operands)
		o.matching(name, operands)
	}
}

// list judges an operand of a function of the library.
func (o *operands) list(kind listKind, t *ast.Term) {
	for _, from := range o.scope.origins(t) {
		judge, how := kind.whole, kind.name
		if from.member {
			from.member, judge, how = false, kind.member, "member of "+kind.name
		}
		if kind.name == "exceptions" {
			how += " read by " + o.unit.Package.String() // which keys it reads counts
		}
		if judge != nil {
			o.judge(from, how, func(v found) []Finding { return judge(o.unit, v) })
		}
	}
	if RuleName(o.at) == "deny" {
		o.empty(kind, t)
	}
}

// empty warns of a deny that reads an empty list.
func (o *operands) empty(kind listKind, t *ast.Term) {
	if kind.name != "patterns" && kind.name != "entries" {
		return
	}
	list := o.scope.origins(t)
	if len(list) != 1 || !list[0].document || list[0].member {
		return
	}
	o.unit.each(list[0], func(v found) {
		empty := false
		switch c := v.value.Value.(type) {
		case *ast.Array:
			empty = c.Len() == 0
		case ast.Object:
			empty = c.Len() == 0
		}
		if empty && len(o.found) < maxFindings {
			f := o.unit.place(v, nil, "the list is empty, so the deny at "+o.at.Location.String()+" never fires", "fill it, or remove the deny")
			f.Warning = true
			o.found = append(o.found, f)
		}
	})
}

// lookup judges the keys of a collection in which a field of the input is looked up.
func (o *operands) lookup(ref ast.Ref) {
	for i, t := range ref {
		if i == 0 || i > maxSteps {
			continue
		}
		switch t.Value.(type) {
		case ast.Ref, ast.Var:
			base := ref[:i]
			if len(base) == 1 && base[0].Equal(ast.DefaultRootDocument) {
				continue
			}
			o.compare(t, along(o.scope.reference(base), []string{anyKey}), true)
		}
	}
}

// compare judges the values that a term is compared with, if the term is a field of the
// input.
func (o *operands) compare(t *ast.Term, with []origin, keys bool) {
	switch t.Value.(type) {
	case ast.Var, ast.Ref, ast.Call:
	default:
		return
	}
	if len(with) == 0 {
		return
	}
	fields := o.fieldsOf(t)
	if len(fields) == 0 {
		return
	}
	how := "field " + strings.Join(fields, "|")
	for _, from := range with {
		if from.member {
			continue
		}
		o.judge(from, how, func(v found) []Finding { return o.fieldValue(fields, v, keys) })
	}
}

// fieldValue judges a value that is compared with one of several fields: it is a mistake
// only if it never equals any of them.
func (o *operands) fieldValue(fields []string, v found, keys bool) []Finding {
	if unknown(v.value) || keys && !v.key && v.path == nil && !isText(v.value) {
		return nil
	}
	var first mistake
	for i, field := range fields {
		m := o.unit.fieldValue(field, v.value)
		if m.none() {
			return nil
		}
		if i == 0 {
			first = m
		}
	}
	return o.unit.reported(v, first)
}

package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// kind is what is known of a term without an evaluation.
type kind int

const (
	isUnknown   kind = iota // it may have a value, and may have none
	isUndefined             // it never has a value
	isDefined               // it always has a value other than false
	isKnown                 // it always has this value
)

// result is the knowledge about a term or rule.
type result struct {
	kind  kind
	value ast.Value // of isKnown
	input []string  // the part of the input that it is; nil: not known
	at    *ast.Location
}

var (
	unknownResult   = result{}
	undefinedResult = result{kind: isUndefined}
	definedResult   = result{kind: isDefined}
)

func known(v ast.Value) result { return result{kind: isKnown, value: v} }

// holds is a value as a condition: false does not hold.
func (r result) holds() result {
	if b, ok := r.value.(ast.Boolean); ok && r.kind == isKnown && !bool(b) {
		return result{kind: isUndefined, at: r.at}
	}
	return r
}

// A machine evaluates rules abstractly. It knows only that a part of the input is
// absent, and that a set of rules always has a value. Each rule is evaluated once.
type machine struct {
	rules  map[string][]*ast.Rule // by their full reference
	absent string                 // a path below input that is not there; empty: none
	memo   map[string]result
	busy   map[string]bool
}

func newMachine(modules map[string]*ast.Module, absent string) *machine {
	m := &machine{rules: map[string][]*ast.Rule{}, absent: absent, memo: map[string]result{}, busy: map[string]bool{}}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		for _, rule := range modules[path].Rules {
			name := modules[path].Package.Path.String() + "." + RuleName(rule)
			m.rules[name] = append(m.rules[name], rule)
		}
	}
	return m
}

// names are the local names of one body with their results.
type names struct {
	outer *names
	of    map[ast.Var]result
}

func (n *names) get(v ast.Var) (result, bool) {
	for at := n; at != nil; at = at.outer {
		if r, ok := at.of[v]; ok {
			return r, true
		}
	}
	return unknownResult, false
}

// body is whether all expressions of a body hold. at is the location of the first one that
// never does.
func (m *machine) body(body ast.Body, outer *names) (result, *names) {
	scope := &names{outer: outer, of: map[ast.Var]result{}}
	whole := definedResult
	for _, e := range body {
		r := m.expr(e, scope)
		switch r.kind {
		case isUndefined:
			if r.at == nil {
				r.at = e.Location
			}
			return r, scope
		case isUnknown:
			whole = unknownResult
		}
	}
	return whole, scope
}

func (m *machine) expr(e *ast.Expr, scope *names) result {
	if len(e.With) > 0 {
		return m.replaced(e, scope)
	}
	r := m.positive(e, scope)
	if !e.Negated {
		return r
	}
	switch r.kind {
	case isUndefined:
		return definedResult
	case isDefined, isKnown:
		return undefinedResult
	}
	return unknownResult
}

// replaced is an expression with another input or other data, of which nothing is known to
// be absent. A set of rules has a value all the same.
func (m *machine) replaced(e *ast.Expr, scope *names) result {
	plain := e.Copy()
	plain.With = nil
	other := &machine{rules: m.rules, memo: map[string]result{}, busy: m.busy}
	if m.absent == "" {
		other.memo = m.memo
	}
	return other.expr(plain, scope)
}

func (m *machine) positive(e *ast.Expr, scope *names) result {
	switch terms := e.Terms.(type) {
	case *ast.Term:
		return m.term(terms, scope).holds()
	case []*ast.Term:
		if len(terms) == 0 {
			return unknownResult
		}
		return m.condition(terms[0], terms[1:], scope)
	case *ast.Every:
		return m.every(terms, scope)
	}
	return definedResult // some x
}

func (m *machine) every(e *ast.Every, scope *names) result {
	domain := m.term(e.Domain, scope)
	if domain.kind == isUndefined {
		return domain
	}
	if isEmpty(domain) {
		return definedResult
	}
	inner, _ := m.body(e.Body, scope)
	if inner.kind == isUndefined && domain.kind == isKnown && holdsEntries(domain.value) {
		return inner
	}
	return unknownResult
}

func isEmpty(r result) bool {
	switch r.value.(type) {
	case ast.Object, *ast.Array, ast.Set:
		return r.kind == isKnown && !holdsEntries(r.value)
	}
	return false
}

// condition is a call as an expression: its result, if the call has one, follows its
// arguments.
func (m *machine) condition(operator *ast.Term, operands []*ast.Term, scope *names) result {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return unknownResult
	}
	name := ref.String()
	if name == ast.Equality.Name || name == ast.Assign.Name {
		return m.equation(operands, scope)
	}
	takes := len(operands)
	if b := ast.BuiltinMap[name]; b != nil && b.Decl != nil {
		takes = b.Decl.Arity()
	} else if list := m.rules[name]; len(list) > 0 {
		takes = len(list[0].Head.Args)
	}
	args := make([]result, 0, len(operands))
	for _, t := range operands[:min(takes, len(operands))] {
		r := m.term(t, scope)
		if r.kind == isUndefined {
			return r
		}
		args = append(args, r)
	}
	value := m.call(name, args)
	if takes < len(operands) {
		if v, ok := operands[takes].Value.(ast.Var); ok && value.kind != isUndefined {
			if _, bound := scope.get(v); !bound {
				scope.of[v] = value
				return asCondition(value)
			}
		}
		if value.kind == isUndefined {
			return value
		}
		return unknownResult
	}
	return value.holds()
}

// asCondition is whether an assignment holds: false is a value too.
func asCondition(r result) result {
	if r.kind == isKnown {
		return definedResult
	}
	return r
}

func (m *machine) equation(operands []*ast.Term, scope *names) result {
	if len(operands) != 2 {
		return unknownResult
	}
	for i, t := range operands {
		v, ok := t.Value.(ast.Var)
		if !ok {
			continue
		}
		if _, bound := scope.get(v); bound || i == 1 && isUnbound(operands[0], scope) {
			continue
		}
		r := m.term(operands[1-i], scope)
		if r.kind != isUndefined {
			scope.of[v] = r
		}
		return asCondition(r)
	}
	left, right := m.term(operands[0], scope), m.term(operands[1], scope)
	switch {
	case left.kind == isUndefined:
		return left
	case right.kind == isUndefined:
		return right
	case left.kind == isKnown && right.kind == isKnown:
		if left.value.Compare(right.value) == 0 {
			return definedResult
		}
		return undefinedResult
	}
	return unknownResult
}

func isUnbound(t *ast.Term, scope *names) bool {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return false
	}
	_, bound := scope.get(v)
	return !bound
}

// call is the result of a function.
func (m *machine) call(name string, args []result) result {
	if list := m.rules[name]; len(list) > 0 {
		switch m.rule(name).kind {
		case isUndefined:
			return undefinedResult
		case isUnknown:
			return unknownResult
		}
		return definedWhere(args)
	}
	switch name {
	case ast.Count.Name:
		return m.count(args)
	case ast.ObjectGet.Name:
		return m.objectGet(args)
	case ast.Member.Name:
		if len(args) == 2 && isEmpty(args[1]) {
			return known(ast.Boolean(false))
		}
		return unknownResult
	case ast.MemberWithKey.Name:
		if len(args) == 3 && isEmpty(args[2]) {
			return known(ast.Boolean(false))
		}
		return unknownResult
	}
	if compared, ok := compareNumbers(name, args); ok {
		return compared
	}
	if alwaysDefined[name] {
		return definedWhere(args)
	}
	return unknownResult
}

// alwaysDefined are builtins whose result is a value other than false wherever their
// arguments are of the right types.
var alwaysDefined = map[string]bool{
	ast.Lower.Name: true, ast.Upper.Name: true, ast.Concat.Name: true, ast.Sprintf.Name: true, ast.ArrayConcat.Name: true,
	ast.Or.Name: true, ast.And.Name: true, ast.Minus.Name: true, ast.ObjectUnion.Name: true, ast.ObjectKeys.Name: true, ast.Sort.Name: true,
	ast.Max.Name: false, ast.Sum.Name: true, ast.Split.Name: true, ast.TrimSpace.Name: true,
}

func definedWhere(args []result) result {
	for _, a := range args {
		if a.kind != isDefined && a.kind != isKnown {
			return unknownResult
		}
	}
	return definedResult
}

func (m *machine) count(args []result) result {
	if len(args) == 1 && args[0].kind == isKnown {
		switch v := args[0].value.(type) {
		case *ast.Array:
			return known(ast.Number(ast.IntNumberTerm(v.Len()).String()))
		case ast.Set:
			return known(ast.Number(ast.IntNumberTerm(v.Len()).String()))
		case ast.Object:
			return known(ast.Number(ast.IntNumberTerm(v.Len()).String()))
		}
	}
	return definedWhere(args) // 0 is a value too
}

// objectGet is the default if the part that is read is known to be absent.
func (m *machine) objectGet(args []result) result {
	if len(args) != 3 || args[0].input == nil || args[1].kind != isKnown {
		return unknownResult
	}
	path := args[0].input
	switch key := args[1].value.(type) {
	case ast.String:
		path = append(path[:len(path):len(path)], string(key))
	case *ast.Array:
		for i := range key.Len() {
			name, ok := key.Elem(i).Value.(ast.String)
			if !ok {
				return unknownResult
			}
			path = append(path[:len(path):len(path)], string(name))
		}
	default:
		return unknownResult
	}
	if m.isAbsent(path) {
		return args[2]
	}
	return unknownResult
}

func (m *machine) isAbsent(path []string) bool {
	whole := strings.Join(path, ".")
	return m.absent != "" && (whole == m.absent || strings.HasPrefix(whole, m.absent+"."))
}

func compareNumbers(name string, args []result) (result, bool) {
	if len(args) != 2 || args[0].kind != isKnown || args[1].kind != isKnown {
		return unknownResult, false
	}
	order := args[0].value.Compare(args[1].value)
	holds := map[string]bool{
		ast.GreaterThan.Name: order > 0, ast.GreaterThanEq.Name: order >= 0, ast.LessThan.Name: order < 0,
		ast.LessThanEq.Name: order <= 0, ast.Equal.Name: order == 0, ast.NotEqual.Name: order != 0,
	}
	is, ok := holds[name]
	return known(ast.Boolean(is)), ok
}

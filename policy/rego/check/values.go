package check

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// found is a value of an origin, with its path.
type found struct {
	value *ast.Term
	path  []any // of a document; nil: a literal
	key   bool  // the value is a key of an object
}

// each calls f for the existing values of an origin. Their number is bounded by the size
// of the document or literal.
func (u *Unit) each(o origin, f func(found)) {
	switch {
	case o.document && u.Documents.Root != nil:
		eachStep(&ast.Term{Value: u.Documents.Root}, o.steps, []any{}, false, f)
	case o.term != nil:
		eachStep(o.term, o.steps, nil, false, f)
	}
}

func eachStep(t *ast.Term, steps []string, path []any, key bool, f func(found)) {
	if len(steps) == 0 {
		f(found{t, path, key})
		return
	}
	switch v := t.Value.(type) {
	case ast.Object:
		switch steps[0] {
		case anyValue:
			v.Foreach(func(k, sub *ast.Term) { eachStep(sub, steps[1:], below(path, k), false, f) })
		case anyKey:
			v.Foreach(func(k, _ *ast.Term) { eachStep(k, steps[1:], below(path, k), true, f) })
		default:
			if sub := v.Get(ast.StringTerm(steps[0])); sub != nil {
				eachStep(sub, steps[1:], below(path, ast.StringTerm(steps[0])), false, f)
			}
		}
	case *ast.Array:
		if steps[0] == anyValue {
			for i := range v.Len() {
				eachStep(v.Elem(i), steps[1:], belowItem(path, i), false, f)
			}
		}
	case ast.Set:
		if steps[0] == anyValue || steps[0] == anyKey {
			v.Foreach(func(m *ast.Term) { eachStep(m, steps[1:], path, false, f) })
		}
	}
}

// below is the path of a member; nil stays nil, because a literal has its own location.
func below(path []any, key *ast.Term) []any {
	if path == nil {
		return nil
	}
	name, ok := key.Value.(ast.String)
	if !ok {
		return path
	}
	return append(path[:len(path):len(path)], string(name))
}

func belowItem(path []any, i int) []any {
	if path == nil {
		return nil
	}
	return append(path[:len(path):len(path)], i)
}

// pathText is a path as a policy writes it: data.exceptions.list[0].
func pathText(path []any) string {
	var b strings.Builder
	b.WriteString("data")
	for _, p := range path {
		switch p := p.(type) {
		case string:
			b.WriteString("." + p)
		case int:
			b.WriteString("[" + strconv.Itoa(p) + "]")
		}
	}
	return b.String()
}

// place gives a finding the position of a value: in a document, or in the rule.
func (u *Unit) place(v found, fallback *ast.Location, message, hint string) Finding {
	if v.path == nil {
		return at(v.value.Location, fallback, message, hint)
	}
	f := Finding{Message: message, Hint: hint}
	if u.Documents.Place != nil {
		f.File, f.Line, f.Column = u.Documents.Place(v.path)
	}
	if f.File == "" {
		f.Message = pathText(v.path) + ": " + message
	}
	return f
}

// reported makes a finding of a mistake.
func (u *Unit) reported(v found, m mistake) []Finding {
	if m.none() {
		return nil
	}
	f := u.place(v, nil, m.message, m.hint)
	f.Warning = m.warning
	return []Finding{f}
}

// members calls f for the members of a list or set.
func members(v found, f func(found)) bool {
	switch c := v.value.Value.(type) {
	case *ast.Array:
		for i := range c.Len() {
			f(found{c.Elem(i), belowItem(v.path, i), false})
		}
	case ast.Set:
		c.Foreach(func(t *ast.Term) { f(found{t, v.path, false}) })
	default:
		return false
	}
	return true
}

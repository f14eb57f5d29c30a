package check

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

type operands struct {
	unit   *Unit
	rules  *rules
	scope  *scope
	at     *ast.Rule
	done   map[string]bool // documents, by their path and how they are read
	values int
	wide   bool // the call is a condition of a deny, which may match more than is meant
	found  []Finding
}

func (o *operands) report(findings []Finding) {
	for _, f := range findings {
		if len(o.found) >= maxFindings {
			return
		}
		if f.File == "" && f.Line == 0 && o.at.Location != nil {
			f.File, f.Line, f.Column = o.at.Location.File, o.at.Location.Row, o.at.Location.Col
		}
		o.found = append(o.found, f)
	}
}

// judge calls f for each value of an origin. Findings in a document are cached, because
// they are the same for every rule that reads the document in this way.
func (o *operands) judge(from origin, how string, f func(found) []Finding) {
	if from.field != "" {
		return
	}
	collect := func() (list []Finding) {
		o.unit.each(from, func(v found) {
			if o.values++; o.values <= maxValues && len(list) < maxFindings {
				list = append(list, f(v)...)
			}
		})
		return list
	}
	if !from.document {
		o.report(collect())
		return
	}
	key := strings.Join(from.steps, "\x01") + "\x02" + how
	if !o.done[key] {
		o.done[key] = true
		o.report(o.unit.Documents.Cache.get(key, collect))
	}
}

// fieldsOf are the fields of the input that a term may be.
func (o *operands) fieldsOf(t *ast.Term) []string {
	var fields []string
	for _, from := range o.scope.origins(t) {
		if from.field != "" {
			fields = append(fields, from.field)
		}
	}
	return fields
}

const libraryPrefix = "data.sallyport.lib."

// Bounds on the findings of one unit, and on the values that are judged for it.
const (
	maxFindings = 1000
	maxValues   = 4 << 20
)

// typeOf is the type of a term's value; empty if it is not known or not always the
// same.
func (o *operands) typeOf(t *ast.Term) string {
	switch t.Value.(type) {
	case *ast.ArrayComprehension:
		return "array"
	case *ast.SetComprehension:
		return "set"
	case *ast.ObjectComprehension:
		return "object"
	}
	if v, ok := t.Value.(ast.Var); ok && !o.scope.complete(v) {
		return ""
	}
	one := ""
	for _, from := range o.scope.origins(t) {
		var name string
		switch {
		case from.member:
			return ""
		case from.field != "":
			name = o.unit.fieldType(from.field)
		default:
			o.unit.each(from, func(v found) {
				if o.values++; o.values > maxValues {
					return
				}
				if n := typeOf(v.value.Value); name == "" || n == name {
					name = n
				} else {
					name = "several"
				}
			})
		}
		if typeNames[name] == "" || one != "" && name != one {
			return ""
		}
		one = name
	}
	return one
}

// complete reports whether every value of a name is known.
func (s *scope) complete(v ast.Var) bool {
	for _, b := range s.bindings[v] {
		if len(b.scope.origins(b.term)) == 0 {
			return false
		}
	}
	return true
}

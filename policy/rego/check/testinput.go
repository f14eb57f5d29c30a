package check

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// maxInputDepth bounds the names and functions between a test and its input.
const maxInputDepth = 16

// with judges the target of a with in a test: a document that nothing reads, or an input
// that no request has.
func (t *testFiles) with(w *ast.With, rule *ast.Rule) {
	ref, ok := w.Target.Value.(ast.Ref)
	switch {
	case !ok:
	case ref.HasPrefix(ast.InputRootRef):
		t.withInput(w, ref, rule)
	default:
		t.withDocument(w, ref, rule)
	}
}

func (t *testFiles) withInput(w *ast.With, ref ast.Ref, rule *ast.Rule) {
	var names []string
	for _, part := range ref[1:] {
		s, ok := part.Value.(ast.String)
		if !ok {
			return
		}
		names = append(names, string(s))
	}
	at := strings.Join(names, ".")
	if at == "" || t.field(at, w.Target, rule) {
		t.value(at, w.Value, rule, 0)
	}
}

func (t *testFiles) withDocument(w *ast.With, ref ast.Ref, rule *ast.Rule) {
	at := documentPath(ref)
	if t.steps += len(t.reads) / 16; at == "" || len(t.found) >= maxFindings || t.steps > maxInputSteps {
		return
	}
	for _, read := range t.reads {
		if read == at || strings.HasPrefix(read, at+".") || strings.HasPrefix(at, read+".") {
			return
		}
	}
	hint := "replace a document that a rule reads"
	if n := nearest.Of(at, t.reads); n != "" && nearest.Distance(at, n) <= 4 {
		hint = "did you mean " + n + "?"
	}
	t.report(w.Target.Location, rule.Location, true, "no rule reads "+at+", so replacing it changes nothing", hint)
}

// field judges the name of a field of the input.
func (t *testFiles) field(at string, term *ast.Term, rule *ast.Rule) bool {
	above, name := "", at
	if i := strings.LastIndexByte(at, '.'); i >= 0 {
		above, name = at[:i], at[i+1:]
	}
	if t.unit.fieldType(at) != "" {
		return true
	}
	if t.unit.Fields == nil {
		return false
	}
	known := t.unit.Fields(above)
	if len(known) == 0 {
		return false // below it anything may stand
	}
	where := strings.TrimSuffix("input."+above, ".")
	hint := where + " has " + strings.Join(known, ", ")
	if n := nearest.Of(name, known); n != "" {
		hint = fmt.Sprintf("did you mean %q?", n)
	}
	t.report(term.Location, rule.Location, true, fmt.Sprintf("no %s has %s.%s, so the test evaluates an input that no %s has", t.unit.Subject.noun(), strings.ReplaceAll(where, ".*", "[_]"), name, t.unit.Subject.sender()), hint)
	return false
}

// value judges the value of a part of the input, through names, functions and
// object.union.
func (t *testFiles) value(at string, term *ast.Term, rule *ast.Rule, depth int) {
	if t.steps++; depth > maxInputDepth || t.steps > maxInputSteps {
		return
	}
	switch v := term.Value.(type) {
	case ast.Object:
		t.object(at, term, v, rule, depth)
	case ast.Var:
		for _, e := range rule.Body {
			if e.IsAssignment() && len(e.Operands()) == 2 && e.Operand(0).Equal(term) {
				t.value(at, e.Operand(1), rule, depth+1)
			}
		}
	case ast.Ref:
		t.rulesOf(at, v, depth)
	case ast.Call:
		t.call(at, v, rule, depth)
	case *ast.Array:
		t.literal(at, term, rule)
		if t.unit.fieldType(at+".*") != "" {
			v.Foreach(func(member *ast.Term) { t.value(at+".*", member, rule, depth+1) })
		}
	case ast.String, ast.Number, ast.Boolean, ast.Null, ast.Set:
		t.literal(at, term, rule)
	}
}

func (t *testFiles) object(at string, term *ast.Term, object ast.Object, rule *ast.Rule, depth int) {
	if want := t.unit.fieldType(at); at != "" && want != "object" {
		t.wrongType(at, want, term, rule)
		return
	}
	object.Foreach(func(k, sub *ast.Term) {
		if name, ok := k.Value.(ast.String); ok {
			below := strings.TrimPrefix(at+"."+string(name), ".")
			if t.field(below, k, rule) {
				t.value(below, sub, rule, depth+1)
			}
		}
	})
}

func (t *testFiles) call(at string, call ast.Call, rule *ast.Rule, depth int) {
	ref, ok := call[0].Value.(ast.Ref)
	if !ok {
		return
	}
	if ref.String() != ast.ObjectUnion.Name {
		t.rulesOf(at, ref, depth)
		return
	}
	for _, operand := range call[1:] {
		t.value(at, operand, rule, depth+1)
	}
}

// literal judges a value that is not an object.
func (t *testFiles) literal(at string, term *ast.Term, rule *ast.Rule) {
	want := t.unit.fieldType(at)
	if at == "" {
		want = "object"
	}
	if want == "" {
		return
	}
	if typeOf(term.Value) != want {
		t.wrongType(at, want, term, rule)
		return
	}
	if m := t.unit.fieldValue(at, term); !m.none() && !m.warning {
		t.report(term.Location, rule.Location, true, m.message+", so the test evaluates an input that no "+t.unit.Subject.sender()+" has", m.hint)
	}
}

func (t *testFiles) wrongType(at, want string, term *ast.Term, rule *ast.Rule) {
	where := strings.TrimSuffix(fieldText(at), ".")
	t.report(term.Location, rule.Location, true, fmt.Sprintf("%s is %s and not %s, so the test evaluates an input that no %s has", where, typeNames[want], typeName(term.Value), t.unit.Subject.sender()), "write it as "+typeNames[want])
}

// rulesOf judges the values of the test files' rules and functions of one name.
func (t *testFiles) rulesOf(at string, ref ast.Ref, depth int) {
	for _, pkg := range []ast.Ref{t.pkg, t.unit.Package} {
		if len(ref) != len(pkg)+1 || !ref.HasPrefix(pkg) {
			continue
		}
		name, ok := ref[len(pkg)].Value.(ast.String)
		if !ok {
			continue
		}
		for _, rule := range t.rules[string(name)] {
			if rule.Head.Value != nil && rule.Head.Key == nil {
				t.value(at, rule.Head.Value, rule, depth+1)
			}
		}
	}
}

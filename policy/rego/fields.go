package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// read is one place where a rule reads a path below the input or below data.
type read struct {
	root    string   // "input", or "data"
	path    []string // "*" where the name is not literal
	at      *ast.Location
	head    bool // in the rule's head
	negated bool // under a not, where an absent field is not a trap
	inside  bool // in a comprehension, or through object.get: absence yields no result, not an undefined one
	call    bool // data: a function is called
}

// fields finds the fields of the input that rules read, directly and through the rules
// that they refer to.
type fields struct {
	domain *domain
	rules  map[string][]*ast.Rule // by full name: data.sallyport.egress.helper
}

func newFields(d *domain, modules map[string]*ast.Module) *fields {
	f := &fields{domain: d, rules: map[string][]*ast.Rule{}}
	for _, m := range modules {
		for _, rule := range m.Rules {
			name := strings.TrimPrefix(m.Package.Path.String(), "data.") + "." + check.RuleName(rule)
			f.rules[name] = append(f.rules[name], rule)
		}
	}
	return f
}

// referred returns the rules behind a path below data.
func (f *fields) referred(path []string) []*ast.Rule {
	for n := len(path); n > 0; n-- {
		ref := ast.Ref{ast.DefaultRootDocument}
		for _, p := range path[:n-1] {
			ref = ref.Append(ast.StringTerm(p))
		}
		if rules := f.rules[strings.TrimPrefix(ref.String(), "data.")+"."+path[n-1]]; rules != nil {
			return rules
		}
	}
	return nil
}

// readsOf lists what one rule reads, in the order of its text. A variable that was
// assigned a part of the input counts as that part.
func readsOf(rule *ast.Rule) []read {
	c := &collector{aliases: map[ast.Var][]string{}}
	ast.WalkExprs(rule.Body, func(e *ast.Expr) bool {
		if !e.IsAssignment() && !e.IsEquality() || len(e.Operands()) != 2 {
			return false
		}
		name, isVar := e.Operand(0).Value.(ast.Var)
		ref, isRef := e.Operand(1).Value.(ast.Ref)
		if isVar && isRef {
			if root, path, ok := c.path(ref); ok && root == "input" {
				c.aliases[name] = path
			}
		}
		return false
	})
	head := *c
	head.state.head = true
	for _, t := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if t != nil {
			head.visit(t)
		}
	}
	c.reads = head.reads
	c.visit(rule.Body)
	return c.reads
}

type collector struct {
	aliases map[ast.Var][]string
	state   read // at the present position of the walk
	reads   []read
}

func (c *collector) visit(x any) { ast.NewGenericVisitor(c.step).Walk(x) }

// in walks x with a changed state, and stops the outer walk there.
func (c *collector) in(x any, change func(*read)) bool {
	old := c.state
	change(&c.state)
	c.visit(x)
	c.state = old
	return true
}

func (c *collector) step(x any) bool {
	switch x := x.(type) {
	case *ast.Expr:
		if x.Negated && !c.state.negated {
			positive := x.Copy()
			positive.Negated = false
			return c.in(positive, func(r *read) { r.negated = true })
		}
		if x.IsCall() {
			c.call(x.OperatorTerm(), x.Operands())
		}
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		if !c.state.inside {
			return c.in(x, func(r *read) { r.inside = true })
		}
	case *ast.Term:
		switch v := x.Value.(type) {
		case ast.Call:
			c.call(v[0], v[1:])
		case ast.Ref:
			c.ref(v, x.Location, false)
		}
	}
	return false
}

// call collects object.get, which reads a field without needing it, and calls of functions
// that are rules.
func (c *collector) call(operator *ast.Term, operands []*ast.Term) {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return
	}
	if ref.HasPrefix(ast.DefaultRootRef) {
		c.ref(ref, operator.Location, true)
		return
	}
	if ref.String() != ast.ObjectGet.Name || len(operands) < 2 {
		return
	}
	object, ok := operands[0].Value.(ast.Ref)
	if !ok {
		return
	}
	root, path, ok := c.path(object)
	if !ok {
		return
	}
	path = slices.Clone(path)
	switch key := operands[1].Value.(type) {
	case ast.String:
		path = append(path, string(key))
	case *ast.Array:
		key.Foreach(func(t *ast.Term) { path = append(path, literal(t)) })
	default:
		path = append(path, "*")
	}
	r := c.state
	r.root, r.path, r.at, r.inside = root, path, operands[0].Location, true
	c.reads = append(c.reads, r)
}

func (c *collector) ref(ref ast.Ref, at *ast.Location, call bool) {
	root, path, ok := c.path(ref)
	if !ok {
		return
	}
	r := c.state
	r.root, r.path, r.at, r.call = root, path, at, call
	c.reads = append(c.reads, r)
}

// path turns a reference into the path that it reads.
func (c *collector) path(ref ast.Ref) (root string, path []string, ok bool) {
	name, ok := ref[0].Value.(ast.Var)
	if !ok {
		return "", nil, false
	}
	switch name {
	case "input", "data":
		root = string(name)
	default:
		base, ok := c.aliases[name]
		if !ok {
			return "", nil, false
		}
		root, path = "input", slices.Clone(base)
	}
	for _, t := range ref[1:] {
		path = append(path, literal(t))
	}
	return root, path, true
}

func literal(t *ast.Term) string {
	if s, ok := t.Value.(ast.String); ok {
		return string(s)
	}
	return "*"
}

// covers reports whether a read of path may be a read of the field, or of
// something below it.
func covers(path []string, field string) bool {
	parts := strings.Split(field, ".")
	for i, p := range parts {
		if i >= len(path) || path[i] != p && path[i] != "*" {
			return false
		}
	}
	return true
}

// absentField returns the field on the path that a request may lack.
func (d *domain) absentField(path []string) (field, without string) {
	for _, a := range d.optional {
		if covers(path, a.Path) {
			return a.Path, a.Without
		}
	}
	return "", ""
}

package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds on what is followed, so that a check takes time in proportion to the files.
const (
	maxOrigins = 64 // of one name
	maxSteps   = 32 // into a document or literal
	maxFollow  = 200
)

// The steps of an origin that are not a literal name.
const (
	anyValue = "*"
	anyKey   = "\x00key"
)

// origin is the source of a term's value, as far as the text shows: a field of the input,
// a document, or a literal.
type origin struct {
	field    string    // below input; empty: another origin
	document bool      // steps begin at data
	term     *ast.Term // of a literal
	steps    []string  // into the document or literal
	member   bool      // the value is a member of the term's value: a comprehension or a set of rules
}

// step is the origin of a part of the value.
func (o origin) step(name string) (origin, bool) {
	switch {
	case o.member && (name == anyValue || name == anyKey):
		o.member = false
		return o, true
	case o.member:
		return o, false
	case o.field != "":
		if name == anyKey {
			return o, false
		}
		o.field += "." + name
		return o, true
	case len(o.steps) >= maxSteps:
		return o, false
	}
	o.steps = append(slices.Clip(o.steps), name)
	return o, true
}

// rules are a unit's rules with the origins of their names.
type rules struct {
	unit   *Unit
	byName map[string][]*ast.Rule
	scopes map[*ast.Rule]*scope
	calls  map[string][]callSite // by the name of a function of the unit
	values map[string][]origin   // of rules
	busy   map[string]bool
	depth  int

	asked, guards bool // whether a rule asks if a host is an address
}

type callSite struct {
	scope    *scope
	operands []*ast.Term
}

// scope is the names of one rule. A name in two closures counts as one name with the
// origins of both.
type scope struct {
	rules    *rules
	rule     *ast.Rule
	bindings map[ast.Var][]binding
	memo     map[ast.Var][]origin
	busy     map[ast.Var]bool
}

type binding struct {
	scope *scope
	term  *ast.Term
	step  string // of the term's value; empty: itself
}

func newRules(u *Unit) *rules {
	r := &rules{unit: u, byName: map[string][]*ast.Rule{}, scopes: map[*ast.Rule]*scope{},
		calls: map[string][]callSite{}, values: map[string][]origin{}, busy: map[string]bool{}}
	each := func(f func(*ast.Rule)) {
		for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
			for _, rule := range u.Resolved[path].Rules {
				for at := rule; at != nil; at = at.Else {
					f(at)
				}
			}
		}
	}
	each(func(rule *ast.Rule) {
		name := RuleName(rule)
		r.byName[name] = append(r.byName[name], rule)
		r.scopes[rule] = &scope{rules: r, rule: rule, bindings: map[ast.Var][]binding{}, memo: map[ast.Var][]origin{}, busy: map[ast.Var]bool{}}
	})
	each(func(rule *ast.Rule) { r.scopes[rule].collect() })
	each(func(rule *ast.Rule) {
		sites := r.calls[RuleName(rule)]
		for i, arg := range rule.Head.Args {
			v, ok := arg.Value.(ast.Var)
			if !ok {
				continue
			}
			for _, site := range sites[:min(len(sites), maxOrigins)] {
				if i < len(site.operands) {
					r.scopes[rule].bind(v, binding{site.scope, site.operands[i], ""})
				}
			}
		}
	})
	return r
}

func (s *scope) bind(v ast.Var, b binding) {
	if !v.IsWildcard() && len(s.bindings[v]) < maxOrigins {
		s.bindings[v] = append(s.bindings[v], b)
	}
}

// collect records the expressions that give the names of the rule a value, and the
// functions that it calls.
func (s *scope) collect() {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Rule:
			return x != s.rule // an else is a rule of its own here
		case *ast.Every:
			s.iterate(x.Key, x.Value, x.Domain)
		case *ast.SomeDecl:
			for _, symbol := range x.Symbols {
				call, ok := symbol.Value.(ast.Call)
				switch {
				case ok && len(call) == 3:
					s.iterate(nil, call[1], call[2])
				case ok && len(call) == 4:
					s.iterate(call[1], call[2], call[3])
				}
			}
		case *ast.Expr:
			if x.IsCall() {
				s.call(x.OperatorTerm(), x.Operands())
			}
		case *ast.Term:
			switch v := x.Value.(type) {
			case ast.Call:
				s.call(v[0], v[1:])
			case ast.Ref:
				s.keys(v)
			}
		}
		return false
	}).Walk(s.rule)
}

func (s *scope) iterate(key, value, domain *ast.Term) {
	if key != nil {
		if v, ok := key.Value.(ast.Var); ok {
			s.bind(v, binding{s, domain, anyKey})
		}
	}
	if value != nil {
		if v, ok := value.Value.(ast.Var); ok {
			s.bind(v, binding{s, domain, anyValue})
		}
	}
}

// keys records that data.hosts[host] gives host the keys of data.hosts.
func (s *scope) keys(ref ast.Ref) {
	for i, t := range ref {
		if v, ok := t.Value.(ast.Var); ok && i > 0 && !v.IsWildcard() {
			s.bind(v, binding{s, &ast.Term{Value: ref[:i], Location: t.Location}, anyKey})
		}
	}
}

func (s *scope) call(operator *ast.Term, operands []*ast.Term) {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return
	}
	if isEquation(ref) && len(operands) == 2 {
		for i, t := range operands {
			if v, ok := t.Value.(ast.Var); ok {
				s.bind(v, binding{s, operands[1-i], ""})
			}
		}
		return
	}
	if name, whole, ok := s.rules.unit.ownName(ref); ok && !whole {
		s.rules.calls[name] = append(s.rules.calls[name], callSite{s, operands})
	}
}

func isEquation(operator ast.Ref) bool {
	switch operator.String() {
	case ast.Equality.Name, ast.Assign.Name:
		return true
	}
	return false
}

// origins are the origins of a term's value; none if they are not known.
func (s *scope) origins(t *ast.Term) []origin {
	if s.rules.depth >= maxFollow {
		return nil
	}
	s.rules.depth++
	defer func() { s.rules.depth-- }()
	switch v := t.Value.(type) {
	case ast.Var:
		return s.variable(v)
	case ast.Ref:
		return s.reference(v)
	case ast.Call:
		return s.result(v)
	case *ast.ArrayComprehension:
		return membersOf(s.origins(v.Term))
	case *ast.SetComprehension:
		return membersOf(s.origins(v.Term))
	case *ast.ObjectComprehension:
		return membersOf(s.origins(v.Key))
	case *ast.TemplateString:
		return nil
	}
	return []origin{{term: t}}
}

// membersOf are the origins of a collection with these members.
func membersOf(list []origin) []origin {
	var collections []origin
	for _, o := range list {
		if !o.member {
			o.member = true
			collections = append(collections, o)
		}
	}
	return collections
}

func (s *scope) variable(v ast.Var) []origin {
	if found, ok := s.memo[v]; ok || s.busy[v] {
		return found
	}
	s.busy[v] = true
	var found []origin
	for _, b := range s.bindings[v] {
		for _, o := range b.scope.origins(b.term) {
			ok := true
			if b.step != "" {
				o, ok = o.step(b.step)
			}
			if ok && len(found) < maxOrigins {
				found = append(found, o)
			}
		}
	}
	delete(s.busy, v)
	s.memo[v] = found
	return found
}

func (s *scope) reference(ref ast.Ref) []origin {
	var found []origin
	rest := ref[1:]
	switch head := ref[0].Value.(type) {
	case ast.Var:
		switch {
		case head.Equal(ast.InputRootDocument.Value):
			if len(rest) == 0 {
				return nil
			}
			return []origin{{field: strings.Join(stepsOf(rest), ".")}}
		case head.Equal(ast.DefaultRootDocument.Value):
			if name, whole, own := s.rules.unit.ownName(ref); own {
				if whole {
					return nil
				}
				found, rest = s.rules.value(name), ref[len(s.rules.unit.Package)+1:]
				break
			}
			if len(rest) == 0 || len(rest) > maxSteps || rest[0].Equal(ast.StringTerm("sallyport")) {
				return nil
			}
			return []origin{{document: true, steps: stepsOf(rest)}}
		default:
			found = s.variable(head)
		}
	default:
		found = s.origins(ref[0])
	}
	return along(found, stepsOf(rest))
}

func stepsOf(rest ast.Ref) []string {
	steps := make([]string, 0, len(rest))
	for _, t := range rest {
		if name, ok := t.Value.(ast.String); ok {
			steps = append(steps, string(name))
		} else {
			steps = append(steps, anyValue)
		}
	}
	return steps
}

func along(list []origin, steps []string) []origin {
	var found []origin
next:
	for _, o := range list {
		for _, name := range steps {
			var ok bool
			if o, ok = o.step(name); !ok {
				continue next
			}
		}
		found = append(found, o)
	}
	return found
}

// value is the origins of the value of a rule of the unit.
func (r *rules) value(name string) []origin {
	if found, ok := r.values[name]; ok || r.busy[name] {
		return found
	}
	r.busy[name] = true
	var found []origin
	for _, rule := range r.byName[name] {
		if len(rule.Head.Ref()) != 1 && rule.Head.Key == nil || len(rule.Head.Args) > 0 || len(found) >= maxOrigins {
			continue
		}
		switch {
		case rule.Head.RuleKind() == ast.MultiValue:
			found = append(found, membersOf(r.scopes[rule].origins(rule.Head.Key))...)
		case rule.Head.Value != nil && rule.Head.Key == nil:
			found = append(found, r.scopes[rule].origins(rule.Head.Value)...)
		}
	}
	delete(r.busy, name)
	r.values[name] = found
	return found
}

// result is the origins of the result of a builtin that returns its operands.
func (s *scope) result(call ast.Call) []origin {
	name, operands := call[0].String(), call[1:]
	switch name {
	case ast.Or.Name, ast.Or.Infix, ast.ArrayConcat.Name, ast.ObjectUnion.Name:
		var found []origin
		for _, t := range operands {
			found = append(found, s.origins(t)...)
		}
		return found
	case ast.Minus.Name, ast.Minus.Infix, ast.Lower.Name, ast.TrimSpace.Name, ast.ObjectRemove.Name, ast.Sort.Name:
		return s.origins(operands[0])
	case ast.ObjectGet.Name:
		if len(operands) != 3 {
			return nil
		}
		var steps []string
		switch key := operands[1].Value.(type) {
		case ast.String:
			steps = []string{string(key)}
		case *ast.Array:
			key.Foreach(func(t *ast.Term) { steps = append(steps, stepsOf(ast.Ref{t})...) })
		default:
			steps = []string{anyValue}
		}
		return append(along(s.origins(operands[0]), steps), s.origins(operands[2])...)
	}
	return nil
}

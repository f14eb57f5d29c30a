package check

import "github.com/open-policy-agent/opa/v1/ast"

// term is the result of a term.
func (m *machine) term(t *ast.Term, scope *names) result {
	switch v := t.Value.(type) {
	case ast.Var:
		r, _ := scope.get(v)
		return r
	case ast.Ref:
		r := m.ref(v, scope)
		if r.kind == isUndefined && r.at == nil {
			r.at = t.Location
		}
		return r
	case ast.Call:
		return m.callTerm(v, scope)
	case *ast.ArrayComprehension:
		return m.comprehension(v.Body, scope, ast.NewArray())
	case *ast.SetComprehension:
		return m.comprehension(v.Body, scope, ast.NewSet())
	case *ast.ObjectComprehension:
		return m.comprehension(v.Body, scope, ast.NewObject())
	case *ast.Array:
		return m.collection(t, v.Until, scope)
	case ast.Set:
		return m.collection(t, v.Until, scope)
	case ast.Object:
		return m.collection(t, func(f func(*ast.Term) bool) bool {
			return v.Until(func(k, sub *ast.Term) bool { return f(k) || f(sub) })
		}, scope)
	case *ast.TemplateString:
		return definedResult
	}
	return known(t.Value)
}

// callTerm is the result of a call within a term, if its arguments have values.
func (m *machine) callTerm(call ast.Call, scope *names) result {
	args := make([]result, 0, len(call)-1)
	for _, a := range call[1:] {
		r := m.term(a, scope)
		if r.kind == isUndefined {
			return r
		}
		args = append(args, r)
	}
	return m.call(call[0].String(), args)
}

// comprehension always has a value: an empty one if its body never holds.
func (m *machine) comprehension(body ast.Body, scope *names, empty ast.Value) result {
	if r, _ := m.body(body, scope); r.kind == isUndefined {
		return known(empty)
	}
	return definedResult
}

// collection is a literal with members; until visits them.
func (m *machine) collection(t *ast.Term, until func(func(*ast.Term) bool) bool, scope *names) result {
	if t.IsGround() && !hasReferences(t) {
		return known(t.Value)
	}
	whole := definedResult
	until(func(member *ast.Term) bool {
		r := m.term(member, scope)
		switch {
		case r.kind == isUndefined:
			whole = r
			return true
		case r.kind == isUnknown:
			whole = unknownResult
		}
		return false
	})
	return whole
}

// hasReferences reports whether a literal contains a term that has to be evaluated.
func hasReferences(t *ast.Term) bool {
	found := false
	ast.WalkTerms(t, func(t *ast.Term) bool {
		found = found || unknown(t)
		return found
	})
	return found
}

func (m *machine) ref(ref ast.Ref, scope *names) result {
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return m.along(m.term(ref[0], scope), ref[1:], scope)
	}
	switch {
	case head.Equal(ast.InputRootDocument.Value):
		return m.inputRef(ref[1:])
	case head.Equal(ast.DefaultRootDocument.Value):
		return m.dataRef(ref, scope)
	}
	r, _ := scope.get(head)
	return m.along(r, ref[1:], scope)
}

func (m *machine) inputRef(rest ast.Ref) result {
	path := []string{}
	for _, t := range rest {
		name, ok := t.Value.(ast.String)
		if !ok {
			return unknownResult
		}
		path = append(path, string(name))
	}
	if m.isAbsent(path) {
		return undefinedResult
	}
	return result{kind: isUnknown, input: path}
}

// dataRef is the result of a rule, or of a document, of which nothing is known.
func (m *machine) dataRef(ref ast.Ref, scope *names) result {
	for n := len(ref); n > 1; n-- {
		if !ref[:n].IsGround() {
			continue
		}
		name := ref[:n].String()
		if len(m.rules[name]) == 0 {
			continue
		}
		if len(m.rules[name][0].Head.Args) > 0 {
			return unknownResult
		}
		r := m.rule(name)
		r.at = nil // the place is that of the reference
		return m.along(r, ref[n:], scope)
	}
	for _, t := range ref[1:] { // what stands in the brackets has to have a value
		if r := m.term(t, scope); r.kind == isUndefined {
			return r
		}
	}
	return unknownResult
}

// along is the result of a part of a value.
func (m *machine) along(r result, rest ast.Ref, scope *names) result {
	for _, t := range rest {
		if r.kind == isUndefined {
			return r
		}
		if step := m.term(t, scope); step.kind == isUndefined {
			return step
		}
		if isEmpty(r) {
			return undefinedResult
		}
		name, literal := t.Value.(ast.String)
		if r.input == nil || !literal {
			r = unknownResult
			continue
		}
		r = result{kind: isUnknown, input: append(r.input[:len(r.input):len(r.input)], string(name))}
		if m.isAbsent(r.input) {
			return undefinedResult
		}
	}
	return r
}

// rule is the result of all rules of a name.
func (m *machine) rule(name string) result {
	if r, ok := m.memo[name]; ok {
		return r
	}
	if m.busy[name] {
		return unknownResult
	}
	m.busy[name] = true
	defer delete(m.busy, name)
	r := m.definitions(m.rules[name])
	m.memo[name] = r
	return r
}

// definitions is the result of all rules of one name together.
func (m *machine) definitions(list []*ast.Rule) result {
	all := undefinedResult
	var byDefault *result
	var empty ast.Value
	for _, rule := range list {
		if rule.Default {
			r := m.term(rule.Head.Value, &names{})
			byDefault = &r
			continue
		}
		if e := emptyCollection(rule); e != nil {
			empty = e
		}
		all = either(all, m.chain(rule))
	}
	switch {
	case empty != nil && all.kind == isUndefined:
		return known(empty)
	case empty != nil:
		return definedResult // an empty set is a value
	case byDefault != nil && all.kind == isUndefined:
		return *byDefault
	case byDefault != nil && all.kind == isUnknown && byDefault.kind == isKnown:
		return unknownResult
	}
	return all
}

// emptyCollection is the value of a partial rule without members; nil for another rule.
func emptyCollection(rule *ast.Rule) ast.Value {
	switch {
	case rule.Head.RuleKind() == ast.MultiValue:
		return ast.NewSet()
	case len(rule.Head.Ref()) > 1:
		return ast.NewObject()
	}
	return nil
}

// either is the result of rules of one name: a of some, and b of another one.
func either(a, b result) result {
	switch {
	case a.kind == isUndefined && (b.kind != isUndefined || a.at == nil):
		return b
	case a.kind == isUndefined, b.kind == isUndefined:
		return a
	case a.kind == isUnknown && b.kind == isUnknown:
		return a
	case a.kind == isKnown && b.kind == isKnown && a.value.Compare(b.value) == 0:
		return a
	}
	return definedResult
}

// chain is the result of a rule with its else branches.
func (m *machine) chain(rule *ast.Rule) result {
	never := undefinedResult
	some := false
	for r := rule; r != nil; r = r.Else {
		body, scope := m.body(r.Body, &names{of: map[ast.Var]result{}})
		if body.kind == isUndefined {
			if never.at == nil {
				never.at = body.at
			}
			continue
		}
		if body.kind == isUnknown || some {
			some = true
			continue
		}
		return m.headValue(r, scope)
	}
	if some {
		return unknownResult
	}
	return never
}

func (m *machine) headValue(r *ast.Rule, scope *names) result {
	if r.Head.Value == nil || r.Head.RuleKind() == ast.MultiValue || len(r.Head.Ref()) > 1 {
		return definedResult
	}
	return m.term(r.Head.Value, scope)
}

package rego

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// Explain evaluates the policy for an input as [Set.Replay] does. It returns for each rule
// whether it matched, and if not, which of its conditions did not hold. An error is that
// of the evaluation; the explanation then holds as much as is known. Safe for concurrent
// use.
func (s *Set) Explain(ctx context.Context, input []byte) (*Explanation, error) {
	x := &Explanation{}
	var err error
	if x.Decision, err = s.Replay(ctx, input); err != nil {
		return x, err
	}
	in, err := recordedInput(input, s.loader.options.Names)
	if err != nil {
		return x, err
	}
	own, err := s.program(in.repository)
	if err != nil && !deniedByRule(x.Decision) {
		return x, err
	}
	var organization, repository results
	if p := s.organization; p != nil && len(p.sets) > 0 {
		if organization, x.Rules, err = s.loader.fork().explain(ctx, p, s.loader.organization.part(egress), in); err != nil {
			return x, err
		}
	}
	if own != nil {
		var rules []Explained
		// The organization's deny does not depend on the repository's rules.
		if repository, rules, err = own.explain(ctx, input); err != nil && !deniedByRule(x.Decision) {
			return x, err
		}
		x.Rules = append(x.Rules, rules...)
	}
	for i := range x.Rules {
		x.Rules[i].Ignored = ignored(&x.Rules[i], organization, repository, in)
	}
	slices.SortStableFunc(x.Rules, func(a, b Explained) int { return setOrder(a.Set) - setOrder(b.Set) })
	return x, nil
}

// explain evaluates a program with a tracer.
func (l *loader) explain(ctx context.Context, p *program, u *part, in *evalInput) (r results, rules []Explained, err error) {
	in.everyRule = true
	tracer := newRuleTracer(u)
	err = recovered("explaining "+p.name, func() (err error) {
		r, err = p.run(ctx, in, explainDeadline, tracer)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	rules, err = l.explained(u, tracer, in)
	return r, rules, err
}

func setOrder(set string) int {
	return slices.Index([]string{setDeny, setAllow, setDelegate, setReport, setRoute}, set)
}

// ignored returns why a rule that matched does not count, by the rules of combine; "" if
// it counts.
func ignored(e *Explained, organization, repository results, in *evalInput) string {
	if !e.Matched || e.Set != setAllow {
		return ""
	}
	entries := organization[setAllow]
	if e.Repository != "" {
		if len(organization[setDelegate]) == 0 {
			return "the organization does not delegate for this: no rule of delegate matched"
		}
		entries = repository[setAllow]
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(o entry) bool { return o.rule != e.Rule })
	if len(counting(entries, in)) > 0 || len(entries) == 0 {
		return ""
	}
	if end := entries[0].expires; !end.IsZero() && !in.time.Before(end) {
		return "it expired at " + end.Format(time.RFC3339)
	}
	return `the target is an IP address, and it does not set "allow_ip_literal": true`
}

// ruleTracer records how far the evaluation of each rule of a unit's sets came. Rules are
// identified by their location, because compiling copies them.
type ruleTracer struct {
	domain  *domain
	pkg     ast.Ref
	queries map[uint64]string // the query of a rule's body, by its place
	far     map[string]*ast.Expr
	matched map[string]bool
}

func newRuleTracer(u *part) *ruleTracer {
	return &ruleTracer{domain: u.domain, pkg: u.pkg(), queries: map[uint64]string{}, far: map[string]*ast.Expr{}, matched: map[string]bool{}}
}

func (*ruleTracer) Enabled() bool               { return true }
func (*ruleTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (t *ruleTracer) TraceEvent(e topdown.Event) {
	switch node := e.Node.(type) {
	case *ast.Rule:
		if node.Module == nil || !node.Module.Package.Path.Equal(t.pkg) || !t.domain.isSet(check.RuleName(node)) {
			return
		}
		switch e.Op {
		case topdown.EnterOp:
			t.queries[e.QueryID] = spot(node.Location)
		case topdown.ExitOp:
			t.matched[spot(node.Location)] = true
		}
	case *ast.Expr:
		rule, ours := t.queries[e.QueryID]
		if !ours || e.Op != topdown.EvalOp {
			return
		}
		if far := t.far[rule]; far == nil || node.Index > far.Index {
			t.far[rule] = node
		}
	}
}

func spot(l *ast.Location) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", l.File, l.Row, l.Col)
}

// explained lists the rules of a unit's sets in the order of the files, with the outcome
// of each.
func (l *loader) explained(u *part, tracer *ruleTracer, in *evalInput) ([]Explained, error) {
	var list []Explained
	for _, src := range u.files {
		if src.test {
			continue
		}
		module, err := l.parse(src)
		if err != nil {
			return nil, err
		}
		for _, rule := range module.Rules {
			entry, ok := keyObject(rule.Head)
			if !ok || !u.domain.isSet(check.RuleName(rule)) {
				continue
			}
			e := Explained{
				Set: check.RuleName(rule), Repository: u.repository, File: rule.Location.File, Line: rule.Location.Row,
				Matched: tracer.matched[spot(rule.Location)],
			}
			if id := entry.Get(ast.StringTerm("rule")); id != nil {
				e.Rule, _ = text(id.Value)
			}
			if !e.Matched {
				e.Failed = condition(rule, tracer.far[spot(rule.Location)], in)
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// condition finds the expression of a rule's text that a compiled expression was made of:
// compiling splits expressions and gives each part the location of the original.
func condition(rule *ast.Rule, failed *ast.Expr, in *evalInput) *Condition {
	if failed == nil || failed.Location == nil {
		return &Condition{File: rule.Location.File, Line: rule.Location.Row, Text: strings.TrimSpace(string(rule.Head.Location.Text))}
	}
	var found *ast.Expr
	for _, e := range rule.Body {
		if e.Location != nil && e.Location.Offset <= failed.Location.Offset && failed.Location.Offset < e.Location.Offset+max(1, len(e.Location.Text)) {
			found = e
		}
	}
	if found == nil {
		return &Condition{File: failed.Location.File, Line: failed.Location.Row, Text: oneLine(string(failed.Location.Text))}
	}
	return &Condition{File: found.Location.File, Line: found.Location.Row, Text: oneLine(string(found.Location.Text)), Read: valuesRead(found, in)}
}

// maxShown bounds what is quoted of a policy or an input.
const maxShown = 300

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + " …"
	}
	return s
}

// valuesRead are the parts of the input that an expression names.
func valuesRead(e *ast.Expr, in *evalInput) []Value {
	var list []Value
	ast.WalkRefs(e, func(ref ast.Ref) bool {
		if !ref.HasPrefix(ast.InputRootRef) || len(ref) < 2 {
			return false
		}
		ref = ref.GroundPrefix()
		v := Value{Path: ref.String(), Absent: true}
		if slices.ContainsFunc(list, func(o Value) bool { return o.Path == v.Path }) {
			return false
		}
		if value, err := in.value().Value.Find(ref[1:]); err == nil {
			v.Absent, v.Value = false, oneLine(value.String())
		}
		list = append(list, v)
		return false
	})
	return list
}

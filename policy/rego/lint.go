package rego

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// lintHosts looks at the hosts that a rule writes out: patterns given to the
// library, and what input.target.host is compared with.
func (l *loader) lintHosts(rule *ast.Rule) {
	ast.WalkExprs(rule, func(e *ast.Expr) bool {
		if e.IsCall() {
			l.lintCall(rule, e.OperatorTerm(), e.Operands())
		}
		return false
	})
	ast.WalkTerms(rule, func(t *ast.Term) bool {
		if call, ok := t.Value.(ast.Call); ok {
			l.lintCall(rule, call[0], call[1:])
		}
		return false
	})
}

func (l *loader) lintCall(rule *ast.Rule, operator *ast.Term, operands []*ast.Term) {
	if len(operands) < 2 {
		return
	}
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return
	}
	switch ref.String() {
	case "data.sallyport.lib.host_in":
		eachString(operands[1], func(t *ast.Term, s string) { l.lintPattern(rule, t, s, true) })
	case "data.sallyport.lib.target_in":
		eachString(operands[1], func(t *ast.Term, s string) { l.lintPattern(rule, t, withoutPort(s), true) })
	case ast.Equality.Name, ast.Equal.Name, ast.Assign.Name, ast.Member.Name:
		if isHost(operands[0]) {
			eachString(operands[1], func(t *ast.Term, s string) { l.lintPattern(rule, t, s, false) })
		} else if isHost(operands[1]) {
			eachString(operands[0], func(t *ast.Term, s string) { l.lintPattern(rule, t, s, false) })
		}
	}
}

func isHost(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && ref.String() == "input.target.host"
}

// withoutPort takes the port off an entry of target_in.
func withoutPort(s string) string {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	if strings.Count(s, ":") == 1 {
		host, _, _ := strings.Cut(s, ":")
		return host
	}
	return s
}

// eachString calls f for a literal string, and for those in a literal collection:
// the members of a set or list, the keys of an object.
func eachString(t *ast.Term, f func(*ast.Term, string)) {
	one := func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok {
			f(t, string(s))
		}
	}
	switch v := t.Value.(type) {
	case ast.String:
		one(t)
	case *ast.Array:
		v.Foreach(one)
	case ast.Set:
		v.Foreach(one)
	case ast.Object:
		v.Foreach(func(k, _ *ast.Term) { one(k) })
	}
}

// lintPattern refuses a bare *, which reads as "everything" and matches nothing,
// and warns of what can never be a target's host.
func (l *loader) lintPattern(rule *ast.Rule, t *ast.Term, s string, patterns bool) {
	if s == "*" {
		l.fail(at(t.Location, rule.Location, "a bare * is no host pattern",
			"name the hosts; a rule for every host just does not look at input.target.host"))
		return
	}
	name := s
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		if !patterns {
			l.warn(at(t.Location, rule.Location, fmt.Sprintf("%q is compared as it stands and never matches", s), "use data.sallyport.lib.host_in for patterns"))
			return
		}
		name = rest
	}
	if why, write := neverMatches(name); why != "" {
		l.warn(at(t.Location, rule.Location, fmt.Sprintf("%q never matches: %s", s, why), write))
	}
}

// neverMatches says why a string can never be a canonical host.
func neverMatches(s string) (why, write string) {
	if strings.ContainsAny(s, ":") {
		if a, err := netip.ParseAddr(s); err == nil && a.String() == s {
			return "", ""
		}
		return "a host has no scheme and no port", "write the host alone, and compare input.target.port"
	}
	switch {
	case s == "":
		return "it is empty", "write a host name"
	case strings.ContainsAny(s, "*"):
		return "a * stands only at the beginning, before a dot", "write *.example.com"
	case strings.HasSuffix(s, "."):
		return "a host has no dot at its end", "write " + strings.TrimRight(s, ".")
	case strings.HasPrefix(s, "."):
		return "a host does not begin with a dot", "write *" + s + " with data.sallyport.lib.host_in"
	case s != strings.ToLower(s):
		return "a host is in lower case", "write " + strings.ToLower(s)
	case strings.ContainsAny(s, "/ \t"):
		return "a host has no path and no space", "write the host alone"
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			return "a host is written in A-labels", "write it as xn--…"
		}
	}
	return "", ""
}

// lintFormat warns of files that are not formatted as OPA does it.
func (l *loader) lintFormat() {
	for _, u := range l.units() {
		for _, s := range u.sources {
			formatted, err := Format(s.path, s.content)
			if errs, _ := errors.AsType[Errors](err); len(errs) == 1 && errs[0] == inTheWay(s.path) {
				l.warn(errs[0])
			}
			if err == nil && !bytes.Equal(formatted, s.content) {
				l.warn(Error{File: s.path, Line: firstDifference(formatted, s.content), Message: "the file is not formatted", Hint: "run sallyport policy fmt"})
			}
		}
	}
}

func firstDifference(a, b []byte) int {
	line := 1
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			break
		}
		if a[i] == '\n' {
			line++
		}
	}
	return line
}

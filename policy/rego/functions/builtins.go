package functions

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	"github.com/open-policy-agent/opa/v1/types"
)

// Most rules call the library's two functions about hosts, its function about exceptions
// visits the exceptions of all repositories, and those about time determine how long a
// decision holds: for decisions they are implemented in Go. The text of the library defines
// their meaning: tests of a policy, editors and plain OPA evaluate it, and FuzzNativeHosts
// and FuzzNativeTime compare the two. Only this exact text is replaced: a policy that was
// recorded with another library is evaluated with that one.

// nativeFiles are the files of the library that are replaced in part, by function.
var nativeFiles = map[string]string{
	"host_in": "hosts.rego", "target_in": "hosts.rego", "exceptions_for": "exceptions.rego", "before": "time.rego", "since": "time.rego", "in_window": "time.rego",
}

// Names in Rego have no colon: a policy cannot call these functions directly.
var nativeBuiltins = map[string]*topdown.Builtin{
	"host_in": {
		Decl: &ast.Builtin{Name: "sallyport:host_in", Decl: types.NewFunction(types.Args(types.A, types.A), types.B)},
		Func: func(_ topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			in, err := hostIn(operands[0], operands[1])
			if err != nil {
				return err
			}
			return iter(ast.InternedTerm(in))
		},
	},
	"target_in": {
		Decl: &ast.Builtin{Name: "sallyport:target_in", Decl: types.NewFunction(types.Args(types.A, types.A), types.B)},
		Func: func(c topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			in, err := targetIn(c, operands[0].Value, operands[1])
			if err != nil {
				return err
			}
			return iter(ast.InternedTerm(in))
		},
	},
	"before":       comparison("before", isBefore),
	"since":        comparison("since", isSince),
	"minute_clock": minuteClock,
	"exceptions_for": {
		Decl: &ast.Builtin{Name: "sallyport:exceptions_for", Decl: types.NewFunction(types.Args(types.A, types.A, types.A), types.NewSet(types.A))},
		Func: func(c topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			found, err := exceptionsFor(c, operands[0].Value, operands[1], operands[2].Value)
			if err != nil {
				return err
			}
			return iter(ast.SetTerm(found...))
		},
	},
}

// Native are the functions by the name in a query.
var Native = func() map[string]*topdown.Builtin {
	functions := map[string]*topdown.Builtin{}
	for _, b := range nativeBuiltins {
		functions[b.Decl.Name] = b
	}
	return functions
}()

// WithNative adds their declarations to the capabilities of a compiler.
func WithNative(c *ast.Capabilities) *ast.Capabilities {
	more := *c
	more.Builtins = slices.Clone(c.Builtins)
	for _, name := range slices.Sorted(maps.Keys(nativeBuiltins)) {
		more.Builtins = append(more.Builtins, nativeBuiltins[name].Decl)
	}
	return &more
}

// nativeRules are the rules that replace those of the library, by name.
var nativeRules = sync.OnceValue(func() map[string]*ast.Rule {
	rules := map[string]*ast.Rule{}
	for name, text := range map[string]string{
		"host_in":        "host_in(host, patterns) if native(host, patterns)",
		"target_in":      "target_in(target, entries) if native(target, entries)",
		"before":         "before(until) if native(until)",
		"since":          "since(from) if native(from)",
		"exceptions_for": "exceptions_for(exceptions, repository, target) := native(exceptions, repository, target)",
	} {
		rule := ast.MustParseModule("package sallyport.lib\n\n" + text).Rules[0]
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			if ok && len(ref) == 1 && ref[0].Value.Compare(ast.Var("native")) == 0 {
				t.Value = nativeBuiltins[name].Decl.Ref()
			}
			return false
		})
		rules[name] = rule
	}
	return rules
})

// hostIn implements data.sallyport.lib.host_in.
func hostIn(host, patterns *ast.Term) (bool, error) {
	if hasKey(patterns.Value, host) {
		return true, nil
	}
	name, ok := host.Value.(ast.String)
	if !ok {
		return false, builtins.NewOperandTypeErr(1, host.Value, "string")
	}
	if list, ok := patterns.Value.(*ast.Array); ok {
		return hostInList(string(name), list), nil
	}
	matches := hasWildcard(string(name), "", func(wildcard *ast.Term) bool { return hasKey(patterns.Value, wildcard) })
	return matches && !isAddress(string(name)), nil
}

// hostInList visits a list once, for the name and for the patterns that match it.
func hostInList(name string, list *ast.Array) bool {
	wild := false
	named := list.Until(func(t *ast.Term) bool {
		pattern, ok := t.Value.(ast.String)
		if ok && len(pattern) > 1 && pattern[0] == '*' && pattern[1] == '.' && strings.HasSuffix(name, string(pattern[1:])) {
			wild = true
		}
		return ok && string(pattern) == name
	})
	return named || wild && !isAddress(name)
}

// targetIn implements data.sallyport.lib.target_in.
func targetIn(c topdown.BuiltinContext, target ast.Value, entries *ast.Term) (bool, error) {
	host, port := field(target, hostKey), field(target, portKey)
	if host == nil {
		return false, nil
	}
	if port != nil && port.Value.Compare(httpsPort.Value) == 0 {
		if in, err := hostIn(host, entries); in || err != nil {
			return in, err
		}
	}
	name, ok := host.Value.(ast.String)
	if !ok {
		return false, builtins.NewOperandTypeErr(1, host.Value, "string")
	}
	if port == nil {
		return false, nil
	}
	number, err := portText(c, port)
	if err != nil {
		return false, err
	}
	full := string(name) + ":" + number
	if strings.IndexByte(string(name), ':') >= 0 {
		full = "[" + string(name) + "]:" + number
	}
	if member(entries.Value, ast.StringTerm(full)) {
		return true, nil
	}
	matches := hasWildcard(string(name), ":"+number, func(wildcard *ast.Term) bool { return member(entries.Value, wildcard) })
	return matches && !isAddress(string(name)), nil
}

var httpsPort = ast.InternedTerm(443)

// exceptionsFor implements data.sallyport.lib.exceptions_for, and records what it finds.
// The clock is read last: most decisions do not depend on it.
func exceptionsFor(c topdown.BuiltinContext, exceptions ast.Value, repository *ast.Term, target ast.Value) (list []*ast.Term, err error) {
	note := func(t *ast.Term) {
		name := field(t.Value, repositoryKey)
		if err != nil || name == nil || !name.Equal(repository) {
			return
		}
		hosts := field(t.Value, hostsKey)
		if hosts == nil {
			return
		}
		var applies bool
		if applies, err = targetIn(c, target, hosts); !applies || err != nil {
			return
		}
		if applies, err = isActive(c, t.Value); applies && err == nil {
			list = append(list, t)
			recordException(c.Context, t)
		}
	}
	switch e := exceptions.(type) {
	case *ast.Array:
		e.Foreach(note)
	case ast.Set:
		e.Foreach(note)
	case ast.Object:
		e.Foreach(func(_, v *ast.Term) { note(v) })
	}
	return list, err
}

// isActive implements data.sallyport.lib.active.
func isActive(c topdown.BuiltinContext, exception ast.Value) (bool, error) {
	owner, until := field(exception, ownerKey), field(exception, untilKey)
	if owner == nil || until == nil {
		return false, nil
	}
	if name, ok := owner.Value.(ast.String); !ok || name == "" {
		return false, nil
	}
	return compareClock(c, until, isBefore)
}

var (
	repositoryKey = ast.InternedTerm("repository")
	hostsKey      = ast.InternedTerm("hosts")
	ownerKey      = ast.InternedTerm("owner")
	untilKey      = ast.InternedTerm("until")
	hostKey       = ast.InternedTerm("host")
	portKey       = ast.InternedTerm("port")
)

// field is value.key, nil where that is undefined.
func field(value ast.Value, key *ast.Term) *ast.Term {
	switch v := value.(type) {
	case ast.Object:
		return v.Get(key)
	case ast.Set:
		if v.Contains(key) {
			return key
		}
	}
	return nil
}

// hasKey reports whether collection[key] has a value.
func hasKey(collection ast.Value, key *ast.Term) bool {
	switch c := collection.(type) {
	case ast.Set:
		return c.Contains(key)
	case ast.Object:
		return c.Get(key) != nil
	case *ast.Array:
		return c.Get(key) != nil
	}
	return false
}

// member implements key in collection.
func member(collection ast.Value, key *ast.Term) bool {
	switch c := collection.(type) {
	case ast.Set:
		return c.Contains(key)
	case *ast.Array:
		return c.Until(key.Equal)
	case ast.Object:
		return c.Until(func(_, v *ast.Term) bool { return key.Equal(v) })
	}
	return false
}

// hasWildcard reports whether matches holds for one of the *. patterns that a name
// matches, with a suffix.
func hasWildcard(name, suffix string, matches func(*ast.Term) bool) bool {
	for i := range len(name) {
		if name[i] == '.' && matches(ast.StringTerm("*"+name[i:]+suffix)) {
			return true
		}
	}
	return false
}

// isAddress implements data.sallyport.lib.is_address.
func isAddress(host string) bool {
	if strings.IndexByte(host, ':') >= 0 {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	for i := range len(last) {
		if last[i] < '0' || last[i] > '9' {
			return false
		}
	}
	return last != ""
}

// portText is a port as sprintf("%d") writes it: digits for a port, and OPA's result for
// anything else.
func portText(c topdown.BuiltinContext, port *ast.Term) (string, error) {
	if n, ok := port.Value.(ast.Number); ok && len(n) <= 5 && !strings.ContainsFunc(string(n), func(r rune) bool { return r < '0' || r > '9' }) {
		return string(n), nil
	}
	var text string
	err := topdown.GetBuiltin(ast.Sprintf.Name)(c, []*ast.Term{ast.StringTerm("%d"), ast.ArrayTerm(port)}, func(t *ast.Term) error {
		s, ok := t.Value.(ast.String)
		if !ok {
			return fmt.Errorf("%s is not text", t)
		}
		text = string(s)
		return nil
	})
	return text, err
}

// noting are the functions that record notes, by name.
var noting = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range []string{"before", "since", "minute_clock", "exceptions_for"} {
		names[nativeBuiltins[name].Decl.Ref().String()] = true
	}
	return names
}()

// Replacement returns the rule that replaces a rule of the library for decisions, and the
// file of the library that has the rule; nil if the rule is not replaced.
func Replacement(name string, rule *ast.Rule) (replaced *ast.Rule, file string) {
	if name == "in_window" {
		return withMinuteClock(rule), nativeFiles[name]
	}
	return nativeRules()[name], nativeFiles[name]
}

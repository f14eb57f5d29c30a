package rego

import (
	"context"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// maxApplied bounds how many exceptions the record of one decision names.
const maxApplied = 16

// exceptionsNoted are the exceptions that lib.exceptions_for found for one question:
// of its repository and target, and in force at its time.
type exceptionsNoted struct{ list []*ast.Term }

type exceptionsNotedKey struct{}

// noteExceptions makes a context in which the library notes the exceptions that it
// finds.
func noteExceptions(ctx context.Context) (context.Context, *exceptionsNoted) {
	n := new(exceptionsNoted)
	return context.WithValue(ctx, exceptionsNotedKey{}, n), n
}

func noteException(ctx context.Context, exception *ast.Term) {
	if n, ok := ctx.Value(exceptionsNotedKey{}).(*exceptionsNoted); ok && !slices.ContainsFunc(n.list, exception.Equal) {
		n.list = append(n.list, exception)
	}
}

// findsExceptions reports whether modules may ask the library for exceptions.
func findsExceptions(modules map[string]*ast.Module) bool {
	name := nativeBuiltins["exception_applies"].Decl.Ref()
	found := false
	for _, m := range modules {
		ast.WalkRefs(m, func(r ast.Ref) bool {
			found = found || r.Equal(name)
			return found
		})
	}
	return found
}

// applied are the exceptions that were noted, as the set's documents have them, in
// the order of their places. One that a rule made up has no place.
func (s *Set) applied(noted []*ast.Term) []policy.AppliedException {
	if len(noted) == 0 {
		return nil
	}
	var list []policy.AppliedException
	for _, t := range noted {
		object, ok := t.Value.(ast.Object)
		if !ok {
			continue
		}
		e, ok := exceptionOf(object, "")
		if !ok {
			continue
		}
		for _, known := range s.exceptions {
			if known.Key() == e.Key() && known.value.Compare(object) == 0 {
				e.Path = known.Path
				break
			}
		}
		list = append(list, policy.AppliedException{Path: e.Path, Owner: e.Owner, Ticket: e.Ticket, Repository: e.Repository, Hosts: e.Hosts, Until: e.Until})
	}
	return mergeExceptions(nil, list)
}

// mergeExceptions brings exceptions into the order of their places, without
// repetition.
func mergeExceptions(a, b []policy.AppliedException) []policy.AppliedException {
	place := func(e *policy.AppliedException) string { return e.Path + e.Owner + e.Ticket }
	list := slices.Concat(a, b)
	slices.SortFunc(list, func(a, b policy.AppliedException) int { return strings.Compare(place(&a), place(&b)) })
	list = slices.CompactFunc(list, func(a, b policy.AppliedException) bool {
		return a.Path != "" && place(&a) == place(&b)
	})
	return list[:min(len(list), maxApplied)]
}

// hostsOf are the texts of an exception's hosts, as many as a record needs.
func hostsOf(v ast.Object) (hosts []string) {
	t := v.Get(ast.StringTerm("hosts"))
	if t == nil {
		return nil
	}
	add := func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok {
			hosts = append(hosts, string(s))
		}
	}
	switch list := t.Value.(type) {
	case *ast.Array:
		list.Foreach(add)
	case ast.Set:
		list.Foreach(add)
	case ast.Object: // lib.target_in reads an object's keys for port 443
		list.Foreach(func(k, _ *ast.Term) { add(k) })
	}
	return hosts
}

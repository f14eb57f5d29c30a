package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/uuid"
)

// exceptionKeys are the required keys of an exception. It may have others, for the
// rules that read them.
var exceptionKeys = []string{"owner", "ticket", "until", "repository", "hosts"}

// restricting are keys that suggest a restriction of the exception. They restrict it only
// if a rule reads them.
var restricting = []string{"port", "ports", "branch", "branches", "deployment", "deployments", "environment", "environments", "path", "paths", "method", "methods",
	"workspace", "project", "from", "since", "starts", "days", "protocol", "limits", "target", "targets", "host", "repositories", "step", "client", "type"}

// readsKey reports whether a rule of the unit reads a member of this name of a value
// that is not the input.
func (u *Unit) readsKey(name string) bool {
	if u.keysRead == nil {
		u.keysRead = map[string]bool{}
		for _, m := range u.Resolved {
			ast.WalkRefs(m, func(ref ast.Ref) bool {
				if ref.HasPrefix(ast.InputRootRef) {
					return false
				}
				for _, t := range ref[1:] {
					if s, ok := t.Value.(ast.String); ok {
						u.keysRead[string(s)] = true
					}
				}
				return false
			})
		}
	}
	return u.keysRead[name]
}

const exceptionHint = `an exception has owner, ticket, until ("2026-12-31T00:00:00Z"), repository and hosts`

func exceptionList(u *Unit, v found) []Finding {
	var list []Finding
	if members(v, func(m found) { list = append(list, wholeException(u, m)...) }) || unknown(v.value) {
		return list
	}
	object, ok := v.value.Value.(ast.Object)
	if !ok || looksLikeException(object) {
		return []Finding{u.place(v, nil, "this is "+typeName(v.value.Value)+" and never counts: lib.exceptions_for needs a list of exceptions", "write a list: one object for each exception")}
	}
	object.Foreach(func(k, sub *ast.Term) {
		list = append(list, wholeException(u, found{sub, below(v.path, k), false})...)
	})
	return list
}

// wholeException judges an exception as lib.exceptions_for reads it.
func wholeException(u *Unit, v found) []Finding { return u.exception(v, exceptionKeys) }

// activeException judges an exception as lib.active reads it.
func activeException(u *Unit, v found) []Finding {
	return u.exception(v, []string{"owner", "ticket", "until"})
}

func (u *Unit) exception(v found, required []string) []Finding {
	if unknown(v.value) {
		return nil
	}
	object, ok := v.value.Value.(ast.Object)
	if !ok {
		return []Finding{u.place(v, nil, "an exception is an object and not "+typeName(v.value.Value), exceptionHint)}
	}
	list := u.exceptionNames(v, object, required)
	value := func(name string, judge func(found)) {
		if t := object.Get(ast.StringTerm(name)); t != nil && !unknown(t) {
			judge(found{t, below(v.path, ast.StringTerm(name)), false})
		}
	}
	for _, name := range []string{"owner", "ticket"} {
		value(name, func(at found) {
			if s, ok := at.value.Value.(ast.String); !ok || strings.TrimSpace(string(s)) == "" {
				list = append(list, u.place(at, v.value.Location, "the exception never counts: its "+name+" is not a text", map[string]string{"owner": "name a contact", "ticket": "name the ticket, in quotes"}[name]))
			}
		})
	}
	value("until", func(at found) {
		if s, ok := at.value.Value.(ast.String); !ok || !isTime(string(s)) {
			list = append(list, u.place(at, v.value.Location, fmt.Sprintf("the exception never counts: its end is not a time in UTC: %s", at.value.Value), timeHint))
		}
	})
	value("repository", func(at found) {
		s, ok := at.value.Value.(ast.String)
		switch {
		case !ok:
			list = append(list, u.place(at, v.value.Location, "the exception never counts: its repository is not a text", `write "acme/payments"`))
		case !uuid.IsCanonical(string(s)):
			list = append(list, u.reported(at, fullName(u, string(s)))...)
		}
	})
	value("hosts", func(at found) {
		if c := at.value.Value; isCollection(typeOf(c)) && !holdsEntries(c) {
			list = append(list, u.place(at, v.value.Location, "the exception never counts: it has no host", "name the hosts, or remove the exception"))
		}
		list = append(list, targetList(u, at)...)
	})
	return list
}

// exceptionNames judges the keys: each required one, and others that are similar to one of
// these.
func (u *Unit) exceptionNames(v found, object ast.Object, required []string) []Finding {
	var list []Finding
	meant := map[string]bool{}
	object.Foreach(func(k, _ *ast.Term) {
		name, ok := k.Value.(ast.String)
		if !ok || slices.Contains(exceptionKeys, string(name)) {
			return
		}
		n := nearest.Of(string(name), required)
		if u.Resolved != nil && slices.Contains(restricting, string(name)) && !u.readsKey(string(name)) {
			list = append(list, u.place(found{k, below(v.path, k), true}, v.value.Location, fmt.Sprintf("nothing reads the key %q of an exception, so it restricts nothing", string(name)),
				"remove it, or read it in the rule; a port stands behind the host, as in \"a.example:8443\""))
			return
		}
		if n == "" || nearest.Distance(string(name), n) > 2 || object.Get(ast.StringTerm(n)) != nil && nearest.Distance(string(name), n) > 1 {
			return
		}
		meant[n] = true
		list = append(list, u.place(found{k, below(v.path, k), true}, v.value.Location, fmt.Sprintf("an exception has no key %q", string(name)), fmt.Sprintf("did you mean %q?", n)))
	})
	for _, name := range required {
		if object.Get(ast.StringTerm(name)) == nil && !meant[name] {
			list = append(list, u.place(v, nil, fmt.Sprintf("the exception has no %q, and never counts", name), exceptionHint))
		}
	}
	return list
}

// looksLikeException reports whether an object is probably an exception: it has an end, or
// a similar key, and two more of an exception's keys.
func looksLikeException(object ast.Object) bool {
	exact, end := 0, false
	for _, name := range exceptionKeys {
		if object.Get(ast.StringTerm(name)) != nil {
			exact++
		}
	}
	if exact < 2 || object.Len() > 100 {
		return false
	}
	object.Foreach(func(k, _ *ast.Term) {
		if s, ok := k.Value.(ast.String); ok && nearest.Distance(strings.ToLower(string(s[:min(len(s), 20)])), "until") <= 2 {
			end = true
		}
	})
	hasEnd, hasOwner := object.Get(ast.StringTerm("until")) != nil, object.Get(ast.StringTerm("owner")) != nil
	return end && exact >= 3 || exact >= 4 || hasEnd && hasOwner
}

// Exceptions finds exceptions in the documents that never apply, whichever rule reads
// them.
func Exceptions(u *Unit) []Finding {
	var list []Finding
	if u.Documents.Root != nil {
		u.exceptionsIn(found{&ast.Term{Value: u.Documents.Root}, []any{}, false}, &list)
	}
	sortFindings(list)
	return list
}

func (u *Unit) exceptionsIn(v found, list *[]Finding) {
	if len(*list) >= maxFindings {
		return
	}
	switch c := v.value.Value.(type) {
	case ast.Object:
		if looksLikeException(c) {
			judge := activeException
			if c.Get(ast.StringTerm("repository")) != nil || c.Get(ast.StringTerm("hosts")) != nil {
				judge = wholeException
			}
			*list = append(*list, judge(u, v)...)
			return
		}
		c.Foreach(func(k, sub *ast.Term) { u.exceptionsIn(found{sub, below(v.path, k), false}, list) })
	case *ast.Array:
		for i := range c.Len() {
			u.exceptionsIn(found{c.Elem(i), belowItem(v.path, i), false}, list)
		}
	}
}

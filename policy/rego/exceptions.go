package rego

import (
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Exception is an exception in a policy's documents: an object with an owner and an end,
// as data.sallyport.lib.active reads it.
type Exception struct {
	Path       string // in the documents: data.exceptions.list[0]
	Owner      string
	Ticket     string
	Repository string
	Hosts      []string  // as written; none if they are not a list of texts
	Until      time.Time // zero if the end does not have the library's form: it never counts then

	value ast.Object
	at    []any // its path, of names and positions
}

// Key identifies an exception across revisions, in which its path may differ.
func (e Exception) Key() string {
	return fmt.Sprintf("%q %q %q %s", e.Owner, e.Ticket, e.Repository, e.Until.Format(time.RFC3339))
}

// maxExceptions bounds what is listed.
const maxExceptions = 10_000

// exceptionsIn lists the exceptions in the documents, the first to end first.
func exceptionsIn(data ast.Object) []Exception {
	var list []Exception
	if data != nil {
		findExceptions(data, "data", nil, &list)
	}
	slices.SortStableFunc(list, func(a, b Exception) int { return a.Until.Compare(b.Until) })
	return list
}

func findExceptions(v ast.Value, path string, at []any, list *[]Exception) {
	if len(*list) >= maxExceptions {
		return
	}
	switch v := v.(type) {
	case ast.Object:
		if e, ok := exceptionOf(v, path); ok {
			e.at = at
			*list = append(*list, e)
			return
		}
		for _, key := range v.Keys() {
			if name, ok := key.Value.(ast.String); ok {
				findExceptions(v.Get(key).Value, path+"."+string(name), append(at[:len(at):len(at)], string(name)), list)
			}
		}
	case *ast.Array:
		for i := range v.Len() {
			findExceptions(v.Elem(i).Value, fmt.Sprintf("%s[%d]", path, i), append(at[:len(at):len(at)], i), list)
		}
	}
}

func exceptionOf(v ast.Object, path string) (Exception, bool) {
	text := func(name string) (string, bool) {
		t := v.Get(ast.StringTerm(name))
		if t == nil {
			return "", false
		}
		s, ok := t.Value.(ast.String)
		return string(s), ok
	}
	owner, hasOwner := text("owner")
	until, hasEnd := text("until")
	if !hasOwner || !hasEnd {
		return Exception{}, false
	}
	e := Exception{Path: path, Owner: owner, Hosts: hostsOf(v), value: v}
	e.Ticket, _ = text("ticket")
	e.Repository, _ = text("repository")
	// The form that the library accepts, and no other spelling.
	if at, err := time.Parse("2006-01-02T15:04:05Z", until); err == nil && len(until) == len("2006-01-02T15:04:05Z") {
		e.Until = at
	}
	return e, true
}

// hostsOf are the texts of an exception's hosts.
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

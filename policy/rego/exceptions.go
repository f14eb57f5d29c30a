package rego

import (
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Exception is an exception in a policy's documents: an object with an owner and
// an end, as data.sallyport.lib.active reads it.
type Exception struct {
	Path       string // where it stands: data.exceptions.list[0]
	Owner      string
	Ticket     string
	Repository string
	Hosts      []string  // as they stand there; of another form than a list of texts, none
	Until      time.Time // zero where the end is not written as the library wants it, so that it never counts

	value ast.Object
	at    []any // its path, of names and positions
}

// Key tells an exception from others in the next revision, where its place may be
// another one.
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
	word := func(name string) (string, bool) {
		t := v.Get(ast.StringTerm(name))
		if t == nil {
			return "", false
		}
		s, ok := t.Value.(ast.String)
		return string(s), ok
	}
	owner, hasOwner := word("owner")
	until, hasEnd := word("until")
	if !hasOwner || !hasEnd {
		return Exception{}, false
	}
	e := Exception{Path: path, Owner: owner, Hosts: hostsOf(v), value: v}
	e.Ticket, _ = word("ticket")
	e.Repository, _ = word("repository")
	// What the library takes for a time, and no other spelling of one.
	if at, err := time.Parse("2006-01-02T15:04:05Z", until); err == nil && len(until) == len("2006-01-02T15:04:05Z") {
		e.Until = at
	}
	return e, true
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

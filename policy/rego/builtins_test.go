package rego

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/policy/rego/functions"
)

// asWritten is a compiler of the shipped library, in Rego or, if native is set, as it
// decides.
func asWritten(t testing.TB, native bool) *ast.Compiler {
	t.Helper()
	l := newLoader(snapshot(t, org("")), Options{Names: true})
	if err := l.loadLibrary(); err != nil {
		t.Fatal(err)
	}
	parts := l.written
	if native {
		parts = l.native
	}
	user := ast.MustParseModule("package user\n\nimport data.sallyport.lib\n\nhost if lib.host_in(input.host, input.list)\n\ntarget if lib.target_in(input.target, input.list)\n\nexceptions := lib.exceptions_for(input.exceptions, input.repository, input.target)\n\ntimes contains \"before\" if lib.before(input.end)\n\ntimes contains \"since\" if lib.since(input.end)\n\ntimes contains \"within\" if lib.within([input.window])\n")
	modules := map[string]*ast.Module{"user.rego": user}
	for path, m := range parts.needed(modules) {
		modules[path] = m
	}
	c := l.compiler(egress, false).WithCapabilities(functions.WithNative(l.capabilities()))
	if c.Compile(modules); c.Failed() {
		t.Fatal(c.Errors)
	}
	if native {
		functions.InlineCalls(c)
	}
	return c
}

var userQueries = map[string]ast.Body{"host": ast.MustParseBody("data.user.host"), "target": ast.MustParseBody("data.user.target")}

// holds evaluates a rule of the user's for an input: true, false, or error.
func holds(c *ast.Compiler, rule string, input ast.Value) string {
	query := topdown.NewQuery(userQueries[rule]).WithCompiler(c).WithStore(inmem.New()).
		WithInput(ast.NewTerm(input)).WithStrictBuiltinErrors(true).WithBuiltins(functions.Native)
	results, err := query.Run(context.Background())
	if err != nil {
		return "error"
	}
	return fmt.Sprint(len(results) > 0)
}

// compareNative calls both for a host, a port (nil: none) and a collection, all of them
// terms of Rego, and returns the two results where they differ.
func compareNative(written, native *ast.Compiler, host, port, list *ast.Term) string {
	target := ast.NewObject([2]*ast.Term{ast.StringTerm("host"), host})
	if port != nil {
		target.Insert(ast.StringTerm("port"), port)
	}
	input := ast.NewObject(
		[2]*ast.Term{ast.StringTerm("host"), host},
		[2]*ast.Term{ast.StringTerm("list"), list},
		[2]*ast.Term{ast.StringTerm("target"), ast.NewTerm(target)},
	)
	for _, rule := range []string{"host", "target"} {
		if w, n := holds(written, rule, input), holds(native, rule, input); w != n {
			return fmt.Sprintf("%s of %v: %s as it is written, and %s as it decides", rule, input, w, n)
		}
	}
	return ""
}

// TestNativeHosts: the library in Go and in Rego agree for every kind of argument, errors
// included.
func TestNativeHosts(t *testing.T) {
	written, native := asWritten(t, false), asWritten(t, true)
	if len(native.Modules) >= 2 && strings.Contains(fmt.Sprint(native.Modules), "indexof_n") || strings.Contains(fmt.Sprint(written.Modules), "sallyport:") {
		t.Fatal("the two are one")
	}
	hosts := []string{`"a.example"`, `"x.a.example"`, `"y.x.a.example"`, `"localhost"`, `""`, `"."`, `"a."`, `"192.0.2.1"`, `"2001:db8::1"`, `"::ffff:192.0.2.1"`, `"1"`, `"a.1"`, `"é.a.example"`, `0`, `1`, `true`, `null`, `["a.example"]`}
	ports := []string{`443`, `8443`, `443.0`, `4.43e2`, `0`, `-1`, `1.5`, `123456`, `"443"`, `null`, `[443]`}
	names := []string{`"a.example"`, `"*.a.example"`, `"*.example"`, `"*."`, `"*"`, `"192.0.2.1"`, `"*.0.2.1"`, `"*.2.1"`, `"a.example:443"`, `"a.example:8443"`, `"*.a.example:8443"`, `"*.a.example:1.5"`, `"[2001:db8::1]:443"`, `"2001:db8::1"`, `"*.0.2.1:8443"`, `"*.192.0.2.1"`, `"a.example:%!d(string=443)"`, `"*..example"`, `1`, `true`, `["a.example"]`}
	var lists []string
	for i, name := range names {
		lists = append(lists, "["+name+"]", "{"+name+"}", "{"+name+": {}}", "{\"k\": "+name+"}", "["+name+", "+names[(i+1)%len(names)]+"]", "{"+name+": false, "+names[(i+3)%len(names)]+": null}")
	}
	lists = append(lists, `"a.example"`, `1`, `null`, `[]`, `set()`, `{}`, `true`)
	terms := func(texts []string) (list []*ast.Term) {
		for _, text := range texts {
			list = append(list, ast.MustParseTerm(text))
		}
		return list
	}
	ours, theirs := terms(hosts), append(terms(ports), nil)
	for i, list := range terms(lists) {
		for j, host := range ours {
			for k, port := range theirs {
				if k > 1 && (i+j+k)%9 != 0 {
					continue // the usual ports with everything, the others with a part of it
				}
				if diff := compareNative(written, native, host, port, list); diff != "" {
					t.Fatal(diff)
				}
			}
		}
	}
}

// TestNativeExceptions: the library in Go and in Rego find the same exceptions, for every
// kind of argument.
func TestNativeExceptions(t *testing.T) {
	written, native := asWritten(t, false), asWritten(t, true)
	one := func(repository, hosts string) string {
		return `{"repository": ` + repository + `, "hosts": ` + hosts + `, "owner": "kim@acme.example", "until": "2099-01-01T00:00:00Z"}`
	}
	good, other, ended := one(`"acme/a"`, `["a.example", "*.b.example:8443"]`), one(`"acme/b"`, `["a.example"]`), strings.Replace(one(`"acme/a"`, `["a.example"]`), "2099", "2020", 1)
	members := []string{good, other, ended, one(`1`, `["a.example"]`), `{"repository"}`, `{"repository", "hosts"}`, `"acme/a"`, `["acme/a"]`, `{}`, `null`, one(`"acme/a"`, `"a.example"`), `{"repository": "acme/a"}`, one(`"acme/a"`, `{"a.example"}`)}
	var lists []string
	for i, m := range members {
		lists = append(lists, "["+m+"]", "{"+m+"}", `{"k": `+m+`}`, "["+m+", "+members[(i+1)%len(members)]+", "+good+"]")
	}
	for _, list := range append(lists, "null", "1", `"x"`, "[]", "{}") {
		for _, repository := range []string{`"acme/a"`, `"acme/b"`, `"repository"`, `1`, `null`} {
			for _, target := range []string{`{"host": "a.example", "port": 443}`, `{"host": "x.b.example", "port": 8443}`, `{"host": 1, "port": 443}`, `{"host": 1}`, `{"host": "a.example"}`, `{"host", "port"}`, `["a.example", 443]`, `{}`} {
				input := ast.MustParseTerm(`{"exceptions": ` + list + `, "repository": ` + repository + `, "target": ` + target + `}`)
				if w, n := value(written, input), value(native, input); w != n {
					t.Fatalf("%v: %s as it is written, and %s as it decides", input, w, n)
				}
			}
		}
	}
}

// value is the result of exceptions_for for an input.
func value(c *ast.Compiler, input *ast.Term) string {
	query := topdown.NewQuery(ast.MustParseBody("x = data.user.exceptions")).WithCompiler(c).WithStore(inmem.New()).
		WithInput(input).WithStrictBuiltinErrors(true).WithBuiltins(functions.Native)
	results, err := query.Run(context.Background())
	if err != nil {
		return "error"
	}
	return fmt.Sprint(results)
}

// FuzzNativeHosts compares the library in Go and in Rego for texts.
func FuzzNativeHosts(f *testing.F) {
	f.Add("x.a.example", "*.a.example", "a.example:8443", 443)
	f.Add("192.0.2.1", "*.0.2.1", "*.2.1:22", 22)
	f.Add("2001:db8::1", "[2001:db8::1]:22", "*", 22)
	f.Add("a..b.", "*.", "*..b.", -1)
	written, native := asWritten(f, false), asWritten(f, true)
	f.Fuzz(func(t *testing.T, host, one, two string, port int) {
		host, one, two = strings.ToValidUTF8(host, "?"), strings.ToValidUTF8(one, "?"), strings.ToValidUTF8(two, "?")
		a, b := ast.StringTerm(one), ast.StringTerm(two)
		for _, list := range []*ast.Term{
			ast.ArrayTerm(a, b), ast.SetTerm(a, b), ast.ObjectTerm([2]*ast.Term{a, b}),
			ast.SetTerm(ast.StringTerm("*"+host[strings.IndexByte(host, '.')+1:]), a),
			ast.ArrayTerm(ast.StringTerm(fmt.Sprintf("*%s:%d", host[max(0, strings.IndexByte(host, '.')):], port)), b),
		} {
			if diff := compareNative(written, native, ast.StringTerm(host), ast.IntNumberTerm(port), list); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

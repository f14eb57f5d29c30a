package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// ruleForm is how a rule is written.
const ruleForm = `write: allow contains {"rule": "an-id"} if { … }`

// remedies say what to write instead, for what OPA's parser and compiler (v1) say is
// wrong: the first of which the message has this part.
var remedies = []struct{ said, do string }{
	{"package expected", "begin the file with its package, such as: package sallyport.egress"},
	{"the file is empty", "begin it with its package, or remove it"},
	{"`contains` keyword is required", ruleForm},
	{"`if` keyword is required", ruleForm},
	{"expected rule key term", ruleForm},
	{"non-terminated string", `close it with a " on the same line`},
	{"non-terminated object", "close it with a }, and separate its members by commas"},
	{"non-terminated array", "close it with a ], and separate its members by commas"},
	{"non-terminated set", "close it with a }, and separate its members by commas"},
	{"unexpected eof token", "something that was opened with {, ( or [ is not closed"},
	{"illegal token", `there is something that Rego does not know; texts stand in " and not in '`},
	{"is recursive", "a rule cannot need itself, not even through others: break the circle"},
	{"is unsafe", "give it a value first, as in: some x in …, or x := …; or it is misspelt"},
	{"deprecated built-in function", "that builtin was removed: use the one that took its place, such as regex.match for re_match"},
	{"match error", "the two sides can never be equal, for they are of different types"},
	{"multiple default rules", "leave one"},
	{"conflicting rules", "the rules of one name are all written in the same way"},
}

// remedy is what to write instead, "" where nothing better is known than what is
// wrong.
func remedy(err *ast.Error) string {
	for _, r := range remedies {
		if strings.Contains(err.Message, r.said) {
			return r.do
		}
	}
	if strings.HasSuffix(err.Message, " unused") {
		return "use it, or remove it"
	}
	if name, ok := strings.CutPrefix(err.Message, "undefined function "); ok {
		return unknownFunction(name)
	}
	return ""
}

// unknownFunction names the function that was probably meant.
func unknownFunction(name string) string {
	if strings.HasPrefix(name, "lib.") {
		return "import the library first: import data.sallyport.lib"
	}
	if called, ok := strings.CutPrefix(name, "data.sallyport.lib."); ok {
		known := libraryFunctions()
		if n := nearest.Of(called, known); n != "" {
			return "did you mean lib." + n + "?"
		}
		return "the library has " + strings.Join(known, ", ")
	}
	var known []string
	for _, b := range capabilities().Builtins {
		if b.Infix == "" && !strings.HasPrefix(b.Name, "internal.") {
			known = append(known, b.Name)
		}
	}
	if n := nearest.Of(name, known); n != "" && nearest.Distance(name, n) <= max(1, len(name)/4) {
		return "did you mean " + n + "?"
	}
	return "there is no builtin and no function of that name"
}

// libraryFunctions are the names of what the shipped library defines.
func libraryFunctions() []string {
	var names []string
	for _, f := range Library() {
		m, err := ast.ParseModule(f.Path, string(f.Content))
		if err != nil {
			continue
		}
		for _, r := range m.Rules {
			if name := r.Head.Name.String(); len(r.Head.Args) > 0 && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

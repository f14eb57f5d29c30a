package rego

import (
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// ruleForm is how a rule is written.
const ruleForm = `write: allow contains {"rule": "an-id"} if { … }`

// sourceLine is the line of a file with a parse error, as the details of OPA's error.
type sourceLine string

// Lines returns the line.
func (s sourceLine) Lines() []string { return []string{string(s)} }

// lineRemedies are hints for a line that is not Rego, by the first pattern that the line
// matches. They take precedence over the hints by message.
var lineRemedies = []struct {
	line *regexp.Regexp
	do   string
}{
	{regexp.MustCompile(`^\s*(//|/\*)`), "begin a comment with #"},
	{regexp.MustCompile(`\|\|`), "Rego has no ||: write the rule once more with the other condition, or put the values into a set, as in input.target.port in {25, 465}"},
	{regexp.MustCompile(`&&`), "Rego has no &&: write each condition on a line of its own between { and }"},
	{regexp.MustCompile(`(^|\s)if\s.*[^"\w]or\s`), "Rego has no or: write the rule once more with the other condition, or put the values into a set, as in input.target.port in {25, 465}"},
	{regexp.MustCompile(`(^|\s)if\s.*[^"\w]and\s`), "Rego has no and: write each condition on a line of its own between { and }"},
	{regexp.MustCompile(`(^|[\s({;])![\w(]`), "write not, and a space, for !"},
	{regexp.MustCompile(`^\s*from\s.*\simport\s`), "write: import data.sallyport.lib"},
	{regexp.MustCompile(`(^|[\s{;])for\s+\w+\s+in\s`), "write some for for: some host in data.hosts"},
	{regexp.MustCompile(`^(allow|deny|report|delegate|route)(\s+contain|\s+has|\s+[a-bd-z]\w*)?\s*\{`), ruleForm},
	{regexp.MustCompile(`^(allow|deny|report|delegate|route)\s+contains\s+\{.*\}\s*([a-hj-z]\w*|i[a-eg-z]\w*)\s`), "write if between the entry and its condition, and each condition on a line of its own between { and }"},
}

// remedies are hints for errors of OPA's parser and compiler (v1), by the first part that
// the message has.
var remedies = []struct{ part, do string }{
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
	{"illegal token", `not a token of Rego: write texts in " and not in '`},
	{"is recursive", "a rule cannot need itself, not even through others: break the circle"},
	{"is unsafe", "give it a value first, as in: some x in …, or x := …; or it is misspelled"},
	{"deprecated built-in function", "that builtin was removed: use its replacement, such as regex.match for re_match"},
	{"match error", "the two sides can never be equal, for they are of different types"},
	{"cannot assign to", "compare with ==; := gives a new name a value"},
	{"unexpected package", "a file has one package, at its beginning: remove this one"},
	{"unexpected import path", "write: import data.sallyport.lib"},
	{"unexpected } token", "nothing was opened that this } closes: remove it"},
	{"unexpected , token", "write each condition on a line of its own between { and }"},
	{"unexpected ; token", "put the conditions between { and }"},
	{"unexpected if keyword", "a condition stands by itself; for another case write the rule once more"},
	{"var cannot be used for rule name", "what follows the condition is not Rego: write each condition on a line of its own between { and }"},
	{"multiple default rules", "leave one"},
	{"conflicting rules", "the rules of one name are all written in the same way"},
}

// remedy is a hint for an error of OPA; "" if there is none.
func remedy(d *domain, err *ast.Error) string {
	line, _ := err.Details.(sourceLine)
	text := string(line)
	form := ruleForm
	if err.Location != nil {
		form = formFor(text + string(err.Location.Text))
		if strings.Contains(err.Message, "match error") {
			if do := d.schema().objectField(string(err.Location.Text)); do != "" {
				return do
			}
		}
	}
	for _, r := range lineRemedies {
		if bare := quotedText.ReplaceAllString(text, `""`); text != "" && r.line.MatchString(bare) {
			if r.do == ruleForm {
				return form
			}
			return r.do
		}
	}
	for _, r := range remedies {
		if strings.Contains(err.Message, r.part) {
			if r.do == ruleForm {
				return form
			}
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

var (
	quotedText = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	setOfLine  = regexp.MustCompile(`^\s*(allow|deny|report|delegate|route)\b`)
	inputField = regexp.MustCompile(`\binput((?:\.[a-z_]+)+)`)
)

// formFor is the form of a rule of the set that a line begins with.
func formFor(line string) string {
	if found := setOfLine.FindStringSubmatch(line); found != nil {
		return strings.Replace(ruleForm, "allow", found[1], 1)
	}
	return ruleForm
}

// objectField is a hint with the members of an object of the input that is compared with
// another value; "" if the expression has none.
func (s *inputSchema) objectField(text string) string {
	for _, found := range inputField.FindAllStringSubmatch(text, -1) {
		field := found[1][1:]
		if members := s.fields[field]; s.types[field] == "object" && len(members) > 0 {
			return "input." + field + " is an object: compare one of its members, input." + field + "." + strings.Join(members, ", input."+field+".")
		}
	}
	return ""
}

// unknownFunction is a hint with the nearest name of a function.
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
	for _, b := range functions.Capabilities().Builtins {
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

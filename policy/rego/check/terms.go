package check

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The types of values, in the order in which Rego sorts values of different types.
var typeOrder = map[string]int{"null": 0, "boolean": 1, "number": 2, "string": 3, "array": 4, "object": 5, "set": 6}

var typeNames = map[string]string{"null": "null", "boolean": "true or false", "number": "a number", "string": "a text", "array": "a list", "object": "an object", "set": "a set"}

func typeOf(v ast.Value) string {
	switch v.(type) {
	case ast.Null:
		return "null"
	case ast.Boolean:
		return "boolean"
	case ast.Number:
		return "number"
	case ast.String:
		return "string"
	case *ast.Array:
		return "array"
	case ast.Object:
		return "object"
	case ast.Set:
		return "set"
	}
	return ""
}

// isCollection reports whether values of a type have members.
func isCollection(name string) bool { return name == "array" || name == "object" || name == "set" }

// typeName is the type of a value with its article.
func typeName(v ast.Value) string {
	switch v := v.(type) {
	case ast.String:
		return "a text"
	case ast.Number:
		return "a number"
	case ast.Boolean:
		if v {
			return "true"
		}
		return "false"
	case ast.Null:
		return "null"
	case *ast.Array:
		return "a list"
	case ast.Set:
		return "a set"
	case ast.Object:
		return "an object"
	}
	return "something else"
}

// unknown reports whether a term of a literal has to be evaluated.
func unknown(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.Var, ast.Ref, ast.Call, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.TemplateString:
		return true
	}
	return false
}

// holdsEntries reports whether a value is a collection that is not empty.
func holdsEntries(v ast.Value) bool {
	switch v := v.(type) {
	case ast.Object:
		return v.Len() > 0
	case *ast.Array:
		return v.Len() > 0
	case ast.Set:
		return v.Len() > 0
	}
	return false
}

func isText(t *ast.Term) bool {
	_, ok := t.Value.(ast.String)
	return ok
}

func isVar(t *ast.Term) bool {
	_, ok := t.Value.(ast.Var)
	return ok
}

// orList is "a, b or c".
func orList(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

func quotedList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	return orList(quoted)
}

// isTime reports whether a text is a time in the library's form, of a day that exists.
func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil && utcTime.MatchString(s)
}

var utcTime = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$`)

const timeHint = `write a time in UTC with whole seconds: "2026-12-31T00:00:00Z"`

var slugForm = regexp.MustCompile(`^[a-z0-9_.-]{1,128}$`)

// IsSlug reports whether a text can be the slug of a workspace or a repository in
// Bitbucket's URLs.
func IsSlug(s string) bool { return slugForm.MatchString(s) }

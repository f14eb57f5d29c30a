package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// lintDocuments warns of a rule that reads a document that does not exist. In Rego this is
// not an error: the condition does not hold, and a rule with one misspelled name never
// matches.
func (l *loader) lintDocuments(rule *ast.Rule) {
	warned := map[string]bool{}
	var visit func(t *ast.Term) bool
	visit = func(t *ast.Term) bool {
		ref, ok := t.Value.(ast.Ref)
		if !ok {
			return false
		}
		if ref.HasPrefix(ast.DefaultRootRef) {
			if path, nearby := l.missingDocument(ref); path != "" && !warned[path] {
				warned[path] = true
				hint := "put it under data/, where the folders are its path; until then nothing that reads it matches"
				if nearby != "" {
					hint = "did you mean " + nearby + "?"
				}
				l.warn(at(t.Location, rule.Location, path+" is not there", hint))
			}
		} else {
			ast.WalkTerms(ref[0], visit)
		}
		for _, operand := range ref[1:] {
			ast.WalkTerms(operand, visit)
		}
		return true
	}
	ast.WalkTerms(rule, visit)
}

// missingDocument follows the literal names of a reference through the documents. It
// returns the path up to the first name that does not exist, and the path of a similar
// name.
func (l *loader) missingDocument(ref ast.Ref) (path, nearby string) {
	var value ast.Value = l.data
	path = "data"
	for i, t := range ref[1:] {
		name, ok := t.Value.(ast.String)
		if !ok || i == 0 && name == "sallyport" {
			return "", ""
		}
		object, ok := value.(ast.Object)
		if !ok {
			return "", "" // into a list or a text: not for us
		}
		next := object.Get(t)
		if next == nil {
			var beside []string
			object.Foreach(func(k, _ *ast.Term) {
				if s, ok := k.Value.(ast.String); ok && len(beside) < 1000 {
					beside = append(beside, string(s))
				}
			})
			if n := nearest.Of(string(name), beside); n != "" {
				nearby = path + "." + n
			}
			return path + "." + string(name), nearby
		}
		path += "." + string(name)
		value = next.Value
	}
	return "", ""
}

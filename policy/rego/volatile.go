package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// volatile are the parts of the input that differ from one request of a step to
// the next, or from one step to the next.
var volatile = []string{"principal.pipeline", "principal.step", "principal.branch", "request", "client", "time"}

// volatileReads lists the volatile parts that a program may read. It visits all rules that
// are compiled together: the library's rules read nothing of the input but their
// arguments.
func volatileReads(p *program) []string {
	if p == nil || len(p.sets) == 0 {
		return nil
	}
	var list []string
	note := func(path string) {
		for _, v := range volatile {
			if (path == "" || path == v || strings.HasPrefix(v, path+".") || strings.HasPrefix(path, v+".")) && !slices.Contains(list, v) {
				list = append(list, v)
			}
		}
	}
	var visit func(t *ast.Term) bool
	visit = func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			if v.Equal(ast.InputRootDocument.Value) {
				note("")
			}
		case ast.Ref:
			if v.HasPrefix(ast.InputRootRef) {
				note(inputPath(v))
			} else {
				ast.WalkTerms(v[0], visit)
			}
			for _, operand := range v[1:] {
				ast.WalkTerms(operand, visit)
			}
			return true
		}
		return false
	}
	for _, m := range p.compiler.Modules {
		ast.WalkTerms(m, visit)
	}
	return list
}

// inputPath is the literal path at the beginning of a reference to the input.
func inputPath(ref ast.Ref) string {
	var names []string
	for _, t := range ref[1:] {
		s, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		names = append(names, string(s))
	}
	return strings.Join(names, ".")
}

package rego

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// compile compiles a part's modules together with the rules of the library that they need.
// resolved are copies of the modules after OPA resolved imports and names, before it
// rewrote the rest; nil if it did not get that far.
func (l *loader) compile(u *part, modules map[string]*ast.Module, check bool) (p *program, resolved map[string]*ast.Module, err error) {
	all := maps.Clone(modules)
	maps.Copy(all, l.native.needed(modules))
	c := l.compiler(u.domain, check).WithCapabilities(functions.WithNative(l.capabilities())).WithStageAfterID(ast.StageResolveRefs, ast.CompilerStageDefinition{
		Name: "KeepResolved", MetricName: "keep_resolved",
		Stage: func(c *ast.Compiler) *ast.Error {
			resolved = make(map[string]*ast.Module, len(c.Modules))
			for path, m := range c.Modules {
				resolved[path] = m.Copy()
			}
			return nil
		},
	})
	c.Compile(all)
	if c.Failed() {
		return nil, resolved, c.Errors
	}
	own := make(map[string]*ast.Module, len(modules))
	for path := range modules {
		own[path] = resolved[path]
	}
	p, err = newProgram(u, c, own, l.store)
	return p, resolved, err
}

// compiler returns a compiler that refuses all faults that are known before an evaluation.
// Checking the schema is a third of the time of compiling a repository's rules: without
// check it is left out, for rules that are known to pass it.
func (l *loader) compiler(d *domain, check bool) *ast.Compiler {
	c := ast.NewCompiler().
		WithCapabilities(l.capabilities()).
		WithStrict(true).
		WithDefaultRegoVersion(ast.RegoV1).
		WithUseTypeCheckAnnotations(false). // a comment cannot give the input another type
		SetErrorLimit(0)
	if check && l.runs(checkSchema) {
		c = c.WithSchemas(d.schema().set)
	}
	return c
}

// compileUnit compiles the parts of a unit that was checked before.
func (l *loader) compileUnit(u *unit) (*unitPrograms, error) {
	programs := &unitPrograms{}
	for _, p := range u.parts() {
		compiled, err := l.compilePart(p)
		if err != nil {
			return nil, err
		}
		if p.domain == deliveries {
			programs.deliveries = compiled
		} else {
			programs.egress = compiled
		}
	}
	return programs, nil
}

func (l *loader) compilePart(u *part) (*program, error) {
	modules := map[string]*ast.Module{}
	for _, src := range u.files {
		if src.test {
			continue
		}
		u.mark(src.path)
		m, err := l.parse(src)
		if err != nil {
			return nil, err
		}
		modules[src.path] = m
	}
	worker.SetMark(0)
	p, _, err := l.compile(u, modules, false)
	if err != nil {
		return nil, err
	}
	// The set was warmed up when it was loaded, with a program that was evicted since. An
	// error recurs with the next request of the repository.
	_ = p.warmUp(nil)
	return p, nil
}

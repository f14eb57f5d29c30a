package rego

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// execute executes a request about a unit. A nil result is a success without a result.
func (e *hostedEnvironment) execute(kind byte, r *unitRequest) (any, error) {
	u := newUnit(r.Repository)
	for _, f := range r.Sources {
		u.sources = append(u.sources, source{path: f.Path, content: f.Content, test: isTestFile(f.Path)})
	}
	ctx := context.Background()
	switch kind {
	case requestDocuments:
		return e.documents(ctx)
	case requestInspect:
		e.readDocuments(ctx)
		l := e.loader.fork()
		l.only(u)
		l.inspect(u)
		l.places.forget()
		return &inspectReply{Errors: l.errors, Warnings: l.warnings, Reads: u.reads, All: u.all}, nil
	case requestLint:
		e.readDocuments(ctx)
		l := e.loader.fork()
		l.only(u)
		l.lintUnits()
		return &inspectReply{Errors: l.errors, Warnings: l.warnings}, nil
	case requestTest:
		e.readDocuments(ctx)
		l := e.loader.fork()
		t := &testReply{}
		l.testsTime = r.Deadline
		var err error
		t.Covered, t.Lines, err = l.testUnit(ctx, u, &t.Report)
		return t, err
	case requestCompile, requestPrepare:
		p, err := e.compile(u)
		if err != nil || kind == requestPrepare {
			return nil, err
		}
		c := &compileReply{Empty: !p.egress.defines(), Deliveries: p.deliveries.defines()}
		if p.egress != nil {
			c.Names = p.egress.names
		}
		return c, nil
	}
	return e.executeInput(ctx, kind, r, u)
}

// executeInput executes a request that evaluates an input.
func (e *hostedEnvironment) executeInput(ctx context.Context, kind byte, r *unitRequest, u *unit) (any, error) {
	l := e.loader.fork()
	programs := e.compiled(u.repository)
	if programs == nil {
		var err error
		if programs, err = e.compile(u); err != nil {
			return nil, err
		}
	}
	in, err := recordedInput(r.Input, l.options.Names)
	if err != nil {
		return nil, err
	}
	p := programs.of(in.domain)
	switch {
	case kind == requestExplain && p.defines():
		return l.explainUnit(ctx, p, u.part(in.domain), in)
	case kind == requestExplain:
		return &explainReply{Results: (&evaluationReply{}).append(nil)}, nil
	case kind == requestPlace && p.defines():
		return e.place(ctx, p, u, in, r)
	case kind == requestPlace:
		return &placeReply{}, nil
	}
	return nil, errors.New("not a request to a policy worker")
}

// only sets the loader's only unit.
func (l *loader) only(u *unit) {
	l.organization, l.repositories = newUnit(""), nil
	if u.isRepository() {
		l.repositories = []*unit{u}
	} else {
		l.organization = u
	}
}

// readDocuments reads an environment's documents if it has no data yet. Their faults were
// reported before.
func (e *hostedEnvironment) readDocuments(ctx context.Context) {
	if e.loader.store == nil {
		one := e.loader.fork()
		e.loader.data = one.readDocuments(ctx)
		e.loader.store = inmem.NewFromASTObject(e.loader.data)
	}
}

func (e *hostedEnvironment) documents(ctx context.Context) (any, error) {
	l := e.loader.fork()
	defer l.places.forget()
	l.data = l.readDocuments(ctx)
	if l.runs(checkExceptions) {
		l.report(check.Exceptions(&check.Unit{Documents: l.documentView(), Repositories: l.known}))
	}
	value, err := ast.JSON(l.data)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return &documentsReply{Errors: l.errors, Warnings: l.warnings, Ended: l.endedExceptions(time.Now()), Data: text}, nil
}

func (e *hostedEnvironment) compile(u *unit) (*unitPrograms, error) {
	p, err := e.loader.compileUnit(u)
	if err != nil {
		return nil, err
	}
	e.programs.forget(u.repository, func(*hostedProgram) bool { return true })
	e.programs.get(u.repository, func() *hostedProgram { return &hostedProgram{p} })
	return p, nil
}

// place evaluates with a tracer, and returns the location at the deadline. If the
// evaluation ends the worker, the mark holds the location.
func (e *hostedEnvironment) place(ctx context.Context, p *program, u *unit, in *evalInput, r *unitRequest) (any, error) {
	tracer := &lastPlace{library: e.loader.libraryModules}
	_, err := p.run(ctx, in, r.Deadline, newMarkTracer(u, tracer))
	if err == nil || tracer.at == nil {
		return &placeReply{}, nil
	}
	return &placeReply{File: tracer.at.File, Line: tracer.at.Row, Column: tracer.at.Col}, nil
}

// explainUnit explains in a worker.
func (l *loader) explainUnit(ctx context.Context, p *program, u *part, in *evalInput) (*explainReply, error) {
	r, rules, err := l.explain(ctx, p, u, in)
	if err != nil {
		return nil, err
	}
	a := evaluationReply{results: r}
	if err := a.bound(p.name); err != nil {
		return nil, err
	}
	return &explainReply{Rules: rules, Results: a.append(nil)}, nil
}

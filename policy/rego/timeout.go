package rego

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// lastPlace is a tracer that remembers the last line of a policy's own files that was
// evaluated. It is slow, and used after a deadline was exceeded.
type lastPlace struct {
	library map[string]*ast.Module
	at      *ast.Location
}

func (*lastPlace) Enabled() bool                { return true }
func (*lastPlace) Config() topdown.TraceConfig  { return topdown.TraceConfig{} }
func (l *lastPlace) TraceEvent(e topdown.Event) { l.note(e.Location); l.noteNode(e.Node) }

func (l *lastPlace) noteNode(n ast.Node) {
	if n != nil {
		l.note(n.Loc())
	}
}

func (l *lastPlace) note(loc *ast.Location) {
	if loc != nil && loc.File != "" && loc.Row > 0 && l.library[loc.File] == nil {
		l.at = loc
	}
}

// timeoutPlace evaluates again with a tracer and returns an error with the location at the
// deadline; nil if the evaluation ends in time.
func (p *program) timeoutPlace(ctx context.Context, in *evalInput, deadline time.Duration, library map[string]*ast.Module) error {
	tracer := &lastPlace{library: library}
	var err error
	failed := recovered("evaluating "+p.name, func() error {
		_, err = p.run(ctx, in, deadline, tracer)
		return nil
	})
	if failed != nil || err == nil || tracer.at == nil {
		return failed
	}
	return timeoutError(tracer.at.File, tracer.at.Row, tracer.at.Col, deadline)
}

// timeoutError is the error of an evaluation that was at a location when its deadline
// passed.
func timeoutError(file string, line, column int, deadline time.Duration) error {
	return Error{File: file, Line: max(1, line), Column: max(1, column),
		Message: fmt.Sprintf("the evaluation exceeds its deadline of %v at this place", deadline),
		Hint:    "look up values by key, and avoid nested loops", Retry: true}
}

package rego

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// readDocuments reads the documents as one object. It stops early when ctx ends.
func (l *loader) readDocuments(ctx context.Context) ast.Object {
	object, _ := l.readTree(ctx).Term().Value.(ast.Object)
	return object
}

// readTree reads the documents with the position of each value.
func (l *loader) readTree(ctx context.Context) *document.Node {
	options := document.TreeOptions{Begin: func(index int) bool {
		worker.SetMark(markOf(index, 1))
		worker.Tick()
		return ctx.Err() == nil
	}}
	if l.runs(checkReservedData) {
		options.Reserved = "sallyport" // packages are below it: a document there would pass for a rule
	}
	root, faults := document.ReadTree(l.documents, options)
	for _, f := range faults {
		l.fail(documentError(f.File, &f.Error))
	}
	return root
}

func documentError(file string, fault *document.Error) Error {
	return Error{File: file, Line: max(1, fault.At.Line), Column: max(1, fault.At.Column), Message: fault.Message, Hint: fault.Hint}
}

// endedExceptions are warnings of exceptions that have ended. Those that never count are
// errors: see package check.
func (l *loader) endedExceptions(now time.Time) Errors {
	var list Errors
	for _, e := range exceptionsIn(l.data) {
		if e.Until.IsZero() || e.Until.After(now) {
			continue
		}
		w := Error{Message: "the exception " + e.Path + " of " + e.Owner + " ended at " + e.Until.Format(time.RFC3339), Hint: "remove it, or agree on a new end"}
		w.File, w.Line, w.Column = l.placeOf(e.at)
		list = append(list, w)
	}
	return list
}

// placeOf is the position of a path of names and indexes in the documents.
func (l *loader) placeOf(path []any) (file string, line, column int) {
	l.places.mu.Lock()
	defer l.places.mu.Unlock()
	if l.places.root == nil {
		one := l.fork()
		l.places.root = one.readTree(context.Background())
	}
	at := l.places.root.Find(path)
	if at.File == "" {
		return "", 0, 0
	}
	return at.File, max(1, at.At.Line), max(1, at.At.Column)
}

func (l *loader) documentView() check.Documents {
	return check.Documents{Root: l.data, Place: l.placeOf, Cache: &l.places.found}
}

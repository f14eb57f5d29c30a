package rego

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/worker"
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

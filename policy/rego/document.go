package rego

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// Bounds on one document, so that reading it cannot take the stack.
const maxNesting = 64

// position is a place in a document.
type position struct{ line, column int }

// documentError is what a reader of documents returns.
type documentError struct {
	at      position
	message string
	hint    string
}

func (e *documentError) Error() string { return e.message }

// node is a document as it was read: enough of it to merge and to say where
// something stands.
type node struct {
	at     position
	file   string
	object map[string]*node // nil unless the value is an object
	value  *ast.Term        // nil if it is
	items  []*node          // of a list, for their places
}

func (n *node) term() *ast.Term {
	if n.object == nil {
		return n.value
	}
	pairs := make([][2]*ast.Term, 0, len(n.object))
	for key, child := range n.object {
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(key), child.term()})
	}
	return ast.ObjectTerm(pairs...)
}

// readDocuments builds the data tree from the files below data/: the folders are
// the path, the file's name is not. It stops early when ctx ends.
func (l *loader) readDocuments(ctx context.Context) ast.Object {
	root := l.readTree(ctx)
	term := root.term()
	object, _ := term.Value.(ast.Object)
	return object
}

// readTree reads the documents with the places of what is in them.
func (l *loader) readTree(ctx context.Context) *node {
	root := &node{object: map[string]*node{}}
	for i, f := range l.documents {
		if ctx.Err() != nil {
			return root
		}
		worker.SetMark(markOf(i, 1))
		worker.Tick()
		var content *node
		err := recovered("reading the document", func() (err error) {
			if strings.HasSuffix(f.Path, ".json") {
				content, err = readJSON(f.Content)
			} else {
				content, err = readYAML(f.Content)
			}
			return err
		})
		if err != nil {
			l.failDocument(f.Path, err)
			continue
		}
		if content == nil { // an empty file says nothing
			continue
		}
		if content.object == nil {
			l.fail(Error{File: f.Path, Line: content.at.line, Column: content.at.column,
				Message: "a data file holds an object, for several files share a folder",
				Hint:    "give the value a name: hosts: [...]"})
			continue
		}
		setFile(content, f.Path)
		l.insert(root, f, content)
	}
	return root
}

func setFile(n *node, file string) {
	n.file = file
	for _, child := range n.object {
		setFile(child, file)
	}
	for _, child := range n.items {
		setFile(child, file)
	}
}

func (l *loader) insert(root *node, f policy.File, content *node) {
	folder := strings.TrimPrefix(path.Dir(f.Path), "data")
	at := root
	for name := range strings.SplitSeq(strings.Trim(folder, "/"), "/") {
		if name == "" {
			continue
		}
		next := at.object[name]
		if next == nil {
			next = &node{object: map[string]*node{}, at: position{1, 1}, file: f.Path}
			at.object[name] = next
		}
		if next.object == nil {
			l.fail(Error{File: f.Path, Line: 1, Column: 1,
				Message: fmt.Sprintf("its folder is already a value, in %s:%d", next.file, next.at.line), Hint: "rename one of the two"})
			return
		}
		at = next
	}
	l.merge(at, content, f.Path)
	// Policies cannot be told from data by whoever reads data.sallyport…, so
	// that nothing but packages may be there.
	if reserved := root.object["sallyport"]; reserved != nil && l.runs(checkReservedData) {
		l.fail(Error{File: f.Path, Line: max(1, reserved.at.line), Column: max(1, reserved.at.column),
			Message: "data.sallyport is the namespace of policies and not of data", Hint: "choose another name"})
		delete(root.object, "sallyport")
	}
}

// merge puts the members of an object into another one. The same member twice is
// an error unless both are objects: which one counts would depend on the names
// of files.
func (l *loader) merge(into, from *node, file string) {
	for key, child := range from.object {
		old := into.object[key]
		switch {
		case old == nil:
			into.object[key] = child
		case old.object != nil && child.object != nil:
			l.merge(old, child, file)
		default:
			l.fail(Error{File: file, Line: child.at.line, Column: child.at.column,
				Message: fmt.Sprintf("%q is defined in %s:%d as well", key, old.file, old.at.line), Hint: "keep one of the two"})
		}
	}
}

func (l *loader) failDocument(file string, err error) {
	e := Error{File: file, Line: 1, Column: 1, Message: err.Error()}
	if d, ok := err.(*documentError); ok {
		e.Line, e.Column, e.Message, e.Hint = max(1, d.at.line), max(1, d.at.column), d.message, d.hint
	}
	l.fail(e)
}

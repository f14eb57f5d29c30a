// Package document reads the documents of a policy, YAML and JSON below data/, and
// keeps the position of each value.
//
// Only plain values are read: a document means the same to every reader, and a short
// document cannot become a long value. Documents come from repositories; the readers are
// fuzzed.
package document

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxNesting bounds the levels of a document, so that a reader's stack is bounded.
const maxNesting = 64

// Position is a line and a column, both from 1; the zero value is the whole document.
type Position struct{ Line, Column int }

// Error is a fault in a document.
type Error struct {
	At      Position
	Message string // what is wrong
	Hint    string // what to write instead; may be empty
}

func (e *Error) Error() string { return e.Message }

// Node is a value of a document with its position.
type Node struct {
	At     Position
	File   string           // set by [ReadTree]
	Object map[string]*Node // the members; nil unless the value is an object
	Items  []*Node          // the items of a list
	value  *ast.Term        // nil if the value is an object
}

// Term returns the value.
func (n *Node) Term() *ast.Term {
	if n.Object == nil {
		return n.value
	}
	pairs := make([][2]*ast.Term, 0, len(n.Object))
	for key, child := range n.Object {
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(key), child.Term()})
	}
	return ast.ObjectTerm(pairs...)
}

// Find follows a path of names (string) and indexes (int) as far as it exists, and
// returns the last value on it.
func (n *Node) Find(path []any) *Node {
	at := n
	for _, p := range path {
		var next *Node
		switch p := p.(type) {
		case string:
			next = at.Object[p]
		case int:
			if p < len(at.Items) {
				next = at.Items[p]
			}
		}
		if next == nil {
			break
		}
		at = next
	}
	return at
}

// Parse reads a file: JSON if its name ends in .json, YAML otherwise. It returns nil for
// an empty file. The error is of type [*Error] where the content is at fault; a panic of
// a reader is an error too.
func Parse(file string, content []byte) (n *Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = nil, fmt.Errorf("reading the document panicked: %v", p)
		}
	}()
	if strings.HasSuffix(file, ".json") {
		return ParseJSON(content)
	}
	return ParseYAML(content)
}

package rego

import (
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readDocument reads a document in YAML or JSON as the files below data/ are read,
// and returns it as JSON. The error is of type [Error], without a file.
func readDocument(content []byte) ([]byte, error) {
	var n *node
	err := recovered("reading the document", func() (err error) {
		n, err = readYAML(content)
		return err
	})
	if d, ok := err.(*documentError); ok {
		return nil, Error{Line: max(1, d.at.line), Column: max(1, d.at.column), Message: d.message, Hint: d.hint}
	}
	if err != nil {
		return nil, Error{Message: err.Error()}
	}
	if n == nil {
		return []byte("null"), nil
	}
	value, err := ast.JSON(n.term().Value)
	if err != nil {
		return nil, fmt.Errorf("the document: %w", err)
	}
	return json.Marshal(value)
}

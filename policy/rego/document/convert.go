package document

import (
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// JSON reads a document in YAML or JSON and returns it as JSON, an empty one as null.
// The error is of type [*Error] where the document is at fault.
func JSON(content []byte) ([]byte, error) {
	n, err := Parse("", content)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return []byte("null"), nil
	}
	value, err := ast.JSON(n.Term().Value)
	if err != nil {
		return nil, fmt.Errorf("convert the document: %w", err)
	}
	return json.Marshal(value)
}

package rego

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// inputSchema types an input, so that an unknown field is an error when the policy is
// loaded and not a rule that never matches. Shared and read-only.
type inputSchema struct {
	set *ast.SchemaSet
	// fields are the fields of each object in the input, by its path. The members of a list
	// have the path of the list and ".*".
	fields map[string][]string
	// types are the types of the input's fields by their paths, as
	// [check.Unit.FieldType] names them.
	types map[string]string
}

// readSchema reads a schema that is embedded in the program.
func readSchema(text []byte) *inputSchema {
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		panic("rego: the schema of an input: " + err.Error()) // a fault of the build
	}
	s := &inputSchema{set: ast.NewSchemaSet(), fields: map[string][]string{}, types: map[string]string{}}
	s.set.Put(ast.SchemaRootRef, any(document))
	s.walk("", document)
	return s
}

func (s *inputSchema) walk(path string, schema map[string]any) {
	kind, _ := schema["type"].(string)
	if kind == "integer" {
		kind = "number"
	}
	if path != "" {
		s.types[path] = kind
	}
	if items, ok := schema["items"].(map[string]any); ok {
		s.walk(path+".*", items)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, sub := range properties {
		s.fields[path] = append(s.fields[path], name)
		if sub, ok := sub.(map[string]any); ok {
			s.walk(strings.TrimPrefix(path+"."+name, "."), sub)
		}
	}
	slices.Sort(s.fields[path])
}

package rego

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

//go:embed schema.json
var schemaJSON []byte

// schemas types the input, so that an unknown field is an error when the policy is loaded
// and not a rule that never matches. Shared and read-only.
var schemas = sync.OnceValue(func() *ast.SchemaSet {
	var document any
	if err := json.Unmarshal(schemaJSON, &document); err != nil {
		panic("rego: schema.json: " + err.Error()) // it is embedded: a fault of the build
	}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, document)
	return set
})

// absentPaths are the fields of the input, with all fields below them, that a request may
// lack, and the requests that lack them.
var absentPaths = []struct{ path, without string }{
	{"principal.deployment", "a step that deploys nothing"},
	{"principal.branch", "a run without a branch"},
	{"target.scheme", "a CONNECT"},
	{"request", "a CONNECT, whose content cannot be read"},
}

// namePaths are the fields of the input that need the REST API.
var namePaths = []string{
	"principal.workspace.slug",
	"principal.repository.full_name",
	"principal.repository.project",
	"principal.deployment.name",
	"principal.deployment.slug",
	"principal.deployment.type",
}

// inputFields are the fields of each object in the input, by its path.
var inputFields = sync.OnceValue(func() map[string][]string {
	fields := map[string][]string{}
	var walk func(path string, schema map[string]any)
	walk = func(path string, schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for name, sub := range properties {
			fields[path] = append(fields[path], name)
			below := name
			if path != "" {
				below = path + "." + name
			}
			if sub, ok := sub.(map[string]any); ok {
				walk(below, sub)
			}
		}
		slices.Sort(fields[path])
	}
	var document map[string]any
	if err := json.Unmarshal(schemaJSON, &document); err != nil {
		panic("rego: schema.json: " + err.Error())
	}
	walk("", document)
	return fields
})

// fieldTypes are the types of the input's fields by their paths, as
// [check.Unit.FieldType] names them.
var fieldTypes = sync.OnceValue(func() map[string]string {
	types := map[string]string{}
	var walk func(path string, schema map[string]any)
	walk = func(path string, schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for name, sub := range properties {
			sub, _ := sub.(map[string]any)
			below := strings.TrimPrefix(path+"."+name, ".")
			switch kind, _ := sub["type"].(string); kind {
			case "integer":
				types[below] = "number"
			default:
				types[below] = kind
			}
			walk(below, sub)
		}
	}
	var document map[string]any
	if err := json.Unmarshal(schemaJSON, &document); err != nil {
		panic("rego: schema.json: " + err.Error())
	}
	walk("", document)
	return types
})

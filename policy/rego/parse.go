package rego

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/policy/rego/document"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// parse parses one file. Every error has a location, the beginning of the file if OPA
// reports none.
func (l *loader) parse(s source) (module *ast.Module, err error) {
	err = recovered("parsing", func() (err error) {
		module, err = ast.ParseModuleWithOpts(s.path, strings.TrimPrefix(string(s.content), document.ByteOrderMark), ast.ParserOptions{Capabilities: l.capabilities(), RegoVersion: ast.RegoV1})
		return err
	})
	beginning := ast.NewLocation(nil, s.path, 1, 1)
	switch errs, ok := err.(ast.Errors); {
	case ok:
		for _, e := range errs {
			if e.Location == nil {
				e.Location = beginning
			}
			e.Details = sourceLine(document.Line(s.content, e.Location.Row))
		}
	case err != nil && !strings.HasSuffix(err.Error(), "empty module"):
		err = &ast.Error{Message: err.Error(), Location: beginning}
	case module == nil:
		err = &ast.Error{Message: "the file is empty", Location: beginning}
	}
	return module, err
}

// fromOPA adds the errors of OPA's parser and compiler.
func (l *loader) fromOPA(d *domain, err error) {
	switch err := err.(type) {
	case nil:
	case ast.Errors:
		for _, e := range err {
			l.fromOPA(d, e)
		}
	case *ast.Error:
		if err == nil {
			return
		}
		message, hint := explain(d, err)
		l.fail(at(err.Location, nil, message, hint))
	default:
		l.fail(Error{Message: err.Error()})
	}
}

// explain returns the message and a hint for an error of OPA.
func explain(d *domain, err *ast.Error) (message, hint string) {
	message = err.Message
	if name, ok := strings.CutPrefix(message, "undefined function "); ok {
		if why := functions.WhyRemoved(name); why != "" {
			return name + " is not available in a policy", why
		}
	}
	if field, ok := strings.CutPrefix(message, "undefined ref: "); ok && strings.HasPrefix(field, "input.") {
		hint = d.schema().unknownField(field)
		return field + " is not in the input", hint
	}
	if strings.HasPrefix(message, "undefined ref: data.") {
		return message, "no rule or package of that name can be read here"
	}
	if do := remedy(d, err); do != "" {
		return message, do
	}
	if err.Details != nil {
		if lines := err.Details.Lines(); len(lines) > 0 {
			kept := slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return strings.TrimSpace(s) == "" })
			hint = strings.Join(strings.Fields(strings.Join(kept, " ")), " ")
		}
	}
	if len(hint) > 300 {
		hint = hint[:300]
	}
	return message, hint
}

// unknownField returns a hint for a field that the input does not have.
func (s *inputSchema) unknownField(ref string) string {
	parts := strings.Split(strings.TrimPrefix(ref, "input."), ".")
	for i := range parts {
		parent := strings.Join(parts[:i], ".")
		known := s.fields[parent]
		if slices.Contains(known, parts[i]) {
			continue
		}
		if s.types[parent] == "array" {
			return fmt.Sprintf("input.%s is a list: write some item in input.%s, and read item.%s", parent, parent, parts[i])
		}
		if len(known) == 0 {
			return fmt.Sprintf("input.%s is a single value", parent)
		}
		if n := nearest.Of(parts[i], known); n != "" {
			return "did you mean input." + strings.Join(append(parts[:i:i], n), ".") + "?"
		}
		return strings.TrimSuffix("input."+parent, ".") + " has " + strings.Join(known, ", ")
	}
	return ""
}

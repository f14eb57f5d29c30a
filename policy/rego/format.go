package rego

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// formatFile formats a Rego file: see [Format].
func formatFile(path string, content []byte) (formatted []byte, err error) {
	before, err := comments(path, content)
	if err != nil {
		return nil, err
	}
	err = recovered("formatting", func() (err error) {
		formatted, err = format.SourceWithOpts(path, content, format.Opts{RegoVersion: ast.RegoV1})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	after, err := comments(path, formatted)
	if err != nil || after != before {
		return nil, Errors{inTheWay(path)}
	}
	return formatted, nil
}

// inTheWay is the error for a file whose comments prevent formatting.
func inTheWay(path string) Error {
	return Error{File: path, Line: 1, Column: 1, Message: "formatting would lose a comment, or break the rule around it",
		Hint: "move comments in a call, a list, a set or an object above the rule, and format again"}
}

// comments counts a file's comments.
func comments(path string, content []byte) (int, error) {
	l := &loader{}
	m, err := l.parse(source{path: path, content: content})
	if err != nil {
		l.fromOPA(domainOf(path), err)
		return 0, l.errors
	}
	if m == nil {
		return 0, errors.New(path + ": the file is empty")
	}
	return len(m.Comments), nil
}

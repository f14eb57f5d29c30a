package rego

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Format returns a Rego file in the form that OPA gives it, which is the one that
// [Check] wants. The path is for the error, which is of type [Errors] where the file
// does not parse. OPA v1.21 loses some comments, such as the last one inside of a set:
// a file that would lose one is not formatted, and the error is of that type too.
func Format(path string, content []byte) (formatted []byte, err error) {
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
	if err != nil {
		return nil, fmt.Errorf("%s: what formatting makes of it does not parse: %w", path, err)
	}
	if after != before {
		return nil, Errors{{File: path, Message: "formatting would lose a comment", Hint: "move those that stand inside of a list, a set or an object above the rule, and format again"}}
	}
	return formatted, nil
}

// comments counts a file's comments.
func comments(path string, content []byte) (int, error) {
	l := &loader{}
	m, err := l.parse(source{path: path, content: content})
	if err != nil {
		l.fromOPA(err)
		return 0, l.errors
	}
	if m == nil {
		return 0, errors.New(path + ": the file is empty")
	}
	return len(m.Comments), nil
}

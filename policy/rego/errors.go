package rego

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Error is one fault of a policy tree, or one warning.
type Error struct {
	File    string // path inside the tree
	Line    int    // from 1; 0 where the whole file is meant
	Column  int    // from 1; 0 where the whole line is meant
	Message string // what is wrong
	Hint    string // what to write instead; may be empty
	// Retry is set if the fault may be that of a loaded machine: a limit on time or memory
	// was exceeded. The same files may pass later.
	Retry bool `json:",omitempty"`
}

func (e Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
			if e.Column > 0 {
				fmt.Fprintf(&b, ":%d", e.Column)
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString(": ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Errors are the faults of a policy tree, in the order of files and lines.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Retryable reports whether the same files may pass later: each fault in an error is that
// a limit on time or memory was exceeded, perhaps on a loaded machine.
func Retryable(err error) bool {
	errs, ok := errors.AsType[Errors](err)
	return ok && len(errs) > 0 && !slices.ContainsFunc(errs, func(e Error) bool { return !e.Retry })
}

// TestsFailed is a failure of tests of the policy, which has no other fault. It wraps
// [Errors].
type TestsFailed struct{ Errors }

// Unwrap returns the tests that failed.
func (f TestsFailed) Unwrap() error { return f.Errors }

// sorted brings errors into their order and drops repetitions: the same mistake
// is often seen by more than one check of the same line.
func (e Errors) sorted() Errors {
	e = slices.Clone(e) // dropping would clear the end of the list that it is called on
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(e, func(a, b Error) bool {
		return a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}

// ProbeFailed is a failure of a repository's rules to decide a recent input. It wraps
// [Errors].
type ProbeFailed struct{ Errors }

// Unwrap returns what failed.
func (f ProbeFailed) Unwrap() error { return f.Errors }

// errDeadline is the error of an evaluation that was canceled at its deadline.
var errDeadline = errors.New("the evaluation took longer than")

// at makes an Error for a location in the policy. OPA leaves some generated terms without
// one; fallback is the location of their rule.
func at(loc *ast.Location, fallback *ast.Location, message, hint string) Error {
	if loc == nil || loc.Row == 0 {
		loc = fallback
	}
	if loc == nil {
		return Error{Message: message, Hint: hint}
	}
	return Error{File: loc.File, Line: max(1, loc.Row), Column: max(1, loc.Col), Message: message, Hint: hint}
}

// asError returns the Error that an error wraps, or makes one without a location.
func asError(err error) Error {
	if e, ok := errors.AsType[Error](err); ok {
		return e
	}
	return Error{Message: err.Error(), Retry: errors.Is(err, errDeadline)}
}

// recovered runs f. A panic becomes an error that begins with what.
func recovered(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s panicked: %v", what, p)
		}
	}()
	return f()
}

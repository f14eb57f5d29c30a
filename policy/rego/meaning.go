package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// checkMeaning runs the checks of package check over a unit that parses: what is
// valid and cannot be meant.
func (l *loader) checkMeaning(u *unit, deciding, resolved map[string]*ast.Module) {
	view := &check.Unit{
		Package: u.pkg(), Sets: u.sets(), Organization: !u.isRepository(),
		Resolved: make(map[string]*ast.Module, len(deciding)),
	}
	for path := range deciding {
		view.Resolved[path] = resolved[path]
	}
	for _, c := range []struct {
		name string
		run  func(*check.Unit) []check.Finding
	}{
		{checkUnread, check.Unread},
		{checkSingleNames, check.SingleNames},
	} {
		if l.runs(c.name) {
			l.report(c.run(view))
		}
	}
}

// report takes over what the checks found.
func (l *loader) report(findings []check.Finding) {
	for _, f := range findings {
		e := Error{File: f.File, Line: f.Line, Column: f.Column, Message: f.Message, Hint: f.Hint}
		if f.Warning {
			l.warn(e)
		} else {
			l.fail(e)
		}
	}
}

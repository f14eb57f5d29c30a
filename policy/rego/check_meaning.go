package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// checkMeaning runs the checks of package check, for valid rules that cannot be intended,
// on a unit that parses. p is nil if the unit does not compile.
func (l *loader) checkMeaning(u *part, deciding, resolved map[string]*ast.Module, p *program) {
	view := l.view(u, deciding, resolved)
	if p != nil {
		view.Compiled = p.compiler.Modules
	}
	if m := check.RepositoryName(view, u.repository); m != nil && u.isRepository() && l.options.Names {
		m.File = u.files[0].path
		l.report([]check.Finding{*m})
	}
	for _, c := range []struct {
		name string
		run  func(*check.Unit) []check.Finding
	}{
		{checkUnread, check.Unread},
		{checkUndefined, check.UndefinedRules},
		{checkConditions, check.Unconditional},
		{checkSingleNames, check.SingleNames},
		{checkOperands, check.Operands},
		{checkKeys, check.Entries},
		{checkAbsent, check.Absence},
	} {
		if l.runs(c.name) {
			l.report(c.run(view))
		}
	}
}

// view is the read-only view of a unit for package check.
func (l *loader) view(u *part, deciding, resolved map[string]*ast.Module) *check.Unit {
	view := &check.Unit{
		Package: u.pkg(), Sets: u.sets(), Organization: !u.isRepository(),
		Resolved:  make(map[string]*ast.Module, len(deciding)),
		Documents: l.documentView(), Optional: u.domain.optional, Subject: u.domain.subject,
	}
	for path := range deciding {
		view.Resolved[path] = resolved[path]
	}
	view.Repositories = l.known
	if known := l.options.Webhooks; known != nil {
		view.Receivers, view.Endpoints = append([]string{}, known.Receivers...), append([]string{}, known.Endpoints...)
		view.Resources = append([]string{}, known.Resources...)
	}
	view.Fields = func(path string) []string { return u.domain.schema().fields[path] }
	view.FieldType = func(path string) string { return u.domain.schema().types[path] }
	view.EntryValue = func(key string, value ast.Value) (message, hint string) {
		return checkValue(key, value), valueHint[key]
	}
	return view
}

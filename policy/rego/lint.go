package rego

import (
	"bytes"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// lintFormat warns of files that differ from OPA's format.
func (l *loader) lintFormat() {
	for _, u := range l.units() {
		for _, s := range u.sources {
			formatted, err := formatFile(s.path, s.content)
			if errs, _ := errors.AsType[Errors](err); len(errs) == 1 && errs[0] == inTheWay(s.path) {
				l.warn(errs[0])
			}
			if err == nil && !bytes.Equal(formatted, s.content) {
				l.warn(Error{File: s.path, Line: firstDifference(formatted, s.content), Message: "the file is not formatted", Hint: "run sallyport policy fmt"})
			}
		}
	}
}

func firstDifference(a, b []byte) int {
	line := 1
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			break
		}
		if a[i] == '\n' {
			line++
		}
	}
	return line
}

// lintExpired warns of allows that ended before now: they never count again.
func (l *loader) lintExpired(now time.Time) {
	for _, u := range l.units() {
		for _, s := range u.sources {
			module, err := l.parse(s)
			if s.test || err != nil {
				continue
			}
			for _, rule := range module.Rules {
				if check.RuleName(rule) != setAllow || rule.Head.Key == nil {
					continue
				}
				entry, ok := rule.Head.Key.Value.(ast.Object)
				if !ok {
					continue
				}
				end := entry.Get(ast.StringTerm("expires"))
				if end == nil {
					continue
				}
				text, _ := end.Value.(ast.String)
				if ends, err := time.Parse(time.RFC3339, string(text)); err == nil && !now.Before(ends) {
					l.warn(at(end.Location, rule.Location, "the allow ended at "+string(text)+" and never counts again", "remove it, or agree on a new end"))
				}
			}
		}
	}
}

// lintUnits collects the warnings about the files of the units.
func (l *loader) lintUnits() {
	l.lintFormat()
	l.lintExpired(time.Now())
	l.lintSlow()
}

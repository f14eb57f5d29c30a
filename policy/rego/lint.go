package rego

import (
	"bytes"
	"errors"
)

// lintFormat warns of files that are not formatted as OPA does it.
func (l *loader) lintFormat() {
	for _, u := range l.units() {
		for _, s := range u.sources {
			formatted, err := Format(s.path, s.content)
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

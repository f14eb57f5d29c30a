package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Error is one thing that is wrong with a configuration. It never contains a secret: values that could be one (what
// stands where a secret's file should be named, an URL with a user name) are pointed at and not repeated.
type Error struct {
	// File is the name that was given to [Load] or [Parse].
	File string
	// Line and Column count from 1, columns in characters. Both are 0 where the file as a whole is meant.
	Line, Column int
	// Path is the key, such as listeners[0].tls.key_file; empty where no key is meant.
	Path string
	// Message is what is wrong, Hint what to do; Hint may be empty. Neither has a line break.
	Message, Hint string
}

// Error returns everything on one line: FILE:LINE:COLUMN: PATH: MESSAGE; HINT.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration, sorted by position and never empty where it is returned
// as an error.
type Errors []Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Warning is a warning about a configuration that is accepted. Its fields are those of [Error].
type Warning Error

// String returns everything on one line, as [Error.Error] does.
func (w Warning) String() string { return Error(w).Error() }

// before orders by position and then by key, so that a report reads from top to bottom and is the same every time.
func before(a, b Error) int {
	return cmp.Or(
		cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column),
		strings.Compare(a.Path, b.Path),
		strings.Compare(a.Message, b.Message),
	)
}

func sorted(errs Errors) Errors {
	slices.SortStableFunc(errs, before)
	return errs
}

// problem is an error that does not know its position yet.
type problem struct{ message, hint string }

func problemf(hint, format string, args ...any) *problem {
	return &problem{message: fmt.Sprintf(format, args...), hint: hint}
}

// quote shows a value from the file inside a message: escaped, so that it cannot break the line, and short.
func quote(text string) string {
	const maxRunes = 60
	if runes := []rune(text); len(runes) > maxRunes {
		return fmt.Sprintf("%q…", string(runes[:maxRunes]))
	}
	return fmt.Sprintf("%q", text)
}

// printable shortens and escapes a key from the file for use in a path.
func printable(key string) string {
	if key != "" && len(key) <= 40 && !strings.ContainsFunc(key, func(r rune) bool {
		return !unicode.IsGraphic(r) || strings.ContainsRune(" :.;[]\"", r)
	}) {
		return key
	}
	return quote(key)
}

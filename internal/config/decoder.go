package config

import (
	"fmt"
	"time"
)

// decoder collects what is found while a document is decoded: errors, warnings, and where each key stands, for the
// rules between keys.
type decoder struct {
	unread bool // files and variables that the configuration names are not read

	file      string
	directory string // absolute; where relative paths start
	now       time.Time
	errs      Errors
	warnings  Errors
	keys      map[string]position // of the keys, and of the items of lists
	values    map[string]position
	failed    map[string]bool            // keys whose value was refused: rules between keys pass them over
	current   string                     // the path of the value that a kind is parsing, for its warnings
	places    func() map[string][]string // where in the schema each key is known, by its name
}

func newDecoder(file, directory string, now time.Time) *decoder {
	return &decoder{
		file: file, directory: directory, now: now,
		keys: map[string]position{}, values: map[string]position{}, failed: map[string]bool{},
	}
}

// fail records an error at the value of path.
func (d *decoder) fail(path, hint, format string, args ...any) {
	d.failAt(d.values[path], path, hint, format, args...)
}

func (d *decoder) failAt(at position, path, hint, format string, args ...any) {
	d.failed[path] = true
	d.errs = append(d.errs, Error{
		File: d.file, Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// warn records a warning at the value of path.
func (d *decoder) warn(path, hint, format string, args ...any) {
	at := d.values[path]
	d.warnings = append(d.warnings, Error{
		File: d.file, Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// has reports whether the file gives the key, whatever its value.
func (d *decoder) has(path string) bool { _, ok := d.keys[path]; return ok }

// sound reports whether the file gives the key and its value was accepted.
func (d *decoder) sound(path string) bool { return d.has(path) && !d.failed[path] }

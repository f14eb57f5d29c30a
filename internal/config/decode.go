package config

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// decoder collects what is found while a document is decoded: errors, remarks, and where each key stands, for the
// rules between keys.
type decoder struct {
	unread bool // files and variables that the configuration names are not read

	file      string
	directory string // absolute; where relative paths start
	now       time.Time
	errs      Errors
	remarks   Errors
	keys      map[string]position // of the keys, and of the items of lists
	values    map[string]position
	failed    map[string]bool // keys whose value was refused: rules between keys pass them over
	current   string          // the path of the value that a kind is parsing, for its remarks
}

func newDecoder(file, directory string, now time.Time) *decoder {
	return &decoder{
		file: file, directory: directory, now: now,
		keys: map[string]position{}, values: map[string]position{}, failed: map[string]bool{},
	}
}

func (d *decoder) document(cfg *Config, root node) {
	if root.shape == mapping || root.shape == nothing {
		root.at = position{1, 1} // what is missing from a document is missing from its beginning
	}
	d.mapping("", root, rootFields(cfg))
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

// remark records a warning at the value of path.
func (d *decoder) remark(path, hint, format string, args ...any) {
	at := d.values[path]
	d.remarks = append(d.remarks, Error{
		File: d.file, Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// has reports whether the file gives the key, whatever its value.
func (d *decoder) has(path string) bool { _, ok := d.keys[path]; return ok }

// sound reports whether the file gives the key and its value was accepted.
func (d *decoder) sound(path string) bool { return d.has(path) && !d.failed[path] }

// mapping decodes n into fields. Where n is not a mapping, that is the only error.
func (d *decoder) mapping(path string, n node, fields []field) {
	if !d.has(path) {
		d.keys[path], d.values[path] = n.at, n.at
	}
	if n.shape != mapping && (path != "" || n.shape != nothing) {
		d.wrongShape(path, n, "a mapping of keys to values", "its keys are "+names(fields))
		return
	}
	given := map[string]entry{}
	for _, e := range n.entries {
		if first, twice := given[e.key]; twice {
			d.failAt(e.at, join(path, printable(e.key)), "keep one of them", "the key is given a second time, after line %d", first.at.line)
			continue
		}
		given[e.key] = e
		if !knows(fields, e.key) {
			d.unknownKey(path, e, fields)
		}
	}
	for _, f := range fields {
		own := join(path, f.name)
		e, ok := given[f.name]
		if !ok {
			if f.required {
				d.failAt(d.keys[path], own, "add it: "+f.describe(), "the key is required and missing")
			}
			f.absent(d, own)
			continue
		}
		d.keys[own], d.values[own] = e.at, e.value.at
		if e.value.shape == nothing && f.keys == nil {
			d.failAt(e.at, own, "give it one, or remove the key", "the key has no value")
			continue
		}
		f.decode(d, own, e.value)
	}
}

// items checks that n is a list of a fitting length and notes where its items stand.
func (d *decoder) items(path string, n node, want string, least, most int) ([]node, bool) {
	if n.shape != sequence {
		d.wrongShape(path, n, "a list", "begin each of its lines with \"- \", each "+want)
		return nil, false
	}
	if len(n.items) < least {
		d.fail(path, "add "+want, "the list is empty")
		return nil, false
	}
	if len(n.items) > most {
		d.fail(path, fmt.Sprintf("keep at most %d", most), "the list has %d items", len(n.items))
		return nil, false
	}
	for i, item := range n.items {
		own := fmt.Sprintf("%s[%d]", path, i)
		d.keys[own], d.values[own] = item.at, item.at
	}
	return n.items, true
}

// decodeScalar parses one value.
func decodeScalar[T any](d *decoder, path string, n node, k kind[T]) (value T, ok bool) {
	switch {
	case n.shape != text:
		d.wrongShape(path, n, k.want, "")
		return value, false
	case n.lines:
		d.fail(path, "write it on one line", "want %s, found a text over several lines", k.want)
		return value, false
	case strings.ContainsFunc(n.text, func(r rune) bool { return !unicode.IsGraphic(r) }):
		d.fail(path, "remove it", "the value contains an invisible character")
		return value, false
	case n.quoted && k.bare:
		d.fail(path, "remove the quotes", "want %s, found a quoted text", k.want)
		return value, false
	case n.text == "":
		d.fail(path, "give it one, or remove the key", "the value is empty")
		return value, false
	}
	d.current = path
	value, p := k.parse(d, n.text)
	if p != nil {
		d.fail(path, p.hint, "%s", p.message)
		return value, false
	}
	return value, true
}

func (d *decoder) wrongShape(path string, n node, want, hint string) {
	d.failAt(n.at, path, hint, "want %s, found %s", want, n.shape)
}

func knows(fields []field, name string) bool {
	for _, f := range fields {
		if f.name == name {
			return true
		}
	}
	return false
}

func names(fields []field) string {
	var all []string
	for _, f := range fields {
		all = append(all, f.name)
	}
	return strings.Join(all, ", ")
}

// describe says what a missing key holds: the first sentence of its meaning in the reference.
func (f field) describe() string {
	sentence, _, _ := strings.Cut(f.meaning, ". ")
	return strings.ReplaceAll(strings.TrimSuffix(sentence, "."), "`", "")
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

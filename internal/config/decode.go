package config

import (
	"fmt"
	"strings"
	"unicode"
)

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
func (d *decoder) items(path string, n node, want string, minimum, maximum int) ([]node, bool) {
	if n.shape != sequence {
		d.wrongShape(path, n, "a list", "begin each of its lines with \"- \", each "+want)
		return nil, false
	}
	if len(n.items) < minimum {
		d.fail(path, "add "+want, "the list is empty")
		return nil, false
	}
	if len(n.items) > maximum {
		d.fail(path, fmt.Sprintf("keep at most %d", maximum), "the list has %d items", len(n.items))
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

// describe describes a missing key: the first sentence of its meaning in the reference.
func (f field) describe() string {
	sentence, _, _ := strings.Cut(f.meaning, ". ")
	return strings.ReplaceAll(strings.TrimSuffix(sentence, "."), "`", "")
}

package config

import (
	"fmt"
	"slices"
)

// field is one key of a mapping: its decoder and its text in the reference. A field is bound to the
// struct it fills, so the fields of a struct are made again for every value of it; those of a zero value are the
// schema.
type field struct {
	name     string
	kind     string // the type as the reference names it
	meaning  string // one sentence for the reference
	required bool
	fallback string // the default, as one would write it in the file
	decode   func(d *decoder, path string, n node)
	absent   func(d *decoder, path string)
	keys     []field // of a mapping, or of a list's mappings
	repeated bool    // keys are those of a list's mappings
}

type option func(*field)

// required makes the absence of a key an error.
func required(f *field) { f.required = true }

// fallback gives a key its default, written as in the file and decoded like it.
func fallback(text string) option { return func(f *field) { f.fallback = text } }

func (f field) with(opts []option) field {
	for _, o := range opts {
		o(&f)
	}
	return f
}

// scalar is a key with one value.
func scalar[T any](name string, into *T, k kind[T], meaning string, opts ...option) field {
	f := field{name: name, kind: k.name, meaning: meaning}.with(opts)
	f.decode = func(d *decoder, path string, n node) {
		if value, ok := decodeScalar(d, path, n, k); ok {
			*into = value
		}
	}
	f.absent = func(d *decoder, path string) {
		if f.fallback == "" {
			return
		}
		value, p := k.parse(d, f.fallback)
		if p != nil {
			panic(fmt.Sprintf("config: the default of %s is not valid: %s", path, p.message))
		}
		*into = value
	}
	return f
}

// list is a key whose value is a list of scalars. Repeated elements are errors.
func list[T comparable](name string, into *[]T, k kind[T], minimum, maximum int, meaning string, opts ...option) field {
	f := field{name: name, kind: "list of " + k.name, meaning: meaning}.with(opts)
	f.absent = func(*decoder, string) {}
	f.decode = func(d *decoder, path string, n node) {
		items, ok := d.items(path, n, k.want, minimum, maximum)
		if !ok {
			return
		}
		values := make([]T, 0, len(items))
		for i, item := range items {
			itemPath := fmt.Sprintf("%s[%d]", path, i)
			value, ok := decodeScalar(d, itemPath, item, k)
			if !ok {
				d.failed[path] = true
				continue
			}
			if first := slices.Index(values, value); first >= 0 {
				d.fail(itemPath, "keep one", "the same value stands in the list before")
				continue
			}
			values = append(values, value)
		}
		*into = values
	}
	return f
}

// section is a mapping that always has a value: where it is absent, its keys have their defaults.
func section[T any](name string, into *T, fields func(*T) []field, meaning string, opts ...option) field {
	f := field{name: name, kind: "mapping", meaning: meaning, keys: fields(new(T))}.with(opts)
	f.decode = func(d *decoder, path string, n node) {
		// A section whose keys are all commented out asks for nothing but the defaults.
		if n.shape == nothing {
			n.shape = mapping
		}
		d.mapping(path, n, fields(into))
	}
	f.absent = func(d *decoder, path string) {
		for _, child := range fields(into) {
			child.absent(d, join(path, child.name))
		}
	}
	return f
}

// optional is a mapping that is nil where it is absent.
func optional[T any](name string, into **T, fields func(*T) []field, meaning string, opts ...option) field {
	f := field{name: name, kind: "mapping", meaning: meaning, keys: fields(new(T))}.with(opts)
	f.absent = func(*decoder, string) {}
	f.decode = func(d *decoder, path string, n node) {
		value := new(T)
		d.mapping(path, n, fields(value))
		*into = value
	}
	return f
}

// sections is a list of at least one mapping.
func sections[T any](name string, into *[]T, fields func(*T) []field, meaning string, opts ...option) field {
	f := field{name: name, kind: "list of mappings", meaning: meaning, keys: fields(new(T)), repeated: true}.with(opts)
	f.absent = func(*decoder, string) {}
	f.decode = func(d *decoder, path string, n node) {
		items, ok := d.items(path, n, "a mapping", 1, 1000)
		if !ok {
			return
		}
		// The slice has its final length before a field is bound to an element: growing it would move them.
		values := make([]T, len(items))
		for i, item := range items {
			d.mapping(fmt.Sprintf("%s[%d]", path, i), item, fields(&values[i]))
		}
		*into = values
	}
	return f
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// walk visits every key of a schema, parents first, with its path in the reference's notation: listeners[].address.
func walk(fields []field, path string, visit func(path string, f field)) {
	for _, f := range fields {
		own := join(path, f.name)
		if f.repeated {
			own += "[]"
		}
		visit(own, f)
		walk(f.keys, own, visit)
	}
}

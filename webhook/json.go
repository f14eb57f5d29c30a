package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep a body may nest. Bitbucket's own nest less than ten levels.
const maxDepth = 64

// decode reads a body as one JSON object (RFC 8259). Unlike encoding/json, it refuses
// text that is not UTF-8, a key that an object has twice, and anything behind the object.
// Keys are compared with regard to case; see [node] for keys that differ in it.
func decode(body []byte) (map[string]any, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}
	if !json.Valid(body) {
		return nil, errors.New("the body is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the body has more than one JSON value")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("the body is not a JSON object")
	}
	return object, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the body nests more than %d levels", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(d, depth)
	case json.Delim('['):
		var list []any
		for d.More() {
			element, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		_, err := d.Token()
		return list, err
	}
	return token, nil
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		name := key.(string) // a JSON object's key is a string
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("the body has the key %.40q twice in one object", name)
		}
		if object[name], err = decodeValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return object, err
}

// A node is an object of a body and where it stands there. Its methods return the zero
// value for a key that is absent or null, and note the first value of another type, and the
// first key that is also, or only, in the object in another spelling. Readers that ignore
// case (encoding/json does) would otherwise see another event than the policy.
type node struct {
	path   string
	fields map[string]any
	fault  *error
}

func (n node) at(key string) string {
	if n.path == "" {
		return key
	}
	return n.path + "." + key
}

func (n node) reject(key, want string) {
	if *n.fault == nil {
		*n.fault = fmt.Errorf("%s is not %s", n.at(key), want)
	}
}

// value returns the value under key, and whether there is one.
func (n node) value(key string) (any, bool) {
	for name := range n.fields {
		if name != key && strings.EqualFold(name, key) {
			n.reject(key, "in one spelling")
		}
	}
	value, present := n.fields[key]
	return value, present
}

// has reports whether the key stands there with a value other than null.
func (n node) has(key string) bool {
	value, _ := n.value(key)
	return value != nil
}

// object returns the object under key, and whether there is one.
func (n node) object(key string) (node, bool) {
	value, present := n.value(key)
	fields, ok := value.(map[string]any)
	if !ok && present && value != nil {
		n.reject(key, "an object")
	}
	return node{n.at(key), fields, n.fault}, ok
}

// objects returns the objects of the list under key.
func (n node) objects(key string) []node {
	value, present := n.value(key)
	list, ok := value.([]any)
	if !ok && present && value != nil {
		n.reject(key, "a list")
	}
	nodes := make([]node, 0, len(list))
	for i, element := range list {
		fields, ok := element.(map[string]any)
		if !ok {
			n.reject(fmt.Sprintf("%s[%d]", key, i), "an object")
			continue
		}
		nodes = append(nodes, node{fmt.Sprintf("%s[%d]", n.at(key), i), fields, n.fault})
	}
	return nodes
}

// text returns the string under key.
func (n node) text(key string) string {
	value, present := n.value(key)
	s, ok := value.(string)
	if !ok && present && value != nil {
		n.reject(key, "a string")
	}
	return s
}

// integer returns the integer under key.
func (n node) integer(key string) int64 {
	value, present := n.value(key)
	if !present || value == nil {
		return 0
	}
	number, _ := value.(json.Number)
	i, err := number.Int64()
	if err != nil {
		n.reject(key, "an integer")
	}
	return i
}

// flag returns the boolean under key.
func (n node) flag(key string) bool {
	value, present := n.value(key)
	b, ok := value.(bool)
	if !ok && present && value != nil {
		n.reject(key, "true or false")
	}
	return b
}

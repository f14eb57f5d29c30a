package rego

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/canonical"
)

// readInput reads an input for evaluating it only. An input in the form
// that [newEvalInput] writes is read in one pass, any other by [recordedInput].
func readInput(input []byte, names bool) (*evalInput, error) {
	r := inputReader{rest: input}
	if utf8.Valid(input) {
		if t := r.object(0); t != nil && len(r.rest) == 0 {
			if moment, ok := timeOf(t); ok {
				return &evalInput{domain: domainOfInput(t), term: t, json: input, time: moment}, nil
			}
		}
	}
	return recordedInput(input, names)
}

func timeOf(input *ast.Term) (time.Time, bool) {
	object, ok := input.Value.(ast.Object)
	if !ok {
		return time.Time{}, false
	}
	t := object.Get(timeKey)
	if t == nil {
		return time.Time{}, false
	}
	text, _ := t.Value.(ast.String)
	at, err := time.Parse(time.RFC3339, string(text))
	return at, err == nil
}

var timeKey = ast.InternedTerm("time")

// inputReader reads objects of objects, texts without escapes and whole numbers,
// without white space. Anything else is nil.
type inputReader struct{ rest []byte }

func (r *inputReader) take(c byte) bool {
	if len(r.rest) == 0 || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// maxInputDepth is more than an input has.
const maxInputDepth = 8

func (r *inputReader) object(depth int) *ast.Term {
	if depth > maxInputDepth || !r.take('{') {
		return nil
	}
	pairs := make([][2]*ast.Term, 0, 8)
	for !r.take('}') {
		if len(pairs) > 0 && !r.take(',') {
			return nil
		}
		name, ok := r.text()
		if !ok || !r.take(':') {
			return nil
		}
		for _, p := range pairs {
			if string(p[0].Value.(ast.String)) == name {
				return nil // repeated: an error
			}
		}
		value := r.value(depth)
		if value == nil {
			return nil
		}
		pairs = append(pairs, [2]*ast.Term{canonical.Key(name), value})
		if len(pairs) > maxInputMembers {
			return nil
		}
	}
	return ast.ObjectTerm(pairs...)
}

// maxInputMembers bounds the names that are compared to find repeated ones.
const maxInputMembers = 64

func (r *inputReader) value(depth int) *ast.Term {
	if len(r.rest) == 0 {
		return nil
	}
	switch c := r.rest[0]; {
	case c == '{':
		return r.object(depth + 1)
	case c == '"':
		if s, ok := r.text(); ok {
			return ast.StringTerm(s)
		}
	case c >= '1' && c <= '9':
		n := 1
		for n < len(r.rest) && r.rest[n] >= '0' && r.rest[n] <= '9' {
			n++
		}
		if n > 18 || n < len(r.rest) && r.rest[n] != ',' && r.rest[n] != '}' {
			return nil
		}
		number := json.Number(r.rest[:n])
		r.rest = r.rest[n:]
		return ast.NumberTerm(number)
	}
	return nil
}

func (r *inputReader) text() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	n := bytes.IndexByte(r.rest, '"')
	if n < 0 {
		return "", false
	}
	for _, c := range r.rest[:n] {
		if c == '\\' || c < 0x20 {
			return "", false
		}
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n+1:]
	return s, true
}

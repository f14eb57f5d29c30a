package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ParseJSON reads one JSON value (RFC 8259) and refuses doubled keys, of which
// readers keep one or the other.
func ParseJSON(content []byte) (*Node, error) {
	content = bytes.TrimPrefix(content, []byte(ByteOrderMark))
	if !utf8.Valid(content) {
		return nil, &Error{Message: "the file is not UTF-8"}
	}
	r := &jsonReader{content: content, decoder: json.NewDecoder(bytes.NewReader(content))}
	r.decoder.UseNumber()
	n, err := r.value(0)
	if err != nil {
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(content)) == 0 {
			return nil, nil
		}
		return nil, r.wrap(err)
	}
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, &Error{At: r.position(), Message: "the file holds more than one JSON value"}
	}
	return n, nil
}

type jsonReader struct {
	content []byte
	decoder *json.Decoder

	// Up to where lines were counted: counting from the beginning for each token
	// would take minutes for a megabyte.
	counted, line, begin int
}

// position is where the decoder stands: behind the token that it read last.
func (r *jsonReader) position() Position { return r.at(r.decoder.InputOffset()) }

func (r *jsonReader) at(offset int64) Position {
	end := int(min(offset, int64(len(r.content))))
	if end < r.counted {
		r.counted, r.line, r.begin = 0, 0, 0
	}
	more := r.content[r.counted:end]
	r.line += bytes.Count(more, []byte("\n"))
	if i := bytes.LastIndexByte(more, '\n'); i >= 0 {
		r.begin = r.counted + i + 1
	}
	r.counted = end
	return Position{1 + r.line, 1 + end - r.begin}
}

func (r *jsonReader) wrap(err error) error {
	if d, ok := errors.AsType[*Error](err); ok {
		return d
	}
	at := r.position()
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = r.at(s.Offset)
	}
	return &Error{At: at, Message: "the file is not JSON: " + err.Error()}
}

func (r *jsonReader) value(depth int) (*Node, error) {
	if depth > maxNesting {
		return nil, &Error{At: r.position(), Message: "the document is nested too deeply"}
	}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	at := r.position()
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return r.object(at, depth)
		}
		return r.array(at, depth)
	case string:
		return &Node{At: at, value: ast.StringTerm(t)}, nil
	case json.Number:
		return &Node{At: at, value: ast.NumberTerm(t)}, nil
	case bool:
		return &Node{At: at, value: ast.BooleanTerm(t)}, nil
	}
	return &Node{At: at, value: ast.NullTerm()}, nil
}

func (r *jsonReader) object(at Position, depth int) (*Node, error) {
	object := &Node{At: at, Object: map[string]*Node{}}
	for r.decoder.More() {
		token, err := r.decoder.Token()
		if err != nil {
			return nil, err
		}
		keyAt := r.position()
		key, _ := token.(string)
		if object.Object[key] != nil {
			return nil, &Error{At: keyAt, Message: fmt.Sprintf("the key %q occurs twice", key), Hint: "keep one of the two"}
		}
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		child.At = keyAt
		object.Object[key] = child
	}
	_, err := r.decoder.Token()
	return object, err
}

func (r *jsonReader) array(at Position, depth int) (*Node, error) {
	var terms []*ast.Term
	var items []*Node
	for r.decoder.More() {
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		terms, items = append(terms, child.Term()), append(items, child)
	}
	_, err := r.decoder.Token()
	return &Node{At: at, value: ast.ArrayTerm(terms...), Items: items}, err
}

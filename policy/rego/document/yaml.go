package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	yaml "github.com/goccy/go-yaml"
	yamlast "github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/open-policy-agent/opa/v1/ast"
)

// ParseYAML reads a document of plain values: YAML 1.2's core, without what makes
// a reader guess or a short file long (anchors, aliases, tags, merge keys, keys
// that are not strings, doubled keys). nil is an empty document.
func ParseYAML(content []byte) (*Node, error) {
	content = bytes.TrimPrefix(content, []byte(ByteOrderMark))
	if !utf8.Valid(content) {
		return nil, &Error{Message: "the file is not UTF-8"}
	}
	if err := checkNesting(content); err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, yamlError(content, err)
	}
	var body yamlast.Node
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*yamlast.CommentGroupNode); ok {
			continue
		}
		if i > 0 && body != nil {
			return nil, &Error{At: yamlPosition(doc.Body), Message: "the file holds a second document", Hint: "put it into a file of its own"}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, nil
	}
	return yamlNode(body, 0)
}

// checkNesting bounds what the YAML reader may recurse into, before it does.
// Flow brackets and indentation are the two ways to nest; counting brackets in
// strings and comments as well only errs on the safe side, and rarely.
func checkNesting(content []byte) error {
	depth, line, column := 0, 1, 0
	indent, blank := 0, true
	for _, c := range content {
		column++
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '\n':
			line, column, indent, blank = line+1, 0, 0, true
			continue
		}
		if blank && (c == ' ' || c == '-' || c == '?') {
			indent++
		} else {
			blank = false
		}
		if depth > maxNesting || indent > 16*maxNesting {
			return &Error{At: Position{line, column}, Message: "the document is nested too deeply"}
		}
	}
	return nil
}

func yamlError(content []byte, err error) error {
	if e, ok := errors.AsType[yaml.Error](err); ok {
		d := &Error{Message: "the file is not YAML: " + e.GetMessage()}
		if t := e.GetToken(); t != nil && t.Position != nil {
			d.At = Position{t.Position.Line, t.Position.Column}
			d.Hint = yamlHint(content, t.Position.Line)
		}
		return d
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return &Error{Message: "the file is not YAML: " + first}
}

// yamlPosition is where a node begins: a mapping in block style at its first key, and
// not at the colon behind that.
func yamlPosition(n yamlast.Node) Position {
	switch m := n.(type) {
	case *yamlast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			n = m.Values[0].Key
		}
	case *yamlast.MappingValueNode:
		n = m.Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return Position{t.Position.Line, t.Position.Column}
	}
	return Position{1, 1}
}

func yamlNode(n yamlast.Node, depth int) (*Node, error) {
	at := yamlPosition(n)
	if depth > maxNesting {
		return nil, &Error{At: at, Message: "the document is nested too deeply"}
	}
	switch n := n.(type) {
	case *yamlast.MappingNode:
		return yamlObject(at, n.Values, depth)
	case *yamlast.MappingValueNode:
		return yamlObject(at, []*yamlast.MappingValueNode{n}, depth)
	case *yamlast.SequenceNode:
		terms, items := make([]*ast.Term, 0, len(n.Values)), make([]*Node, 0, len(n.Values))
		for _, item := range n.Values {
			child, err := yamlNode(item, depth+1)
			if err != nil {
				return nil, err
			}
			terms, items = append(terms, child.Term()), append(items, child)
		}
		return &Node{At: at, value: ast.ArrayTerm(terms...), Items: items}, nil
	}
	term, err := yamlScalar(at, n)
	if err != nil {
		return nil, err
	}
	return &Node{At: at, value: term}, nil
}

func yamlObject(at Position, values []*yamlast.MappingValueNode, depth int) (*Node, error) {
	object := &Node{At: at, Object: make(map[string]*Node, len(values))}
	for _, pair := range values {
		keyAt := yamlPosition(pair.Key)
		var key string
		switch k := pair.Key.(type) {
		case *yamlast.StringNode:
			key = k.Value
			if err := checkYAMLText(keyAt, k.Token, key); err != nil {
				return nil, err
			}
		default:
			return nil, &Error{At: keyAt, Message: fmt.Sprintf("the key %s is not a string", pair.Key), Hint: "put it in quotes; merge keys and anchors are not read"}
		}
		if object.Object[key] != nil {
			return nil, &Error{At: keyAt, Message: fmt.Sprintf("the key %q occurs twice", key), Hint: "keep one of the two"}
		}
		child, err := yamlNode(pair.Value, depth+1)
		if err != nil {
			return nil, err
		}
		child.At = keyAt
		object.Object[key] = child
	}
	return object, nil
}

func yamlScalar(at Position, n yamlast.Node) (*ast.Term, error) {
	switch n := n.(type) {
	case *yamlast.StringNode:
		if err := checkYAMLText(at, n.Token, n.Value); err != nil {
			return nil, err
		}
		return ast.StringTerm(n.Value), nil
	case *yamlast.LiteralNode:
		return ast.StringTerm(n.Value.Value), nil
	case *yamlast.BoolNode:
		return ast.BooleanTerm(n.Value), nil
	case *yamlast.NullNode:
		return ast.NullTerm(), nil
	case *yamlast.IntegerNode:
		switch n.Value.(type) {
		case int64, uint64:
			return yamlNumber(at, n.Token, fmt.Sprint(n.Value))
		}
	case *yamlast.FloatNode:
		if !math.IsInf(n.Value, 0) && !math.IsNaN(n.Value) {
			return yamlNumber(at, n.Token, strconv.FormatFloat(n.Value, 'g', -1, 64))
		}
	}
	return nil, unreadable(at, n)
}

// yamlNumber returns a number, text being the form in which JSON has it.
func yamlNumber(at Position, t *token.Token, text string) (*ast.Term, error) {
	if err := checkYAMLNumber(at, t, text); err != nil {
		return nil, err
	}
	return ast.NumberTerm(json.Number(text)), nil
}

// unreadable is the error for a node that is not a value of JSON.
func unreadable(at Position, n yamlast.Node) *Error {
	switch n := n.(type) {
	case *yamlast.AliasNode:
		if text := "*" + n.Value.String(); strings.Contains(text, ".") {
			return &Error{At: at, Message: text + " is an alias in YAML, for it begins with a *", Hint: fmt.Sprintf("put it in quotes: %q", text)}
		}
		return &Error{At: at, Message: "anchors, aliases and merge keys are not read", Hint: "write the value out, or put it in quotes if it is a text"}
	case *yamlast.AnchorNode, *yamlast.MergeKeyNode:
		return &Error{At: at, Message: "anchors, aliases and merge keys are not read", Hint: "write the value out"}
	case *yamlast.TagNode:
		return &Error{At: at, Message: "tags are not read", Hint: "write a plain value, in quotes if it is a string"}
	}
	return &Error{At: at, Message: fmt.Sprintf("%s is not a value that JSON has", n.Type()), Hint: "write a string, a number, true, false, null, a list or an object"}
}

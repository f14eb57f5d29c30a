package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// shape is what a YAML node looks like. Scalars are kept as their text: the key
// decides what `10m`, `no` or `0x10` mean, and not YAML.
type shape int

const (
	nothing shape = iota // null, or a key without a value
	text
	mapping
	sequence
)

func (s shape) String() string {
	return [...]string{"nothing", "text", "a mapping", "a list"}[s]
}

type position struct{ line, column int }

type node struct {
	shape   shape
	at      position
	text    string
	quoted  bool
	lines   bool // a text over several lines
	entries []entry
	items   []node
}

type entry struct {
	key   string
	at    position
	value node
}

// maxSize bounds a configuration file. A large real one has some tens of kilobytes.
const maxSize = 1 << 20

// maxNesting bounds how deep flow collections and one-line block sequences nest, and with them the parser's
// recursion; its time grows with the square of the depth. The schema needs 5.
const maxNesting = 20

// maxTokens bounds the tokens of a file: the parser's time grows with the square of a mapping's keys (half a minute
// for a megabyte of them). A thousand workspaces are some thirty thousand tokens.
const maxTokens = 50_000

// readYAML turns the file into nodes. It accepts the plain part of YAML only: one document, no anchors, aliases, merge
// keys, tags or directives, so that every value is where the file has it and nothing can expand.
func readYAML(name string, data []byte) (root node, errs Errors) {
	fail := func(at position, p problem) Errors {
		return Errors{{File: name, Line: at.line, Column: at.column, Message: p.message, Hint: p.hint}}
	}
	if len(data) > maxSize {
		return node{}, fail(position{}, problem{"the file is larger than 1 MiB", "is it the configuration?"})
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at, p := checkCharacters(data); p != nil {
		return node{}, fail(at, *p)
	}
	// The library counts a comment's CR LF as two lines, and positions after it would be wrong.
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	// The library has panicked on malformed input before (goccy/go-yaml issues 191, 479, 540); a bad file must end in
	// a message and not in a stack trace.
	defer func() {
		if r := recover(); r != nil {
			root, errs = node{}, fail(position{}, problem{"the file is not YAML that can be read", "look for an unclosed quote or bracket"})
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if errs := checkTokens(name, tokens); len(errs) > 0 {
		return node{}, sorted(errs)
	}
	if len(tokens) > maxTokens {
		return node{}, fail(tokenPosition(tokens[maxTokens]), problem{"the file is too large: it has more than 50,000 keys, values and marks", "is it the configuration?"})
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, p := syntaxProblem(err)
		return node{}, fail(at, p)
	}
	for _, doc := range file.Docs {
		if doc != nil && doc.Body != nil {
			return convert(doc.Body, position{1, 1}), nil
		}
	}
	return node{}, fail(position{}, problem{"the file is empty", "start from deploy/sallyport.example.yaml"})
}

// checkCharacters refuses what is not UTF-8 text, and tabs that indent.
func checkCharacters(data []byte) (position, *problem) {
	at := position{1, 1}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) { // RFC 2781 section 3.2
		return at, problemf("save the file as UTF-8", "the file is UTF-16")
	}
	indent := true
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if p := checkCharacter(r, size, data[size:], indent); p != nil {
			return at, p
		}
		indent = indent && r == ' ' || r == '\n'
		at.column++
		if r == '\n' {
			at = position{at.line + 1, 1}
		}
		data = data[size:]
	}
	return position{}, nil
}

// checkCharacter checks the character r, which takes size bytes and stands before rest.
// indent: only spaces precede it in its line.
func checkCharacter(r rune, size int, rest []byte, indent bool) *problem {
	switch {
	case r == utf8.RuneError && size <= 1:
		return problemf("save the file as UTF-8", "the file is not UTF-8")
	case r == '\t' && indent:
		return problemf("indent with spaces", "a tab cannot indent YAML")
	case r == '\r' && !bytes.HasPrefix(rest, []byte("\n")):
		return problemf("end lines with a line feed", "a carriage return stands alone")
	case r != '\n' && r != '\r' && r != '\t' && !unicode.IsGraphic(r):
		return problemf("remove it", "the invisible character %U is not allowed", r)
	}
	return nil
}

// refusedTokens are the parts of YAML that a configuration does without.
var refusedTokens = map[token.Type]problem{
	token.AnchorType:     {"anchors (&) are not supported", "write the value out, or put it in quotes if & is part of it"},
	token.AliasType:      {"aliases (*) are not supported", "write the value out, or put it in quotes if * is part of it"},
	token.MergeKeyType:   {"merge keys (<<) are not supported", "write the keys out"},
	token.TagType:        {"tags (!) are not supported", "remove the tag, or put the value in quotes if ! is part of it"},
	token.DirectiveType:  {"directives (%) are not supported", "remove the line"},
	token.MappingKeyType: {"complex keys (?) are not supported", "write key: value"},
}

// checkTokens works before the parser does, on the flat list of tokens, and so bounds what the parser has to do.
func checkTokens(name string, tokens token.Tokens) Errors {
	c := tokenCheck{name: name}
	for _, tk := range tokens {
		if !c.token(tk) {
			break
		}
	}
	return c.errs
}

// tokenCheck is the state of [checkTokens].
type tokenCheck struct {
	name                           string
	errs                           Errors
	depth, dashes, line, directive int
	content, ended                 bool
}

func (c *tokenCheck) add(tk *token.Token, p problem) {
	at := tokenPosition(tk)
	c.errs = append(c.errs, Error{File: c.name, Line: at.line, Column: at.column, Message: p.message, Hint: p.hint})
}

// token checks one token, and reports whether to continue with the next.
func (c *tokenCheck) token(tk *token.Token) bool {
	if p, refused := refusedTokens[tk.Type]; refused && len(c.errs) < maxNesting {
		c.add(tk, p)
	}
	if at := tokenPosition(tk); at.line != c.line {
		c.line, c.dashes = at.line, 0
	}
	if tk.Type == token.DirectiveType {
		c.directive = c.line
	}
	if tk.Type == token.CommentType || c.line == c.directive {
		return true
	}
	switch tk.Type {
	case token.DocumentEndType:
		c.ended = true
		return true
	case token.DocumentHeaderType:
		if c.content {
			c.add(tk, problem{"a second document begins here", "a configuration is one document: remove what follows ---"})
		}
		return !c.content
	}
	if c.ended {
		c.add(tk, problem{"a second document begins here", "a configuration is one document: remove what follows ..."})
		return false
	}
	c.content = true
	return c.nesting(tk)
}

// nesting bounds the open brackets, and the block sequences that begin on one line.
func (c *tokenCheck) nesting(tk *token.Token) bool {
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		c.depth++
	case token.MappingEndType, token.SequenceEndType:
		c.depth--
	case token.SequenceEntryType:
		c.dashes++
	}
	if c.depth <= maxNesting && c.dashes <= maxNesting {
		return true
	}
	c.add(tk, problem{fmt.Sprintf("nested deeper than %d levels", maxNesting), "is a bracket left open?"})
	return false
}

// syntaxProblem takes the library's message without its excerpt of the source: a broken line may hold what its author
// should not have written there.
func syntaxProblem(err error) (position, problem) {
	p := problem{"the file is not valid YAML", "check the indentation, quotes and brackets here and on the line before"}
	yamlErr, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return position{}, p
	}
	// Messages that quote the source begin a new line or carry the text itself; only plain ones are passed on.
	if message := yamlErr.GetMessage(); message != "" && !strings.ContainsAny(message, "\n\"") {
		p.message += ": " + message
	}
	return tokenPosition(yamlErr.GetToken()), p
}

func tokenPosition(tk *token.Token) position {
	if tk == nil || tk.Position == nil {
		return position{}
	}
	return position{tk.Position.Line, tk.Position.Column}
}

// convert copies the library's tree into ours. at is the position of a node that has none itself.
func convert(n ast.Node, at position) node {
	if n == nil {
		return node{at: at}
	}
	if own := tokenPosition(n.GetToken()); own.line > 0 {
		at = own
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return node{at: at}
	case *ast.MappingNode:
		return convertMapping(n.Values, n.IsFlowStyle, at)
	case *ast.MappingValueNode:
		return convertMapping([]*ast.MappingValueNode{n}, false, at)
	case *ast.SequenceNode:
		out := node{shape: sequence, at: at}
		for _, item := range n.Values {
			out.items = append(out.items, convert(item, at))
		}
		return out
	case *ast.StringNode:
		tk := n.GetToken()
		quoted := tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
		lines := strings.Contains(n.Value, "\n") || strings.Contains(strings.TrimSpace(tk.Origin), "\n")
		return node{shape: text, at: at, text: n.Value, quoted: quoted, lines: lines}
	case *ast.LiteralNode:
		return node{shape: text, at: at, lines: true}
	default: // numbers, booleans and the like: the literal text
		return node{shape: text, at: at, text: n.GetToken().Value}
	}
}

func convertMapping(values []*ast.MappingValueNode, flow bool, at position) node {
	out := node{shape: mapping, at: at}
	for _, v := range values {
		key := tokenPosition(v.Key.GetToken())
		name := v.Key.GetToken().Value
		out.entries = append(out.entries, entry{key: name, at: key, value: convert(v.Value, key)})
	}
	// A block mapping's own token is the colon of its first key; the key itself is what a reader looks for.
	if !flow && len(out.entries) > 0 {
		out.at = out.entries[0].at
	}
	return out
}

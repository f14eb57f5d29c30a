package reads

import (
	"bytes"
	"strings"

	"github.com/sallyport/sallyport/policy/rego/paths"
)

// OfText returns what the rules of a file can read, from its text alone. The text is not
// trusted: the scan takes one pass, has no recursion, and its memory is proportional to the
// paths that it finds.
//
// Rego names the input with the word input only, and a function with its name, as a word
// or as a string in brackets. Therefore each word input outside of comments and strings
// counts, with the literal names that follow it directly, and each word or string that is
// in clocks. Words, strings and comments end where they end for OPA's scanner. A file with
// syntax that this scan does not know counts as reading everything.
//
// clocks are the names of functions whose results vary, without their packages: see
// [Clocks].
func OfText(text []byte, clocks map[string]bool) *Rules {
	s := &scan{rest: bytes.TrimPrefix(text, []byte("\ufeff")), clocks: clocks}
	if bytes.Contains(s.rest, []byte(`$"`)) || bytes.Contains(s.rest, []byte("$`")) {
		s.unknown() // a template string, which has expressions in it
	}
	for len(s.rest) > 0 && !(s.found.Clock && s.found.Input.HasAll()) {
		s.next()
	}
	found := s.found // without the text
	return &found
}

// scan is the state of reading one file.
type scan struct {
	rest   []byte
	clocks map[string]bool
	found  Rules
	paths  int // found so far
}

// maxPaths bounds the paths of one file, because this process keeps them in memory. A file
// with more paths counts as reading the whole input.
const maxPaths = 1000

// unknown records that anything may be read.
func (s *scan) unknown() {
	s.found.Input.Add()
	s.found.Clock = true
}

// next reads one word, string or comment, or one other character.
func (s *scan) next() {
	switch c := s.rest[0]; {
	case c == '#':
		end := bytes.IndexByte(s.rest, '\n')
		if end < 0 {
			end = len(s.rest)
		}
		s.rest = s.rest[end:]
	case c == '"' || c == '`':
		text, ok := s.text()
		if !ok {
			s.unknown()
			return
		}
		s.names(text)
	case isWordByte(c):
		s.word()
	default:
		s.rest = s.rest[1:]
	}
}

// isWordByte reports whether a byte may be part of a word. Every byte outside of ASCII
// counts: OPA's scanner accepts digits of every script.
func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (s *scan) word() {
	word := s.run()
	if s.clocks[word] {
		s.found.Clock = true
	}
	switch {
	case word == "input":
		path := s.path()
		if s.paths++; s.paths > maxPaths {
			path = nil
		}
		s.found.Input.Add(path...)
	case strings.HasSuffix(word, "input") && !isLetter(word[0]):
		s.unknown() // OPA's scanner may read a number, and then the word input
	}
}

func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// run reads the bytes of a word.
func (s *scan) run() string {
	n := 0
	for n < len(s.rest) && isWordByte(s.rest[n]) {
		n++
	}
	word := string(s.rest[:n])
	s.rest = s.rest[n:]
	return word
}

// path reads the literal names that follow the word input without a space: .name, ["name"]
// and [`name`]. It stops before anything else. The rules then count as reading everything
// below the path so far.
func (s *scan) path() (names []string) {
	for len(s.rest) > 1 {
		switch {
		case s.rest[0] == '.' && isLetter(s.rest[1]):
			s.rest = s.rest[1:]
			name := s.run()
			if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
				return names
			}
			if s.clocks[name] {
				s.found.Clock = true
			}
			names = s.appendName(names, name)
		case s.rest[0] == '[' && (s.rest[1] == '"' || s.rest[1] == '`'):
			before := s.rest
			s.rest = s.rest[1:]
			text, ok := s.text()
			if !ok || len(s.rest) == 0 || s.rest[0] != ']' || strings.ContainsRune(text, '\\') || strings.ContainsRune(text, '\r') {
				s.rest = before[1:] // next reads the string again
				return names
			}
			s.rest = s.rest[1:]
			s.names(text)
			names = s.appendName(names, text)
		default:
			return names
		}
	}
	return names
}

// appendName adds a name to a path. It drops names at a depth that a [paths.Tree] does not
// keep.
func (*scan) appendName(names []string, name string) []string {
	if len(names) > 2*paths.MaxDepth {
		return names
	}
	return append(names, name)
}

// text reads a string with its quotes, and returns what is between them without decoding
// escapes. ok is false if the string has no end.
func (s *scan) text() (text string, ok bool) {
	quote := s.rest[0]
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == quote:
			text = string(s.rest[1:i])
			s.rest = s.rest[i+1:]
			return text, true
		case quote == '"' && c == '\\':
			i++
		case quote == '"' && c == '\n':
			return "", false
		}
	}
	return "", false
}

// names records a string that may be the name of a function: lib["before"] calls one.
func (s *scan) names(text string) {
	if s.clocks[text] || strings.Contains(text, `\u`) {
		s.found.Clock = true
	}
}

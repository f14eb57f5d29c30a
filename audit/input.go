package audit

import (
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deeply an input may nest. PostgreSQL's parser is recursive and
// stops at max_stack_depth; no policy input comes near either.
const maxDepth = 512

// isInput reports whether b is JSON that can stand inside a record and be read
// by PostgreSQL there: not too large, not too deep, and without the two escapes
// that are JSON but no text (U+0000 and lone surrogates; SQLSTATE 22P05).
func isInput(b []byte) bool {
	return len(b) <= capInput && utf8.Valid(b) && isReadable(b) && json.Valid(b)
}

// isReadable checks nesting and escapes only. Its result for bytes that are
// not JSON does not matter.
func isReadable(b []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			inString = !inString
		case !inString && (c == '{' || c == '['):
			if depth++; depth > maxDepth {
				return false
			}
		case !inString && (c == '}' || c == ']'):
			depth--
		case inString && c == '\\':
			n := escape(b[i:])
			if n == 0 {
				return false
			}
			i += n - 1
		}
	}
	return true
}

// escape is the length of the escape at the beginning of b, a surrogate pair
// being one; zero where it stands for nothing that is text.
func escape(b []byte) int {
	if len(b) < 2 || b[1] != 'u' {
		return 2
	}
	r, ok := codeUnit(b)
	switch {
	case !ok || r == 0:
		return 0
	case !utf16.IsSurrogate(r):
		return 6
	}
	low, ok := codeUnit(b[6:])
	if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
		return 0
	}
	return 12
}

func codeUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

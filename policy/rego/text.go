package rego

import (
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// clean returns s in a form that can be stored: PostgreSQL has neither U+0000 nor bytes
// that are not UTF-8, so each such byte is written as \xNN, for the evaluation as well. A
// string with such an escape cannot be distinguished from one in which the client wrote
// the same four characters.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	out := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == 0 || r == utf8.RuneError && size <= 1 {
			out = append(out, '\\', 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
			i++
			continue
		}
		out = append(out, s[i:i+size]...)
		i += size
	}
	return string(out)
}

// appendString appends a JSON string (RFC 8259 section 7) of clean text: escaped
// is only what must be.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func splitPath(path string) []string { return strings.Split(path, ".") }

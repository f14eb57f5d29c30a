// Package canonical writes the input of a policy as a value that is evaluated and as the
// JSON that is recorded, both from the same strings.
package canonical

import (
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Clean returns s in a form that can be stored: PostgreSQL has neither U+0000 nor bytes
// that are not UTF-8, so each such byte is written as \xNN, for the evaluation as well. A
// string with such an escape cannot be distinguished from one in which the client wrote
// the same four characters.
func Clean(s string) string {
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

// Package printable makes text from outside fit for a message, a log or a terminal.
package printable

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// maxQuoted is the number of bytes of a text that a message repeats.
const maxQuoted = 200

// Quote returns the text as a quoted Go string of printable ASCII characters. It
// shortens the text to 200 bytes.
func Quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// IsClean reports whether s can be shown, logged and stored unchanged: valid UTF-8 of
// graphic characters. It excludes control characters, line ends, characters that
// change the direction of text, and U+FFFD, which replaces lost bytes.
func IsClean(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) || r == utf8.RuneError || r != ' ' && unicode.IsSpace(r) {
			return false
		}
	}
	return true
}

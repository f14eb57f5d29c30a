// Package printable makes text from outside fit for a message, a log or a terminal.
package printable

import (
	"fmt"
	"strconv"
	"strings"
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

// Count returns a number with its noun, which is in the plural unless the number is 1:
// "1 repository", "2 repositories".
func Count[N ~int | ~int64 | ~uint64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	stem, consonant := strings.CutSuffix(noun, "y")
	switch {
	case consonant && !strings.ContainsAny(noun[len(noun)-2:len(noun)-1], "aeiou"):
		noun = stem + "ies"
	case strings.HasSuffix(noun, "s") || strings.HasSuffix(noun, "x") || strings.HasSuffix(noun, "ch"):
		noun += "es"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Lines returns a text of several lines for a terminal: line feeds and tabs stay, and every
// other character that [IsClean] excludes is escaped as in a Go string. Bytes that are not
// UTF-8 are escaped as \xNN. Backslashes stay as they are, so the result cannot be read back.
func Lines(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n' || r == '\t' || isClean(r):
			b.WriteString(s[:size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// IsClean reports whether s can be shown, logged and stored unchanged: valid UTF-8 of
// graphic characters. It excludes control characters, line ends, characters that
// change the direction of text, and U+FFFD, which replaces lost bytes.
func IsClean(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !isClean(r) {
			return false
		}
	}
	return true
}

func isClean(r rune) bool {
	return unicode.IsGraphic(r) && r != utf8.RuneError && (r == ' ' || !unicode.IsSpace(r))
}

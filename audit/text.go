package audit

import (
	"strconv"
	"unicode/utf8"
)

// Text returns s as valid UTF-8 without control characters, at most limit bytes
// long. Bytes that are not UTF-8 and control characters, NUL and DEL included,
// become \xNN (or \u{NNNN} for the others that move or hide text, such as the
// bidirectional controls); what is cut off is replaced by "…". A backslash is
// left as it is, so the escape is for reading and not for getting the bytes back.
func Text(s string, limit int) string {
	s, _ = cutText(s, limit)
	return s
}

// cutText is [Text], and reports whether anything was cut off.
func cutText(s string, limit int) (_ string, cut bool) {
	if len(s) <= limit && isPlain(s) {
		return s, false
	}
	out := make([]byte, 0, min(len(s), limit)+8)
	const ellipsis = "…"
	for i := 0; i < len(s); {
		start := len(out)
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size <= 1, r < 0x20, r == 0x7f:
			out = append(out, '\\', 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
		case hides(r):
			out = append(out, `\u{`...)
			out = strconv.AppendUint(out, uint64(r), 16)
			out = append(out, '}')
		default:
			out = append(out, s[i:i+size]...)
		}
		if len(out) > limit-len(ellipsis) && (len(out) > limit || i+size < len(s)) {
			rest := s[i+size:]
			if len(out)+len(rest) <= limit && isPlain(rest) {
				return string(append(out, rest...)), false
			}
			return string(append(out[:start], ellipsis...)), true
		}
		i += size
	}
	return string(out), false
}

const hexDigits = "0123456789abcdef"

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return isPlainUnicode(s)
		}
	}
	return true
}

func isPlainUnicode(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f || hides(r) {
			return false
		}
	}
	return true
}

// hides reports whether a rune moves, hides or splits text where it is shown:
// C1 controls, line and paragraph separators, bidirectional controls, the byte
// order mark.
func hides(r rune) bool {
	switch {
	case 0x80 <= r && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff,
		0x200e <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069, r == 0x061c:
		return true
	}
	return false
}

package destination

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// notASCII refuses a name that is not ASCII, with what to write instead if that is
// certain. Mapping names here would be a second opinion
// beside that of the client and the resolver (UTS #46 has had several, on ß for
// one), so the author of the name has to write the A-label.
func notASCII(host string) error {
	if hint := asciiHint(host); hint != "" {
		return problem(ProblemNotASCII, "host %s is not ASCII: write %s", quote(host), hint)
	}
	return problem(ProblemNotASCII, "host %s is not ASCII: write the name in ASCII, each international label as its A-label (xn--...)", quote(host))
}

// asciiHint returns the A-label form of a host, or "" if that takes more than
// lower-casing and RFC 3492: normalisation, mapping, or a judgement about what
// is allowed.
func asciiHint(host string) string {
	if len(host) > 4*maxName || !utf8.ValidString(host) {
		return ""
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for i, label := range labels {
		runes := []rune(label)
		if len(runes) > maxLabel {
			return ""
		}
		ascii := true
		for j, r := range runes {
			runes[j] = unicode.ToLower(r)
			if r < 0x80 {
				continue
			}
			ascii = false
			if !plainLetter(runes[j]) {
				return ""
			}
		}
		if labels[i] = string(runes); !ascii {
			labels[i] = "xn--" + punycode(runes)
		}
	}
	hint := strings.Join(labels, ".")
	if canonical, _, err := parseName(hint); err != nil || canonical != hint {
		return ""
	}
	return hint
}

// plainLetters are the lower-case letters that IDNA does not change in any version:
// they are in Normalization Form C, have no compatibility mapping and need no context.
// The list is short on purpose.
var plainLetters = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x00e0, Hi: 0x00f6, Stride: 1}, {Lo: 0x00f8, Hi: 0x00ff, Stride: 1}, // Latin-1
	{Lo: 0x0100, Hi: 0x0132, Stride: 1}, {Lo: 0x0134, Hi: 0x013f, Stride: 1}, // Latin Extended-A
	{Lo: 0x0141, Hi: 0x0148, Stride: 1}, {Lo: 0x014a, Hi: 0x017e, Stride: 1},
	{Lo: 0x03ac, Hi: 0x03c1, Stride: 1}, {Lo: 0x03c3, Hi: 0x03ce, Stride: 1}, // Greek without ς
	{Lo: 0x0430, Hi: 0x045f, Stride: 1},                                      // Cyrillic
	{Lo: 0x05d0, Hi: 0x05ea, Stride: 1},                                      // Hebrew
	{Lo: 0x0621, Hi: 0x063a, Stride: 1}, {Lo: 0x0641, Hi: 0x064a, Stride: 1}, // Arabic
	{Lo: 0x3041, Hi: 0x3096, Stride: 1}, {Lo: 0x30a1, Hi: 0x30fa, Stride: 1}, {Lo: 0x30fc, Hi: 0x30fc, Stride: 1}, // kana
	{Lo: 0x4e00, Hi: 0x9fa5, Stride: 1}, // unified ideographs
	{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, // Hangul syllables
}}

// plainLetter reports whether IDNA does not change a letter. ß and ς are excluded: IDNA
// 2003 and 2008 differ about them (RFC 5894 section 7.2).
func plainLetter(r rune) bool { return r != 'ß' && unicode.Is(plainLetters, r) }

// punycode encodes one label, without its xn-- (RFC 3492 section 6.3). It is
// quadratic in a length that its caller bounds, and serves error messages only.
func punycode(input []rune) string {
	const base, tMin, tMax, skew, damp = 36, 1, 26, 38, 700
	var out []byte
	for _, r := range input {
		if r < 0x80 {
			out = append(out, byte(r))
		}
	}
	basic := len(out)
	handled := basic
	if basic > 0 {
		out = append(out, '-')
	}
	rest := slices.DeleteFunc(slices.Clone(input), func(r rune) bool { return r < 0x80 })
	slices.Sort(rest)
	n, delta, bias := rune(0x80), 0, 72
	for _, next := range slices.Compact(rest) {
		delta += int(next-n) * (handled + 1)
		n = next
		for _, r := range input {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			q := delta
			for k := base; ; k += base {
				t := min(max(k-bias, tMin), tMax)
				if q < t {
					break
				}
				out = append(out, digit(t+(q-t)%(base-t)))
				q = (q - t) / (base - t)
			}
			out = append(out, digit(q))
			// Section 6.1: the bias adapts to what was just written.
			if handled == basic {
				delta /= damp
			} else {
				delta /= 2
			}
			delta += delta / (handled + 1)
			k := 0
			for ; delta > (base-tMin)*tMax/2; k += base {
				delta /= base - tMin
			}
			bias = k + (base-tMin+1)*delta/(delta+skew)
			delta = 0
			handled++
		}
		delta++
		n++
	}
	return string(out)
}

// digit is a base-36 digit of RFC 3492 section 5.
func digit(d int) byte {
	if d < 26 {
		return byte('a' + d)
	}
	return byte('0' + d - 26)
}

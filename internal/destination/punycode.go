package destination

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// notASCII refuses a name that is not ASCII, with what to write instead where
// that can be said for certain. Mapping names here would be a second opinion
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

// plainLetter reports whether a lower-case letter stands for itself in every
// version of IDNA: it is in Normalization Form C, has no compatibility mapping
// and needs no context. The list is short on purpose.
func plainLetter(r rune) bool {
	switch {
	case r == 'ß' || r == 'ς': // IDNA 2003 and 2008 differ (RFC 5894 section 7.2)
		return false
	case 0x00e0 <= r && r <= 0x00ff && r != 0x00f7, // Latin-1
		0x0100 <= r && r <= 0x017e && r != 0x0133 && r != 0x0140 && r != 0x0149, // Latin Extended-A
		0x03ac <= r && r <= 0x03ce,                             // Greek
		0x0430 <= r && r <= 0x045f,                             // Cyrillic
		0x05d0 <= r && r <= 0x05ea,                             // Hebrew
		0x0621 <= r && r <= 0x063a, 0x0641 <= r && r <= 0x064a, // Arabic
		0x3041 <= r && r <= 0x3096, 0x30a1 <= r && r <= 0x30fa, r == 0x30fc, // kana
		0x4e00 <= r && r <= 0x9fa5, // unified ideographs
		0xac00 <= r && r <= 0xd7a3: // Hangul syllables
		return true
	}
	return false
}

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

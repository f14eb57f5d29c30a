package printable

import (
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"":                       `""`,
		"acme":                   `"acme"`,
		"a\x1b[2J\n\u202e":       `"a\x1b[2J\n\u202e"`,
		"\xff":                   `"\xff"`,
		strings.Repeat("a", 200): `"` + strings.Repeat("a", 200) + `"`,
		strings.Repeat("a", 201): `"` + strings.Repeat("a", 200) + `\u2026"`,
	} {
		if got := Quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestIsClean(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "Production EU": true, "Größe": true,
		"a\x00": false, "a\n": false, "a\u2028b": false, "a\u00a0b": false, "a\u202eb": false, "a\ufffdb": false, "a\xff": false, "a\x1b": false,
	} {
		if IsClean(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

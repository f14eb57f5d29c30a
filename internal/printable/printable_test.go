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

// TestLines: a text for a terminal keeps its lines, and has no character that controls the
// terminal or hides text.
func TestLines(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"{\"a\": 1,\n\t\"b\": \"ü\"}\n": "{\"a\": 1,\n\t\"b\": \"ü\"}\n",
		"\x1b]0;title\a\x1b[2J":         `\x1b]0;title\a\x1b[2J`,
		"a\rb\x00\u202e\u2028\u0085":    `a\rb\x00\u202e\u2028\u0085`,
		"\xff\xc3(\ufffd":               `\xff\xc3(\ufffd`,
	} {
		if got := Lines(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// FuzzLines: every line of the result can be shown, and clean text stays as it is.
func FuzzLines(f *testing.F) {
	f.Add("a\x1b[31m\u202eb\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := Lines(text)
		for line := range strings.Lines(got) {
			if rest := strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", ""); !IsClean(rest) {
				t.Fatalf("%q became %q", text, got)
			}
		}
		if IsClean(text) && got != text {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func TestCount(t *testing.T) {
	for want, got := range map[string]string{
		"1 repository": Count(1, "repository"), "0 repositories": Count(0, "repository"), "2 keys": Count(int64(2), "key"),
		"2 addresses": Count(uint64(2), "address"), "3 patches": Count(3, "patch"), "-1 boxes": Count(-1, "box"), "5 open tunnels": Count(5, "open tunnel"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

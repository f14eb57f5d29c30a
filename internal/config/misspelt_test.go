package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/misspelling"
)

// parseErrors parses a configuration and returns its errors.
func parseErrors(t *testing.T, text string) Errors {
	t.Helper()
	_, err := Parse("sallyport.yaml", []byte(text))
	list, _ := errors.AsType[Errors](err)
	return list
}

// within nests a mapping's text under the keys of a path, as a list if a key ends in [].
func within(path string, text string) (document string, line int) {
	indent := ""
	var b strings.Builder
	if path != "" {
		for key := range strings.SplitSeq(path, ".") {
			name, repeated := strings.CutSuffix(key, "[]")
			fmt.Fprintf(&b, "%s%s:\n", indent, name)
			indent += "  "
			if repeated {
				fmt.Fprintf(&b, "%s-\n", indent)
				indent += "  "
			}
		}
	}
	line = strings.Count(b.String(), "\n") + 1
	for l := range strings.Lines(text) {
		b.WriteString(indent + l)
	}
	return b.String(), line
}

// TestMisspeltKeys: no misspelling of a key is accepted silently.
func TestMisspeltKeys(t *testing.T) {
	t.Parallel()
	keys := 0
	check := func(path string, fields []field) {
		for _, f := range fields {
			keys++
			wrong := slices.DeleteFunc(misspelling.Of(f.name), func(s string) bool {
				return slices.ContainsFunc(fields, func(other field) bool { return other.name == s })
			})
			var text strings.Builder
			for _, w := range wrong {
				fmt.Fprintf(&text, "%q: 1\n", w)
			}
			document, first := within(path, text.String())
			lines := map[int]bool{}
			for _, e := range parseErrors(t, document) {
				if e.Message == "unknown key" && e.Hint != "" {
					lines[e.Line] = true
				}
			}
			for i, w := range wrong {
				if !lines[first+i] {
					t.Errorf("%s in %q is accepted instead of %s", w, path, f.name)
				}
			}
		}
	}
	check("", rootFields(new(Config)))
	walk(rootFields(new(Config)), "", func(path string, f field) {
		if len(f.keys) > 0 {
			check(path, f.keys)
		}
	})
	if keys < 100 {
		t.Errorf("only %d keys", keys)
	}
}

// TestMisspeltValues: no misspelling of a word of an enumeration is accepted silently.
func TestMisspeltValues(t *testing.T) {
	t.Parallel()
	values := 0
	walk(rootFields(new(Config)), "", func(path string, f field) {
		var words []string
		switch {
		case strings.Contains(f.kind, " \\| "):
			words = strings.Split(f.kind, " \\| ")
		case f.kind == "boolean":
			words = []string{"true", "false"}
		default:
			return
		}
		parent, name := "", path
		if at := strings.LastIndex(path, "."); at >= 0 {
			parent, name = path[:at], path[at+1:]
		}
		refused := func(value string) bool {
			document, line := within(parent, fmt.Sprintf("%s: %s\n", name, value))
			return slices.ContainsFunc(parseErrors(t, document), func(e Error) bool { return e.Line == line && strings.HasPrefix(e.Message, "want ") })
		}
		for _, word := range words {
			values++
			if refused(word) {
				t.Errorf("%s: %s itself is not accepted", path, word)
			}
			for _, wrong := range misspelling.Of(word) {
				if !slices.Contains(words, wrong) && !refused(wrong) {
					t.Errorf("%s: %s is accepted instead of %s", path, wrong, word)
				}
			}
		}
	})
	if values < 20 {
		t.Errorf("only %d values", values)
	}
}

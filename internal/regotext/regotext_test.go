package regotext

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRuleID(t *testing.T) {
	for name, want := range map[string]string{
		"Production": "production", "a b/c": "a-b-c", "1.2_3-4": "1.2_3-4", "ü\"}\n": "----", "": "",
		strings.Repeat("x", 200): strings.Repeat("x", maxID),
	} {
		if got := RuleID(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "<a>", "\"} {", "\x1b[2J\x7f\u2028", "\U0001f600", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := Quote(s)
		if strings.ContainsFunc(quoted, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: %q is not printable ASCII", s, quoted)
		}
		var back string
		if err := json.Unmarshal([]byte(quoted), &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && back != string([]rune(s)) {
			t.Errorf("%q: %q is read as %q, %v", s, quoted, back, err)
		}
	})
}

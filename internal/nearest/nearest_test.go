package nearest

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	known := []string{"allow", "deny", "report", "delegate"}
	for s, want := range map[string]string{
		"dney": "deny", "reprot": "report", "Deny": "deny", "denies": "deny", "alow": "allow", "DELEGATE": "delegate",
		"hosts": "", "x": "", "": "", strings.Repeat("deny", 100): "",
	} {
		if got := Of(s, known); got != want {
			t.Errorf("Of(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"deny", "dney", 1}, {"until", "unitl", 1}, {"abc", "xabc", 1}, {"ca", "abc", 3}, {"kitten", "sitting", 3}} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := Distance(pair[0], pair[1]); got != c.want {
				t.Errorf("Distance(%q, %q) = %d, want %d", pair[0], pair[1], got, c.want)
			}
		}
	}
}

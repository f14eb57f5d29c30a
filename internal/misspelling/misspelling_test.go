package misspelling

import (
	"strings"
	"testing"
)

// TestDistances: each misspelling is at the distance that the list promises, by a
// computation of its own.
func TestDistances(t *testing.T) {
	for _, word := range []string{"deny", "x", "allow_ip_literal", "would-deny", "host"} {
		all := Of(word)
		near := len(Near(word))
		seen := map[string]bool{word: true}
		for i, s := range all {
			want := 1
			if i >= near {
				want = 2
			}
			if !within(want, word, s) || within(want-1, word, s) || seen[s] {
				t.Errorf("%s: %q is not at distance %d, or stands there twice", word, s, want)
			}
			seen[s] = true
		}
		if len(all)-near != 200 {
			t.Errorf("%s: %d at distance 2, want 200", word, len(all)-near)
		}
		// Each insertion of a letter is there, and so on for the other edits.
		if least := len(letters) * len(word); near < least {
			t.Errorf("%s: %d at distance 1, want %d or more", word, near, least)
		}
	}
	if all := strings.Join(Near("deny"), " "); !strings.Contains(all, "dney") || !strings.Contains(all, "Deny") || !strings.Contains(all, "den ") {
		t.Errorf("deny is misspelt as %s", all)
	}
}

// within reports whether n insertions, deletions, replacements and swaps of neighbors
// make b of a, by trying.
func within(n int, a, b string) bool {
	switch {
	case a == b:
		return true
	case n == 0:
		return false
	case a == "" || b == "":
		return len(a)+len(b) <= n
	case a[0] == b[0]:
		return within(n, a[1:], b[1:])
	}
	swap := len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0]
	return within(n-1, a[1:], b) || within(n-1, a, b[1:]) || within(n-1, a[1:], b[1:]) || swap && within(n-1, a[2:], b[2:])
}

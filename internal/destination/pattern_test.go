package destination_test

import (
	"testing"

	"github.com/sallyport/sallyport/internal/destination"
)

func TestPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, host string
		want          bool
	}{
		{"api.partner.example", "api.partner.example", true},
		{"api.partner.example", "b.api.partner.example", false},
		{"api.partner.example", "api.partner.example.evil.test", false},
		{"*.partner.example", "api.partner.example", true},
		{"*.partner.example", "a.b.partner.example", true},
		{"*.partner.example", "partner.example", false},
		{"*.partner.example", "evilpartner.example", false},
		{"*.partner.example", ".partner.example", false},
		{"*.partner.example", "api.partner.example.evil.test", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.10", false},
		{"2001:db8::1", "2001:db8::1", true},
	} {
		p, err := destination.ParsePattern(test.pattern)
		if err != nil {
			t.Fatalf("%s: %v", test.pattern, err)
		}
		if got := p.Matches(test.host); got != test.want || p.String() != test.pattern {
			t.Errorf("%s stands for %s: %t", p, test.host, got)
		}
	}
	if (destination.Pattern{}).Matches("") {
		t.Error("the zero pattern stands for something")
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for _, s := range []string{"", "*", "*.", "*.*.example", "a.*.example", "*api.example", "API.example", "api.example.", "*.192.0.2.1", "api.example:443", "https://api.example", "[2001:db8::1]", "grüße.example", "0x7f.1"} {
		if p, err := destination.ParsePattern(s); err == nil {
			t.Errorf("%q was accepted as %s", s, p)
		}
	}
}

// FuzzPattern: what is accepted reads back as the same, and stands for a host only
// if label by label it does.
func FuzzPattern(f *testing.F) {
	f.Add("*.partner.example", "api.partner.example")
	f.Add("192.0.2.1", "192.0.2.1")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := destination.ParsePattern(pattern)
		if err != nil {
			return
		}
		if p.String() != pattern {
			t.Fatalf("%q became %q", pattern, p)
		}
		host, _, err := destination.ParseHost(name)
		if err != nil {
			return
		}
		want := host == pattern
		if len(pattern) > 2 && pattern[:2] == "*." {
			n := len(host) - len(pattern[1:])
			want = n > 0 && host[n:] == pattern[1:]
		}
		if p.Matches(host) != want {
			t.Fatalf("%q stands for %q: %t", pattern, host, !want)
		}
	})
}

package uuid

import (
	"strings"
	"testing"
	"time"
)

func TestNewV7SortsByTime(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	last := ""
	for i := range 1000 {
		u := NewV7(now.Add(time.Duration(i) * time.Millisecond))
		if !IsCanonical(u) || u[14] != '7' || u[19] < '8' || u[19] > 'b' {
			t.Fatalf("%q is not a UUID of version 7", u)
		}
		if u <= last || seen[u] {
			t.Fatalf("%q follows %q", u, last)
		}
		last, seen[u] = u, true
	}
	if got := NewV7(time.UnixMilli(0x0123456789ab))[:13]; got != "01234567-89ab" {
		t.Errorf("the time is %s", got)
	}
}

func TestNewV4(t *testing.T) {
	a, b := NewV4(), NewV4()
	if a == b || !IsCanonical(a) || a[14] != '4' || a[19] < '8' || a[19] > 'b' {
		t.Errorf("%s, %s", a, b)
	}
}

func TestNewV4From(t *testing.T) {
	if got := NewV4From(strings.NewReader("\x00\x11\x22\x33\x44\x55\xf6\x77\xf8\x99\xaa\xbb\xcc\xdd\xee\xff")); got != "00112233-4455-4677-b899-aabbccddeeff" {
		t.Errorf("got %s", got)
	}
}

func TestIsCanonical(t *testing.T) {
	for text, want := range map[string]bool{
		Nil:                                     true,
		"11112222-3333-4444-5555-00000000abcd":  true,
		"11112222-3333-4444-5555-00000000ABCD":  false,
		"{1112222-3333-4444-5555-00000000abcd}": false,
		"11112222333344445555000000000001":      false,
		"11112222-3333-4444-5555-00000000000":   false,
		"11112222-3333-4444-5555-00000000000g":  false,
		"111122223-333-4444-5555-000000000001":  false,
		"":                                      false,
	} {
		if IsCanonical(text) != want {
			t.Errorf("IsCanonical(%q) is %v", text, !want)
		}
	}
}

func TestParse(t *testing.T) {
	const want = "11112222-3333-4444-5555-00000000abcd"
	for _, text := range []string{want, strings.ToUpper(want), "{" + want + "}", "{" + strings.ToUpper(want) + "}"} {
		if got, ok := Parse(text); got != want || !ok {
			t.Errorf("%q: %q, %t", text, got, ok)
		}
	}
	for _, text := range []string{"", "acme", "{" + want, want + "}", "{{" + want + "}}", " " + want, strings.ReplaceAll(want, "-", ""), want[:35] + "g", want[:33] + "\u0130"} {
		if got, ok := Parse(text); got != "" || ok {
			t.Errorf("%q: %q, %t", text, got, ok)
		}
	}
}

package config

import "testing"

func TestNearest(t *testing.T) {
	root, tunnel := rootFields(new(Config)), tunnelFields(new(Tunnel))
	for _, c := range []struct {
		name   string
		fields []field
		want   string
	}{
		{"listener", root, "listeners"},
		{"Listeners", root, "listeners"},
		{"dataDirectory", root, "data_directory"},
		{"data-dir", root, "data_directory"},
		{"idel_timeout", tunnel, "idle_timeout"},
		{"maxLifetime", tunnel, "max_lifetime"},
		{"timeout", tunnel, ""},
		{"lo", root, "log"},
		{"x", root, ""},
		{"", root, ""},
		{"webhooks", root, ""},
	} {
		if got := nearest(c.name, c.fields); got != c.want {
			t.Errorf("%q: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "abd", 1},
		{"abc", "xabc", 1},
		{"kitten", "sitting", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

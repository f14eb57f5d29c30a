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
		{"lgo", root, "log"},
		{"x", root, ""},
		{"", root, ""},
		{"mailboxes", root, ""},
	} {
		if got := nearestField(c.name, c.fields); got != c.want {
			t.Errorf("%q: got %q, want %q", c.name, got, c.want)
		}
	}
}

package config

import (
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
)

// unknownKey reports a key that its mapping does not have, with a suggestion. It shows the key and never its
// value: an unknown key may be a password.
func (d *decoder) unknownKey(path string, e entry, fields []field) {
	own := join(path, printable(e.key))
	var hint string
	switch elsewhere, near := d.places()[e.key], nearestField(e.key, fields); {
	case near == e.key+"_file" || near == e.key+"_env":
		hint = "did you mean \"" + near + "\"? Secrets are given by file or environment variable, never by value"
	case near != "" && len(elsewhere) > 0 && nearest.Distance(plainKey(e.key), plainKey(near)) == 1:
		hint = "did you mean \"" + near + "\"? The key exists at " + strings.Join(elsewhere, ", ")
	case len(elsewhere) > 0:
		hint = "it belongs elsewhere: " + strings.Join(elsewhere, ", ")
	case near != "":
		hint = "did you mean \"" + near + "\"?"
	default:
		hint = "the keys here are " + names(fields)
	}
	d.failAt(e.at, own, hint, "unknown key")
}

// nearestField returns the field whose name is most like name, or "" where none is alike: a wrong suggestion is worse
// than none.
func nearestField(name string, fields []field) string {
	if len(name) > 60 {
		return ""
	}
	best, smallest := "", max(2, len(name)/3)+1
	plain := plainKey(name)
	for _, f := range fields {
		known := plainKey(f.name)
		far := nearest.Distance(plain, known)
		if len(plain) >= 4 && (strings.HasPrefix(known, plain) || strings.HasPrefix(plain, known)) {
			far = min(far, 2)
		}
		// Half of a short key is not likeness.
		if far < smallest && far*2 < max(len(plain), len(known)) {
			best, smallest = f.name, far
		}
	}
	return best
}

// plainKey makes idleTimeout, Idle-Timeout and idle_timeout the same.
func plainKey(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(name), "_", ""), "-", "")
}

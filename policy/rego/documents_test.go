package rego

import (
	"strings"
	"testing"
)

// TestByteOrderMark: a byte order mark in front of a list changes nothing.
func TestByteOrderMark(t *testing.T) {
	// Case 1.
	rule := org(withLib + `deny contains {"rule": "p"} if lib.host_in(input.target.host, data.paste_sites)`)
	const mark = "\xef\xbb\xbf"
	for name, files := range map[string]string{
		"YAML":                      rule + "-- data/paste_sites/hosts.yaml --\n" + mark + "pastebin.example: {}\n",
		"JSON":                      rule + "-- data/paste_sites/hosts.json --\n" + mark + "{\"pastebin.example\": {}}\n",
		"in front of a comment":     rule + "-- data/paste_sites/hosts.yaml --\n" + mark + "# sites\npastebin.example: {}\n",
		"in front of a document":    rule + "-- data/paste_sites/hosts.yaml --\n" + mark + "---\npastebin.example: {}\n",
		"in front of quotes":        rule + "-- data/paste_sites/hosts.yaml --\n" + mark + "\"pastebin.example\": {}\n",
		"in front of a rule":        strings.Replace(rule, "package", mark+"package", 1) + "-- data/paste_sites/hosts.yaml --\npastebin.example: {}\n",
		"with Windows' line breaks": rule + "-- data/paste_sites/hosts.yaml --\n" + mark + "pastebin.example: {}\r\n",
		"without":                   rule + "-- data/paste_sites/hosts.yaml --\npastebin.example: {}\n",
	} {
		set := mustLoad(t, files)
		if got := described(set.Decide(t.Context(), requestFor(t, "to=pastebin.example:443"))); got != "deny policy_denied rule=p" {
			t.Errorf("%s: %s", name, got)
		}
	}
	checkMeanings(t, []meaning{
		{name: "within a key", files: rule + "-- data/x.yaml --\n# x\n" + mark + "paste_sites: []\n", at: "data/x.yaml:2:1", message: "an invisible character, U+FEFF"},
	})
}

// TestYAMLThatLooksRight: text that YAML reads differently than its author is an error
// with its line and a hint.
func TestYAMLThatLooksRight(t *testing.T) {
	list := func(text string) string {
		return org(withLib+`allow contains {"rule": "x"} if lib.host_in(input.target.host, data.registries)`) + "-- data/x.yaml --\n" + text
	}
	const doc = "data/x.yaml:"
	checkMeanings(t, []meaning{
		// Case 8.
		{name: "an alias in a list", files: list("registries:\n  - *.packages.example\n"), at: doc + "2:5", message: `put it in quotes: "*.packages.example"`},
		{name: "an alias in brackets", files: list("registries: [a.example, *.packages.example]\n"), at: doc + "1:25", message: `put it in quotes: "*.packages.example"`},
		{name: "an alias as a key", files: list("registries:\n  *.packages.example: {}\n"), at: doc + "2:", message: `put it in quotes: "*.packages.example"`},
		{name: "an alias as a key in braces", files: list("registries: {*.packages.example: {}}\n"), at: doc + "1:", message: `put it in quotes: "*.packages.example"`},
		{name: "an alias alone", files: list("registries: *.packages.example\n"), at: doc + "1:13", message: `put it in quotes: "*.packages.example"`},
		{name: "an at sign", files: list("registries: [@acme]\n"), at: doc + "1:", message: `put it in quotes: "@acme"`},
		{name: "an exclamation mark", files: list("registries: [!a.example]\n"), at: doc + "1:", message: `put it in quotes: "!a.example"`},
		{name: "an ampersand", files: list("registries: &a.example\n"), at: doc + "1:", message: `put it in quotes: "&a.example"`},

		{name: "a continuation", files: list("registries:\n  - a.example\n    b.example\n  - c.example\n"), at: doc + "2:5", message: `the text goes over more than one line, and is read as one: "a.example b.example": begin each entry with -`},
		{name: "a continuation in quotes", files: list("registries:\n  - \"a.example\n    b.example\"\n"), at: doc + "2:5", message: "goes over more than one line"},
		{name: "a continuation in brackets", files: list("registries: [a.example\n  b.example]\n"), at: doc + "1:14", message: "goes over more than one line"},
		{name: "a list without hyphens", files: list("registries:\n  a.example\n  b.example\n"), at: doc + "2:3", message: "goes over more than one line"},
		{name: "a value with a continuation", files: list("registries: [a.example]\nowner: kim\n  lee\n"), at: doc + "2:8", message: "goes over more than one line"},
		{name: "a hyphen without a space", files: list("registries:\n  - a.example\n  -b.example\n"), at: doc + "3:3", message: "write a space behind the -"},
		{name: "two in one line", files: list("registries: [a.example b.example]\n"), at: doc + "1:14", message: "never matches", warning: true},
		{name: "b: 443", files: list("registries:\n  - a.example\n  - b.example: 443\n"), at: doc + "3:5", message: "an entry is an object and never matches"},
		{name: "a tab", files: list("registries:\n\t- a.example\n"), at: doc + "2:1", message: "indent with spaces"},
		{name: "a space that does not break", files: list("registries:\n\u00a0\u00a0- a.example\n"), at: doc + "2:", message: "an invisible character, U+00A0"},
		{name: "a line separator", files: list("registries:\n  - a.example\u2028  - b.example\n"), at: doc + "2:5", message: "an invisible character, U+2028"},
		{name: "typographic quotes", files: list("registries: [“a.example”]\n"), at: doc + "1:14", message: "typographic quotes"},
		{name: "an octal number", files: list("registries: [a.example]\nport: 0443\n"), at: doc + "2:7", message: `0443 is read as the number 291: write 291, or put it in quotes if it is a text: "0443"`},
		{name: "a number with underscores", files: list("registries: [a.example]\nport: 8_443\n"), at: doc + "2:7", message: "is read as the number 8443"},
		{name: "a version", files: list("registries: [a.example]\nversion: 1.10\n"), at: doc + "2:10", message: `1.10 is read as the number 1.1`},
		{name: "a comment without a space", files: list("registries: [a.example#mirror]\n"), at: doc + "1:14", message: "never matches", warning: true},
		{name: "what is written well", files: list("# hosts\nregistries: # of packages\n  - a.example # one\n  - \"*.b.example\"\n  - 'c.example'\nnote: |\n  two\n  lines\nfolded: >-\n  two\n  lines\nports: [443, 8443, -1, 1.5, 0]\n")},
	})
}

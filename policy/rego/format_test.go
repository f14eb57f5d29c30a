package rego

import (
	"errors"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	const written = "package sallyport.egress\n# why\nallow contains { \"rule\":\"x\" } if { input.target.port==443 }\n"
	const want = "package sallyport.egress\n\n# why\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n"
	got, err := Format("egress/a.rego", []byte(written))
	if err != nil || string(got) != want {
		t.Fatalf("%v\n%s", err, got)
	}
	again, err := Format("egress/a.rego", got)
	if err != nil || string(again) != want {
		t.Errorf("formatted again: %v\n%s", err, again)
	}
	for text, says := range map[string]string{
		"":                          "egress/a.rego:1:1: the file is empty",
		"package a\n\nallow if {\n": "egress/a.rego:4:1: unexpected eof token",
		"package a\n\nallow if input.x in {\n\t\"a.example\", \"b.example\",\n\t# why\n}\n":                                         "would lose a comment",
		"package a\n\nallow if {\n\tf(input.x, { # why\n\t\t\"a.example\", # this\n\t\t\"b.example\",\n\t}) # after\n\t# last\n}\n": "egress/a.rego:1:1: formatting would lose a comment, or break",
	} {
		got, err := Format("egress/a.rego", []byte(text))
		if _, ok := errors.AsType[Errors](err); !ok || !strings.Contains(err.Error(), says) || got != nil {
			t.Errorf("%q: %v\n%s", text, err, got)
		}
	}
}

// FuzzFormat: whatever a file holds, formatting ends without a panic, keeps every
// comment, and what it makes can be read again.
func FuzzFormat(f *testing.F) {
	f.Add("package a\n\nallow contains { \"rule\":\"x\" } if { input.target.port==443 }\n")
	f.Add("package a\n\nallow if input.x in {\n\t\"b\",\n\t# why\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		formatted, err := Format("egress/a.rego", []byte(text))
		if err != nil {
			return
		}
		before, err := comments("egress/a.rego", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if after, err := comments("egress/a.rego", formatted); err != nil || after != before {
			t.Errorf("%d comments, and then %d: %v\n%s\n%s", before, after, err, text, formatted)
		}
	})
}

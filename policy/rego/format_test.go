package rego

import (
	"errors"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	const written = "package sallyport.egress\n# why\nallow contains { \"rule\":\"x\" } if { input.target.port==443 }\n"
	const want = "package sallyport.egress\n\n# why\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n"
	got, err := Format(t.Context(), "egress/a.rego", []byte(written))
	if err != nil || string(got) != want {
		t.Fatalf("%v\n%s", err, got)
	}
	again, err := Format(t.Context(), "egress/a.rego", got)
	if err != nil || string(again) != want {
		t.Errorf("formatted again: %v\n%s", err, again)
	}
	for text, says := range map[string]string{
		"":                          "egress/a.rego:1:1: the file is empty",
		"package a\n\nallow if {\n": "egress/a.rego:4:1: unexpected eof token",
		"package a\n\nallow if input.x in {\n\t\"a.example\", \"b.example\",\n\t# why\n}\n":                                         "would lose a comment",
		"package a\n\nallow if {\n\tf(input.x, { # why\n\t\t\"a.example\", # this\n\t\t\"b.example\",\n\t}) # after\n\t# last\n}\n": "egress/a.rego:1:1: formatting would lose a comment, or break",
	} {
		got, err := Format(t.Context(), "egress/a.rego", []byte(text))
		if _, ok := errors.AsType[Errors](err); !ok || !strings.Contains(err.Error(), says) || got != nil {
			t.Errorf("%q: %v\n%s", text, err, got)
		}
	}
}

// TestHostileFilesAreReadInAWorker: a worker reads hostile files. Each is refused or read;
// a deep one would end this process.
func TestHostileFilesAreReadInAWorker(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for name, text := range map[string]string{
		"parentheses": "package a\n\nallow if " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n) + "\n",
		"arrays":      "package a\n\nx := " + strings.Repeat("[", n) + strings.Repeat("]", n) + "\n",
		"sums":        "package a\n\nx := 1" + strings.Repeat("+1", n) + "\n",
		"references":  "package a\n\nx := data" + strings.Repeat("[data", n) + strings.Repeat("]", n) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Format(t.Context(), "egress/a.rego", []byte(text)); err != nil {
				if _, ok := errors.AsType[Errors](err); !ok {
					t.Error(err)
				}
			}
		})
	}
	for name, text := range map[string]string{
		"flow":    strings.Repeat("[", n),
		"blocks":  nestedBlocks(2_000),
		"objects": strings.Repeat(`{"a":`, n),
		"aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
		"keys":    "? ? ? " + strings.Repeat("? ", n) + "x\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadDocument(t.Context(), "cases.yaml", []byte(text))
			errs, ok := errors.AsType[Errors](err)
			if !ok || errs[0].File != "cases.yaml" || errs[0].Line == 0 {
				t.Errorf("%v", err)
			}
		})
	}
}

// nestedBlocks is a YAML document of nested mappings.
func nestedBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// FuzzFormat: formatting any file ends without a panic and keeps every comment, and the
// result parses.
func FuzzFormat(f *testing.F) {
	f.Add("package a\n\nallow contains { \"rule\":\"x\" } if { input.target.port==443 }\n")
	f.Add("package a\n\nallow if input.x in {\n\t\"b\",\n\t# why\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		formatted, err := formatFile("egress/a.rego", []byte(text))
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

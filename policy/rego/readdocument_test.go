package rego

import (
	"encoding/json"
	"testing"
)

func TestReadDocument(t *testing.T) {
	for text, want := range map[string]string{
		"a: [x, 1]\nb: {c: true}\n": `{"a":["x",1],"b":{"c":true}}`,
		`{"a": null}`:               `{"a":null}`,
		"- x\n- y\n":                `["x","y"]`,
		"":                          "null",
	} {
		got, err := ReadDocument(t.Context(), "x.yaml", []byte(text))
		if err != nil || string(got) != want {
			t.Errorf("%q became %s, %v", text, got, err)
		}
	}
	_, err := ReadDocument(t.Context(), "x.yaml", []byte("a: 1\nb: [\n"))
	if faults, ok := err.(Errors); !ok || faults[0].File != "x.yaml" || faults[0].Line == 0 {
		t.Errorf("%v has no line", err)
	}
}

// FuzzReadDocument: whatever is read is JSON, and says the same when it is read
// again.
func FuzzReadDocument(f *testing.F) {
	f.Add([]byte("a: [x, 1]\nb: {c: true}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		first, err := readDocument(content)
		if err != nil {
			return
		}
		if !json.Valid(first) {
			t.Fatalf("%q became %q, which is not JSON", content, first)
		}
		again, err := readDocument(first)
		if err != nil || string(again) != string(first) {
			t.Errorf("%q became %q and then %q, %v", content, first, again, err)
		}
	})
}

package rego

import "testing"

// TestReadDocument: a document becomes JSON, and a fault has a file and a line.
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
